"""Intervals and tests of success rates, against scipy's and against published values."""

import pytest
from pydantic import ValidationError
from scipy.stats import binomtest

from robosteer_core.evaluation.statistics import SuccessRate, compare_paired, wilson_interval


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_interval_equals_scipys(confidence):
    for trials in (1, 2, 7, 20, 400):
        for successes in {0, 1, trials // 3, trials - 1, trials}:
            expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
            assert wilson_interval(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_equals_newcombes_published_examples():
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (successes, trials), interval in published.items():
        assert wilson_interval(successes, trials) == pytest.approx(interval, abs=5e-5)


def test_wilson_interval_reaches_the_ends_exactly_and_knows_nothing_without_trials():
    assert wilson_interval(0, 20)[0] == 0.0
    assert wilson_interval(20, 20)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0)])
def test_wilson_interval_refuses_impossible_counts(successes, trials, confidence):
    with pytest.raises(ValueError, match="must lie in"):
        wilson_interval(successes, trials, confidence)


def test_success_rate_carries_its_interval_through_json_and_back():
    rate = SuccessRate.of([True, False, True, True])
    assert (rate.successes, rate.trials, rate.rate) == (3, 4, 0.75)
    assert rate.model_dump() == {"successes": 3, "trials": 4, "wilson_95": wilson_interval(3, 4)}
    assert SuccessRate.model_validate_json(rate.model_dump_json()) == rate


def test_success_rate_refuses_more_successes_than_trials():
    with pytest.raises(ValidationError, match="5 successes in 4 trials"):
        SuccessRate(successes=5, trials=4)


@pytest.mark.parametrize("only_second", [0, 1, 5, 14])
def test_paired_comparison_is_the_two_sided_sign_test_on_pairs_that_differ(only_second):
    agreeing, only_first = [(True, True)] * 3 + [(False, False)] * 2, 2
    pairs = agreeing + [(True, False)] * only_first + [(False, True)] * only_second
    found = compare_paired(*zip(*pairs))
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(binomtest(only_first, only_first + only_second).pvalue)


def test_paired_comparison_of_equal_outcomes_proves_nothing():
    assert compare_paired([True, False], [True, False]).p_value == 1.0


def test_paired_comparison_needs_pairs():
    with pytest.raises(ValueError, match="found 1 and 2"):
        compare_paired([True], [True, False])
