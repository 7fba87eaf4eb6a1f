"""Head selection equals a plain per-frame implementation, on hard inputs too, and refuses what it cannot score."""

import inspect
import time
from itertools import combinations

import numpy as np
import pytest
import torch

from robosteer_core.errors import UserError
from robosteer_core.heads import select
from robosteer_core.heads.capture import capture
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.heads.score import chance_error
from robosteer_core.heads.selection import pool_of


def reference_errors(features, actions, episodes, ks, frames=None):
    """Mean squared error for each k, by the rule as it is written down: one frame, one neighbour at a time."""
    features, actions = np.asarray(features, np.float64), np.asarray(actions, np.float64)
    norms = [np.sqrt((row**2).sum()) for row in features]
    errors = {k: [] for k in ks}
    for i in range(len(features)):
        pool = [j for j in range(len(features)) if (episodes[j] != episodes[i] if frames is None else abs(frames[j] - frames[i]) > 30)]
        if not pool:
            continue
        distances = {j: 1 - features[i] @ features[j] / (norms[i] * norms[j]) if norms[i] * norms[j] else 1.0 for j in pool}
        ordered = sorted(pool, key=lambda j: (round(distances[j], 14), j))
        for k in ks:
            nearest = ordered[:k]
            if distances[nearest[0]] < 1e-8:
                predicted = actions[nearest[0]]
            else:
                weights = [1 / (distances[j] + 1e-8) for j in nearest]
                predicted = sum(w * actions[j] for w, j in zip(weights, nearest)) / sum(weights)
            errors[k].append(((predicted - actions[i]) ** 2).mean())
    return {k: np.mean(of) for k, of in errors.items()}


def reference_select(activations, actions, episodes, ks, n_heads, frames=None):
    _, layers, heads, _ = activations.shape
    places = [(layer, head) for layer in range(layers) for head in range(heads)]
    scores = {p: reference_errors(activations[:, p[0], p[1]], actions, episodes, ks, frames) for p in places}
    found = []
    for k in sorted(ks):
        chosen = sorted(places, key=lambda p: (float(f"{scores[p][k]:.11e}"), p))[:n_heads]
        together = np.concatenate([activations[:, layer, head] for layer, head in chosen], axis=1)
        error = reference_errors(together, actions, episodes, [k], frames)[k]
        found.append((error, k, chosen, {p: scores[p][k] for p in places}))
    return min(found, key=lambda entry: (float(f"{entry[0]:.11e}"), entry[1]))


def demonstrations(seed, episodes=5, length=9, layers=2, heads=4, width=8, dims=3):
    """Activations of which head (1, 2) carries the action best and (0, 1) second best."""
    random = np.random.default_rng(seed)
    index = np.repeat(np.arange(episodes), length)
    actions = random.normal(size=(len(index), dims))
    activations = random.normal(size=(len(index), layers, heads, width)).astype(np.float32)
    signal = actions @ random.normal(size=(dims, width))
    activations[:, 1, 2] = signal + 0.1 * activations[:, 1, 2]
    activations[:, 0, 1] = signal + 0.6 * activations[:, 0, 1]
    return activations, actions, index


def near_duplicates(seed):
    """Every third frame has a copy 1e-4 away in another episode, with another action."""
    activations, actions, episodes = demonstrations(seed)
    random = np.random.default_rng(seed + 100)
    for i in range(0, len(episodes), 3):
        j = (i + 9) % len(episodes)
        activations[j] = activations[i] * (1 + 1e-4 * random.normal(size=activations[i].shape))
    return activations, actions, episodes


def ties(seed):
    """Whole heads and whole frames are copies of each other, and one head is silent."""
    activations, actions, episodes = demonstrations(seed)
    activations[:, 0, 3] = activations[:, 1, 2]
    activations[:, 1, 0] = activations[:, 0, 1]
    activations[18:21] = activations[0:3]
    activations[27:30] = activations[0:3]
    activations[:, 0, 0] = 0
    return activations, actions, episodes


@pytest.mark.parametrize("make", [demonstrations, near_duplicates, ties])
@pytest.mark.parametrize("seed", range(2))
def test_selection_equals_the_plain_reference(make, seed):
    activations, actions, episodes = make(seed)
    ks = (3, 7, 12, 100)
    error, k, heads, scores = reference_select(activations, actions, episodes, ks, 3)
    found = select(activations, actions, episodes, ks=ks, n_heads=3)
    assert found.heads == heads and found.k == k
    assert found.cv_mse == pytest.approx(error, abs=1e-9)
    assert all(found.score(*place) == pytest.approx(score, abs=1e-9) for place, score in scores.items())


def test_near_duplicates_are_not_taken_for_exact_matches():
    """In float32 the distance of two frames 2e-4 apart may round to less than 1e-8, and one action would stand for ten."""
    activations, actions, episodes = near_duplicates(0)
    random = np.random.default_rng(1)
    activations[9:] = activations[:9][np.arange(36) % 9] * (1 + 2e-4 * random.normal(size=activations[9:].shape))
    unit = activations[:, 0, 0] / np.linalg.norm(activations[:, 0, 0], axis=1, keepdims=True)
    assert (1 - unit[0] @ unit[9:].T < 1e-8).any(), "the input does not have the trap"
    found = select(activations, actions, episodes, ks=(10,), n_heads=2)
    error, _, heads, _ = reference_select(activations, actions, episodes, (10,), 2)
    assert found.heads == heads and found.cv_mse == pytest.approx(error, abs=1e-9)


def test_the_signature_is_the_one_that_others_call():
    text = str(inspect.signature(select)).replace("'", "")
    kinds = "activations: np.ndarray, actions: np.ndarray, episodes: np.ndarray, *, ks: Sequence[int] = (10, 20, 30, 40)"
    assert text == f"({kinds}, n_heads: int = 20, frames: np.ndarray | None = None, eligible: np.ndarray | None = None) -> HeadSelection"


def test_threads_change_nothing():
    data, threads = demonstrations(7), torch.get_num_threads()
    try:
        found = []
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(select(*data, ks=(3, 5), n_heads=2))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert found[0].heads == found[1].heads and np.array_equal(found[0].scores, found[1].scores)


def test_captured_activations_with_near_duplicates_are_ranked_as_by_the_reference(small_policy):
    """What a real capture gives: float32 features of images of which some differ by one grey level in one pixel."""
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (24, 48, 48, 3), dtype=np.uint8)
    images[8:16] = images[:8]
    images[8:16, 5, 7, 0] ^= 1
    state, action = np.zeros((24, 7), np.float32), random.normal(size=(24, 7)).astype(np.float32)
    frames = Demonstrations(np.zeros(24, int), {"front": images}, state, action, np.arange(24) // 8, np.arange(24) % 8, ("push the red cube",) * 24)
    activations = capture(small_policy, frames)  # the same row of the dataset, so the same noise, for all
    assert np.abs(activations[8:16] - activations[:8]).max() < 1e-3, "the input has no near-duplicates"
    error, k, heads, scores = reference_select(activations, action, frames.episode, (3, 7), 5)
    found = select(activations, action, frames.episode, ks=(3, 7), n_heads=5)
    assert (found.heads, found.k) == (heads, k) and found.cv_mse == pytest.approx(error, abs=1e-6)
    assert all(found.score(*place) == pytest.approx(score, abs=1e-6) for place, score in scores.items())


def test_fewer_demonstrations_than_the_smallest_k_allows_are_refused():
    activations, actions, _ = demonstrations(3)
    two = np.arange(45) // 36  # 36 frames and 9
    with pytest.raises(UserError, match="k = 10 .* have 9 others in all.*more demonstrations or ask for a smaller k"):
        select(activations, actions, two, n_heads=2)
    assert select(activations, actions, two, ks=(9, 40), n_heads=2).k in (9, 40)
    one, actions, _ = demonstrations(2, episodes=1, length=35)
    with pytest.raises(UserError, match="k = 10 .* no frame has more than 4"):
        select(one, actions, np.zeros(35, int), n_heads=2)


def test_the_head_that_carries_the_action_comes_first():
    found = select(*demonstrations(7), ks=(3, 5), n_heads=2)
    assert found.heads == [(1, 2), (0, 1)]


def test_ineligible_heads_are_scored_but_never_chosen():
    eligible = np.ones((2, 4), bool)
    eligible[1] = False
    found = select(*demonstrations(7), ks=(3,), n_heads=4, eligible=eligible)
    assert sorted(found.heads) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert np.isfinite(found.scores).all()


def test_copies_of_a_head_rank_by_layer_and_head():
    activations, actions, episodes = demonstrations(3)
    activations[:] = activations[:, 1:2, 2:3]
    found = select(activations, actions, episodes, ks=(5, 3), n_heads=8)
    assert found.heads == [(layer, head) for layer in range(2) for head in range(4)]


def test_a_k_beyond_the_pool_uses_the_pool_and_the_smaller_k_wins_the_tie():
    activations, actions, episodes = demonstrations(3)
    found = select(activations, actions, episodes, ks=(200, 36, 50), n_heads=2)
    assert found.k == 36
    assert np.array_equal(found.scores[0], found.scores[1])


def test_the_error_is_split_by_action_dimension():
    found = select(*demonstrations(5), ks=(3, 6), n_heads=2)
    assert found.dimension_mse.mean() == pytest.approx(found.cv_mse)
    assert np.allclose(found.dimension_scores.mean(-1), found.scores)


def test_a_single_episode_is_scored_over_frames_more_than_thirty_away():
    activations, actions, _ = demonstrations(2, episodes=1, length=50)
    frames, episodes = np.arange(50) * 2, np.zeros(50, int)
    error, k, heads, _ = reference_select(activations, actions, episodes, (2, 4), 3, frames)
    found = select(activations, actions, episodes, ks=(2, 4), n_heads=3, frames=frames)
    assert (found.heads, found.k) == (heads, k) and found.cv_mse == pytest.approx(error, abs=1e-9)


def test_a_single_episode_without_distant_frames_is_refused():
    activations, actions, _ = demonstrations(2, episodes=1, length=31)
    with pytest.raises(UserError, match="more than 30 away.*span 30"):
        select(activations, actions, np.zeros(31, int), n_heads=2)


@pytest.mark.parametrize("change, words", [
    (lambda x, a, e: (x[:, 0], a, e, {}), r"\(frames, layers, heads, width\); found \(45, 4, 8\)"),
    (lambda x, a, e: (x, a[:-1], e, {}), r"shape \(45, dimensions\).*found \(44, 3\)"),
    (lambda x, a, e: (x, a, e[:-2], {}), r"episodes of shape \(45,\).*found \(43,\)"),
    (lambda x, a, e: (np.where(np.arange(45)[:, None, None, None] == 7, np.nan, x), a, e, {}), "activations.*not finite in 1 of 45.*frame 7"),
    (lambda x, a, e: (x, np.where(a == a[3, 0], np.inf, a), e, {}), "actions.*not finite.*frame 3"),
    (lambda x, a, e: (x, a, e, {"n_heads": 9}), "9 heads.*8 eligible"),
    (lambda x, a, e: (x, a, e, {"ks": (0,)}), r"at least 1; found \(0,\)"),
    (lambda x, a, e: (x + 1j, a, e, {}), "real numbers as activations; found complex"),
    (lambda x, a, e: (x, a, np.where(e == 2, np.nan, e), {}), "episodes.*not finite in 9 of 45.*frame 18"),
    (lambda x, a, e: (x, a, [None] * 45, {}), "real numbers as episodes; found object"),
    (lambda x, a, e: (x, a, None, {}), r"episodes of shape \(45,\).*found \(\)"),
    (lambda x, a, e: (x, a, e, {"frames": ["first"] * 45}), "real numbers as frames; found <U5"),
    (lambda x, a, e: (x, a, e, {"frames": np.full(45, np.nan)}), "frames.*not finite in 45 of 45"),
    (lambda x, a, e: (x, a, e, {"n_heads": 4.5}), "n_heads as a whole number; found 4.5"),
    (lambda x, a, e: (x, a, e, {"ks": ("a",)}), r"ks as whole numbers.*found \('a',\)"),
    (lambda x, a, e: (x, a, e, {"ks": 5}), "ks as whole numbers.*found 5"),
    (lambda x, a, e: (x, a, e, {"eligible": np.ones((4, 2))}), r"shape \(2, 4\); found \(4, 2\)"),
])  # fmt: skip
def test_input_that_cannot_be_scored_is_refused_with_the_reason(change, words):
    activations, actions, episodes, options = change(*demonstrations(0))
    with pytest.raises(UserError, match=words):
        select(activations, actions, episodes, **{"n_heads": 2} | options)


def test_twenty_demonstrations_are_scored_in_seconds():
    activations, actions, episodes = demonstrations(0, episodes=20, length=60, layers=3, heads=8, width=16, dims=7)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # waiting threads would count as CPU time
    begin = time.process_time()
    select(activations, actions, episodes)
    spent_s = time.process_time() - begin
    torch.set_num_threads(threads)
    assert spent_s < 5


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("k", [1, 3, 99])
def test_the_error_of_a_head_that_says_nothing_is_that_of_all_draws_on_average(single, k):
    """Oracle: every set of k frames of each frame's pool, one after another; of the single episode one frame has none."""
    actions = np.random.default_rng(0).normal(size=(8, 2)) + 5
    episodes = np.zeros(8, int) if single else np.array([0, 0, 0, 1, 1, 1, 2, 2])
    frames = np.array([0, 5, 10, 30, 38, 40, 44, 60]) if single else None
    errors = []
    for i in range(8):
        pool = [j for j in range(8) if (abs(frames[j] - frames[i]) > 30 if single else episodes[j] != episodes[i])]
        errors += [np.mean([((actions[list(drawn)].mean(0) - actions[i]) ** 2).mean() for drawn in combinations(pool, min(k, len(pool)))])] if pool else []
    assert chance_error(actions, pool_of(episodes, frames), k) == pytest.approx(np.mean(errors), rel=1e-9)
