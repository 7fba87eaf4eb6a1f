"""Policies beside each other: paired, unpaired, corrected."""

import pytest
from scipy.stats import barnard_exact

from robosteer_core.evaluation.comparison import compare_policies
from robosteer_core.evaluation.statistics import SuccessRate, compare_unpaired, holm
from robosteer_core.evaluation.trials import Trial, TrialRecord


def records(policy, outcomes, task="press", variation="none", first=0):
    return [
        TrialRecord(
            trial=Trial(policy=policy, task=task, variation=variation, seed=seed), success=success, robot_s=1, wall_s=1, ticks=1, late_ticks=0
        )
        for seed, success in enumerate(outcomes, start=first)
    ]  # fmt: skip


def test_pairs_are_the_same_scene_and_every_trial_counts_in_the_rates():
    everything = records("a", [True] * 6 + [False]) + records("b", [False] * 6 + [True, True])
    (found,) = compare_policies(everything, ["a", "b"], ["press"])
    assert found.rates == (SuccessRate(successes=6, trials=7), SuccessRate(successes=2, trials=8))
    assert (found.paired.only_first, found.paired.only_second) == (6, 1)
    assert found.paired.p_value == pytest.approx(2 * (1 + 7) / 2**7)
    assert found.unpaired == pytest.approx(barnard_exact([[6, 2], [1, 6]]).pvalue)


def test_the_same_seed_under_another_variation_is_no_pair():
    everything = records("a", [True], variation="lighting") + records("b", [False], variation="texture")
    assert compare_policies(everything, ["a", "b"], ["press"]) == []


def test_each_task_stands_beside_the_whole_and_is_corrected_for_the_others():
    everything = [
        record for task, won in (("press", 6), ("touch", 8))
        for record in records("a", [True] * won, task) + records("b", [False] * won, task)
    ]  # fmt: skip
    whole, press, touch = compare_policies(everything, ["a", "b"], ["press", "touch"])
    assert [c.where for c in (whole, press, touch)] == ["all", "press", "touch"] and whole.paired_holm is None
    assert touch.paired_holm == pytest.approx(2 * touch.paired.p_value)
    assert press.paired_holm == pytest.approx(max(press.paired.p_value, touch.paired_holm))


def test_holm_by_hand():
    """0.01 x 3, then max(0.03, 0.02 x 2), then max(0.04, 0.03 x 1); never above 1."""
    assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_barnards_test_on_his_own_table():
    """Barnard 1945 and scipy's reference: 7 of 15 against 12 of 15, two-sided 0.0341 x 2 by the pooled statistic."""
    p = compare_unpaired(SuccessRate(successes=7, trials=15), SuccessRate(successes=12, trials=15))
    assert p == pytest.approx(0.06815, abs=1e-4)


@pytest.mark.parametrize("successes", [0, 5])
def test_two_policies_that_always_do_the_same_do_not_differ(successes):
    rate = SuccessRate(successes=successes, trials=5)
    assert compare_unpaired(rate, rate) == 1.0
