"""Select the heads whose outputs predict the demonstrator's action best, each by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch

from robosteer_core.errors import UserError
from robosteer_core.heads.score import SINGLE_EPISODE_GAP, Pool, squared_errors

#: Scores that agree to this many digits are equal: their order would be that of rounding errors.
_DIGITS = 12


@dataclass(frozen=True)
class HeadSelection:
    """`heads` as (layer, head), best first, with `k` neighbours; `cv_mse` the error of their concatenation.

    `scores` (K, L, H) is each head's own error for each of `ks`, ineligible heads too. `dimension_mse` (A,) splits
    `cv_mse` and `dimension_scores` (K, L, H, A) splits `scores` by action dimension (their means are those). `method` is
    how the heads were chosen (see `alternatives`), `merit` (L, H) what another method ranked them by, highest first.
    """

    heads: list[tuple[int, int]]
    k: int
    cv_mse: float
    ks: tuple[int, ...]
    scores: np.ndarray
    dimension_mse: np.ndarray
    dimension_scores: np.ndarray
    method: str = "knn"
    merit: np.ndarray | None = None

    def score(self, layer: int, head: int) -> float:
        """A head's own error with the selection's k."""
        return float(self.scores[self.ks.index(self.k), layer, head])


def select(
    activations: np.ndarray,
    actions: np.ndarray,
    episodes: np.ndarray,
    *,
    ks: Sequence[int] = (10, 20, 30, 40),
    n_heads: int = 20,
    frames: np.ndarray | None = None,
    eligible: np.ndarray | None = None,
) -> HeadSelection:
    """Rank heads by leave-one-episode-out k-nearest-neighbour regression (see `score`) and choose the best set.

    For each k the `n_heads` heads of the lowest error are concatenated and scored again by the same rule; the k with
    the lowest error wins. The error is the mean over frames of the mean over action dimensions. Ties go to the lower
    (layer, head) and to the smaller k.

    `activations` (N, L, H, d), one part's heads; `actions` (N, A), compared as given; `episodes` (N,) the episode of each
    frame; `frames` (N,) the index within the episode, used by the single-episode rule only (by default 0, 1, ...);
    `eligible` (L, H) bool, which heads may be chosen (default all).

    A k larger than the pool of other episodes' frames uses the whole pool; the smallest k must fit. With a single episode the pool is its frames
    more than 30 away; frames that have none are left out of the error. Raises UserError for shapes that do not fit,
    values that are not finite, and too few frames or heads.
    """
    return select_showing(None, activations, actions, episodes, ks=ks, n_heads=n_heads, frames=frames, eligible=eligible)


def select_showing(
    progress: Callable[[int, int], object] | None,
    activations: np.ndarray,
    actions: np.ndarray,
    episodes: np.ndarray,
    *,
    ks: Sequence[int],
    n_heads: int,
    frames: np.ndarray | None,
    eligible: np.ndarray | None,
) -> HeadSelection:
    """`select`, with `progress(layer, head)` called for each head scored."""
    activations, actions, episodes = np.asarray(activations), np.asarray(actions), np.asarray(episodes)
    eligible = _checked(activations, actions, episodes, ks, n_heads, frames, eligible)
    pool = pool_of(episodes, frames)
    ks, (_, layers, heads, _) = tuple(ks), activations.shape
    require_neighbours(pool, ks)
    places = [(layer, head) for layer in range(layers) for head in range(heads)]
    split = np.empty((len(ks), layers, heads, actions.shape[1]))

    def score(place: tuple[int, int]) -> np.ndarray:
        return mean_error(squared_errors(activations[:, *place], actions, pool, ks))

    for place, error in zip(places, in_threads(score, places)):
        split[:, *place] = error
        if progress is not None:
            progress(*place)
    scores = split.mean(-1)
    sets = [ranked(of_k, eligible)[:n_heads] for of_k in scores]
    heads, k, per_dimension = best_set(activations, actions, pool, ks, sets)
    return HeadSelection(heads, k, float(per_dimension.mean()), ks, scores, per_dimension, split)


def best_set(
    activations: np.ndarray, actions: np.ndarray, pool: Pool, ks: Sequence[int], sets: Sequence[list[tuple[int, int]]]
) -> tuple[list[tuple[int, int]], int, np.ndarray]:
    """Of one set of heads for each k the one whose concatenation has the lowest error, ties to the smaller k.

    Returns the heads, their k and the error of each action dimension (A,).
    """

    def rescore(index: int) -> np.ndarray:
        layer, head = map(list, zip(*sets[index]))
        together = activations[:, layer, head].reshape(len(activations), -1)
        return mean_error(squared_errors(together, actions, pool, [ks[index]]))[0]

    order = sorted(range(len(ks)), key=lambda index: ks[index])
    errors = dict(zip(order, in_threads(rescore, order)))
    best = min(order, key=lambda index: (rounded(float(errors[index].mean())), ks[index]))
    return sets[best], ks[best], errors[best]


def in_threads(function: Callable, items: Sequence) -> Iterator:
    """`function` of each item in order, in as many threads as PyTorch was given, each with one.

    PyTorch's own threads gain little on matrices this small, and wait for each other on a busy machine.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(function, items)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(function, items)
    finally:
        torch.set_num_threads(threads)


def ranked(scores: np.ndarray, eligible: np.ndarray) -> list[tuple[int, int]]:
    """Eligible (layer, head) by score (L, H), lowest first, ties to the lower (layer, head)."""
    order = np.argsort([rounded(score) for score in scores.ravel()], kind="stable")
    places = [(int(i) // scores.shape[1], int(i) % scores.shape[1]) for i in order]
    return [place for place in places if eligible[place]]


def rounded(score: float) -> float:
    return float(f"{score:.{_DIGITS - 1}e}")


def mean_error(errors: np.ndarray) -> np.ndarray:
    """(K, N, A) -> (K, A), over the frames that have a pool."""
    return errors[:, ~np.isnan(errors[0, :, 0])].mean(1)


def pool_of(episodes: np.ndarray, frames: np.ndarray | None) -> Pool:
    _, codes = np.unique(episodes, return_inverse=True)
    if codes.max() > 0:
        return Pool(torch.from_numpy(codes.reshape(-1)))
    frames = np.arange(len(codes)) if frames is None else np.asarray(frames)
    reach = max(frames.max() - frames.min(), 0)
    if reach <= SINGLE_EPISODE_GAP:
        raise UserError(
            f"a single episode is scored by its frames more than {SINGLE_EPISODE_GAP} away; found frames that span {reach}; "
            "record a second episode"
        )
    return Pool(torch.from_numpy(codes.reshape(-1)), torch.from_numpy(frames.astype(np.int64)))


def require_neighbours(pool: Pool, ks: Sequence[int]) -> None:
    """Raises UserError where there are too few frames for the smallest k; a larger one then uses the whole pool.

    Of several episodes each frame must have that many; in a single one, where frames lie near each other, at least one.
    """
    sizes, least = pool.sizes(), min(ks)
    if pool.frames is None and sizes.min() < least:
        raise UserError(
            f"k = {least} neighbours come from other demonstrations than the frame's own; those of episode number "
            f"{int(pool.episodes[sizes.argmin()])} have {sizes.min()} others in all; record more demonstrations or ask for a smaller k"
        )
    if sizes.max() < least:
        raise UserError(
            f"k = {least} neighbours of a single episode are frames more than {SINGLE_EPISODE_GAP} away; no frame has more "
            f"than {sizes.max()}; record a second demonstration or ask for a smaller k"
        )


def _checked(activations, actions, episodes, ks, n_heads, frames, eligible) -> np.ndarray:
    if activations.ndim != 4 or 0 in activations.shape:
        raise UserError(f"expected activations of shape (frames, layers, heads, width); found {activations.shape}")
    count, layers, heads, _ = activations.shape
    if actions.ndim != 2 or len(actions) != count or actions.shape[1] == 0:
        raise UserError(f"expected actions of shape ({count}, dimensions) for activations {activations.shape}; found {actions.shape}")
    for name, values in (("episodes", episodes), ("frames", frames)):
        if values is not None and np.shape(values) != (count,):
            raise UserError(f"expected {name} of shape ({count},), one entry a frame; found {np.shape(values)}")
    for name, values in (("activations", activations), ("actions", actions), ("episodes", episodes), ("frames", frames)):
        if values is None or name == "episodes" and np.asarray(values).dtype.kind == "U":  # names of episodes are as good as numbers
            continue
        values = np.asarray(values)
        if values.dtype.kind not in "iuf":
            raise UserError(f"expected real numbers as {name}; found {values.dtype}")
        wrong = np.flatnonzero(~np.isfinite(values).reshape(count, -1).all(1))
        if len(wrong):
            raise UserError(f"{name} hold values that are not finite in {len(wrong)} of {count} frames, the first is frame {wrong[0]}")
    if np.ndim(ks) != 1 or not len(ks) or not all(isinstance(k, Integral) and k >= 1 for k in ks):
        raise UserError(f"expected ks as whole numbers of neighbours, at least 1; found {ks}")
    if not isinstance(n_heads, Integral):
        raise UserError(f"expected n_heads as a whole number; found {n_heads!r}")
    eligible = np.ones((layers, heads), bool) if eligible is None else np.asarray(eligible, bool)
    if eligible.shape != (layers, heads):
        raise UserError(f"expected eligible of shape ({layers}, {heads}); found {eligible.shape}")
    require_heads(n_heads, eligible)
    return eligible


def require_heads(count: int, eligible: np.ndarray) -> None:
    """Raises UserError where fewer heads than `count` are eligible (L, H)."""
    if not 1 <= count <= eligible.sum():
        raise UserError(f"{count} heads were asked for; the model has {eligible.sum()} eligible ones")
