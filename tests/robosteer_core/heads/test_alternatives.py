"""The methods that the paper compares: each does what its name says and is scored by the same rule."""

from functools import partial

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.heads.alternatives import METHODS, search_length, select_by
from robosteer_core.heads.reinforce import ITERATIONS, mask_preferences
from robosteer_core.heads.score import squared_errors
from robosteer_core.heads.selection import mean_error, pool_of, select

KS = (3, 6)


@pytest.fixture(scope="module")
def data():
    """Two heads carry half of the action each, (0, 3) and (1, 0); (1, 1) repeats the first of them a little better."""
    random = np.random.default_rng(0)
    episodes = np.repeat(np.arange(6), 15)
    actions = random.normal(size=(90, 2)) * (2, 1)
    activations = random.normal(size=(90, 2, 4, 6)).astype(np.float32)
    for place, part, noise in (((0, 3), 0, 0.15), ((1, 1), 0, 0.1), ((1, 0), 1, 0.4)):
        activations[:, *place] = actions[:, [part]] * np.linspace(-1, 1, 6) + 1 + noise * activations[:, *place]
    return activations, actions, episodes


def rescored(data, heads, k):
    activations, actions, episodes = data
    together = np.concatenate([activations[:, *head] for head in heads], axis=1)
    return mean_error(squared_errors(together, actions, pool_of(episodes, None), [k])).mean()


@pytest.mark.parametrize("method", METHODS)
def test_the_error_is_that_of_the_chosen_heads_together(data, method, monkeypatch):
    monkeypatch.setattr("robosteer_core.heads.alternatives.mask_preferences", partial(mask_preferences, iterations=3))
    tried = []
    found = select_by(method, *data, ks=KS, n_heads=4, merit=np.arange(8.0).reshape(2, 4), seed=1, searched=lambda: tried.append(1))
    length = search_length(method, len(KS), 4, np.ones((2, 4), bool))
    assert len(tried) == (length * 3 // ITERATIONS if method == "reinforce" else length)
    assert found.method == method and len(set(found.heads)) == 4 and found.k in KS
    assert found.cv_mse == pytest.approx(rescored(data, found.heads, found.k), rel=1e-9)
    assert np.array_equal(found.scores, select(*data, ks=KS, n_heads=4).scores)


def test_greedy_equals_trying_every_head_at_every_step(data):
    for k in KS:
        chosen = []
        for _ in range(3):
            left = [(layer, head) for layer in range(2) for head in range(4) if (layer, head) not in chosen]
            chosen.append(min(left, key=lambda place: (rescored(data, [*chosen, place], k), place)))
        assert select_by("greedy", *data, ks=(k,), n_heads=3).heads == chosen


def test_greedy_takes_the_head_that_adds_something_where_single_scores_take_a_copy(data):
    alone, together = select(*data, ks=(6,), n_heads=2), select_by("greedy", *data, ks=(6,), n_heads=2)
    assert set(alone.heads) == {(0, 3), (1, 1)} and (1, 0) in together.heads
    assert together.cv_mse < alone.cv_mse


def test_whole_layers_are_scored_as_one_feature(data):
    activations, actions, episodes = data
    found = select_by("layers", *data, ks=KS, n_heads=5)
    assert found.heads == [(1, head) for head in range(4)]
    both = [mean_error(squared_errors(activations[:, layer].reshape(90, -1), actions, pool_of(episodes, None), KS)).mean(1).min() for layer in (0, 1)]
    assert found.cv_mse == pytest.approx(both[1]) and both[1] < both[0]


def test_a_layer_with_a_head_that_may_not_be_chosen_is_left_out(data):
    eligible = np.ones((2, 4), bool)
    eligible[1, 2] = False
    assert {layer for layer, _ in select_by("layers", *data, ks=KS, n_heads=4, eligible=eligible).heads} == {0}
    with pytest.raises(UserError, match="no layer has all its heads"):
        select_by("layers", *data, ks=KS, n_heads=3, eligible=eligible & np.array([[0], [1]], bool))


def test_variance_takes_what_varies_most_random_follows_its_seed_and_causal_the_merit(data):
    activations, actions, episodes = data
    loud = activations.copy()
    loud[:, 0, 2] *= 9
    assert select_by("variance", loud, actions, episodes, ks=KS, n_heads=3).heads[0] == (0, 2)
    draws = [select_by("random", *data, ks=KS, n_heads=3, seed=seed).heads for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    merit = np.zeros((2, 4))
    merit[1, 3] = 2
    merit[0, 1] = 1
    assert select_by("causal", *data, ks=KS, n_heads=2, merit=merit).heads == [(1, 3), (0, 1)]


def test_reinforce_comes_to_prefer_heads_that_carry_the_action(data):
    activations, actions, episodes = data
    eligible = np.ones((2, 4), bool)
    eligible[0, 0] = False
    found = mask_preferences(activations, actions, pool_of(episodes, None), (6,), 3, eligible, seed=0, iterations=40)
    assert np.isneginf(found[0, 0])
    carrying = [found[place] for place in ((0, 3), (1, 1), (1, 0))]
    assert np.mean(carrying) > np.mean([found[0, 1], found[0, 2], found[1, 2], found[1, 3]]) + 1


def test_an_unknown_method_is_refused_naming_the_known_ones(data):
    with pytest.raises(UserError, match="knn, greedy, layers.*'best'"):
        select_by("best", *data)
    with pytest.raises(UserError, match="causal needs"):
        select_by("causal", *data, ks=KS, n_heads=2)
