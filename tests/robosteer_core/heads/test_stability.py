"""Bootstrap over demonstrations: equal to a selection made anew from the resampled frames."""

import numpy as np
import pytest
import torch

from robosteer_core.heads.score import nearest
from robosteer_core.heads.selection import pool_of, select
from robosteer_core.heads.stability import _draw, resampled_errors, stability


def demonstrations(seed, episodes=6, length=12, noise=0.1):
    """Activations (72, 2, 4, 8) of which head (1, 2) carries the action best and (0, 1) second best."""
    random = np.random.default_rng(seed)
    index = np.repeat(np.arange(episodes), length)
    actions = random.normal(size=(len(index), 3))
    activations = random.normal(size=(len(index), 2, 4, 8)).astype(np.float32)
    signal = actions @ random.normal(size=(3, 8))
    activations[:, 1, 2] = signal + noise * activations[:, 1, 2]
    activations[:, 0, 1] = signal + 5 * noise * activations[:, 0, 1]
    return activations, actions, index


@pytest.mark.parametrize("copies", [False, True])
def test_a_resample_is_scored_as_its_frames_written_out_would_be(copies):
    """Oracle: `select` on frames repeated as often as their episode was drawn, an episode's copies being one episode."""
    activations, actions, episodes = demonstrations(0)
    if copies:  # exact matches across episodes
        activations[30:36] = activations[0:6]
    pool, counts = pool_of(episodes, None), np.array([[2, 0, 1, 1, 2, 0], [1, 1, 1, 1, 1, 1], [0, 3, 0, 0, 0, 3]], float)
    rows = [np.concatenate([np.repeat(np.flatnonzero(episodes == e), int(n)) for e, n in enumerate(of)]) for of in counts]
    for place in ((1, 2), (0, 0)):
        found = resampled_errors(nearest(activations[:, *place], pool, 72), torch.from_numpy(actions), pool, 7, torch.from_numpy(counts))
        wanted = [select(activations[r][:, *(slice(p, p + 1) for p in place)], actions[r], episodes[r], ks=(7,), n_heads=1).cv_mse for r in rows]
        assert np.allclose(found, wanted, rtol=1e-9)


def test_heads_that_carry_the_action_are_chosen_in_every_resample():
    data, eligible = demonstrations(1), np.ones((2, 4), bool)
    found = stability(*data, select(*data, ks=(5,), n_heads=2), eligible=eligible)
    assert found.frequency[1, 2] == pytest.approx(1) and found.frequency[0, 1] == pytest.approx(1)
    assert found.frequency.sum() == pytest.approx(2) and (found.jaccard == 1).all() and found.jaccard_95 == (1, 1)
    assert (found.band[0] < found.band[1]).all() and (found.band[0, 1, 2] < select(*data, ks=(5,), n_heads=2).score(1, 2) < found.band[1, 1, 2])


def test_heads_that_carry_nothing_are_chosen_by_chance():
    data = demonstrations(2, noise=1e3)
    found = stability(*data, select(*data, ks=(5,), n_heads=2), eligible=np.ones((2, 4), bool))
    assert found.jaccard.mean() < 0.8 and found.frequency.max() < 0.95


def test_heads_that_may_not_be_chosen_have_no_band_and_two_demonstrations_no_bootstrap():
    activations, actions, episodes = demonstrations(1)
    eligible = np.ones((2, 4), bool)
    eligible[0] = False
    found = stability(activations, actions, episodes, select(activations, actions, episodes, ks=(5,), n_heads=2, eligible=eligible), eligible=eligible)
    assert np.isnan(found.band[:, 0]).all() and not found.frequency[0].any()
    few = episodes < 2
    selection = select(activations[few], actions[few], episodes[few], ks=(5,), n_heads=2)
    assert stability(activations[few], actions[few], episodes[few], selection, eligible=np.ones((2, 4), bool)) is None


def test_a_resample_has_as_many_episodes_as_there_are_and_more_than_one_kind():
    drawn = _draw(3, 200, 0)
    assert (drawn.sum(1) == 3).all() and ((drawn > 0).sum(1) > 1).all() and (drawn != _draw(3, 200, 1)).any()
