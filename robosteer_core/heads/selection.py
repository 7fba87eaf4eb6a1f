"""Select the heads whose outputs predict the demonstrator's action best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

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
    `cv_mse` and `dimension_scores` (K, L, H, A) splits `scores` by action dimension (their means are those).
    """

    heads: list[tuple[int, int]]
    k: int
    cv_mse: float
    ks: tuple[int, ...]
    scores: np.ndarray
    dimension_mse: np.ndarray
    dimension_scores: np.ndarray

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
    progress=None,
) -> HeadSelection:
    """Rank heads by leave-one-episode-out k-nearest-neighbour regression (see `score`) and choose the best set.

    For each k the `n_heads` heads of the lowest error are concatenated and scored again by the same rule; the k with
    the lowest error wins. The error is the mean over frames of the mean over action dimensions. Ties go to the lower
    (layer, head) and to the smaller k.

    `activations` (N, L, H, d), one part's heads; `actions` (N, A), compared as given; `episodes` (N,) the episode of each
    frame; `frames` (N,) the index within the episode, used by the single-episode rule only (by default 0, 1, ...);
    `eligible` (L, H) bool, which heads may be chosen (default all). `progress(layer, head)` is called per head scored.

    A k larger than the pool of other episodes' frames uses the whole pool. With a single episode the pool is its frames
    more than 30 away; frames that have none are left out of the error. Raises UserError for shapes that do not fit,
    values that are not finite, and too few frames or heads.
    """
    activations, actions, episodes = np.asarray(activations), np.asarray(actions), np.asarray(episodes)
    eligible = _checked(activations, actions, episodes, ks, n_heads, frames, eligible)
    pool = _pool(episodes, frames)
    ks, (_, layers, heads, _) = tuple(ks), activations.shape
    split = np.empty((len(ks), layers, heads, actions.shape[1]))
    for layer in range(layers):
        for head in range(heads):
            split[:, layer, head] = _mean(squared_errors(activations[:, layer, head], actions, pool, ks))
            if progress is not None:
                progress(layer, head)
    scores = split.mean(-1)

    best: tuple[float, int, list[tuple[int, int]], np.ndarray] | None = None
    for index in sorted(range(len(ks)), key=lambda i: ks[i]):
        ranked = _ranked(scores[index], eligible)[:n_heads]
        layer_index, head_index = map(list, zip(*ranked))
        together = activations[:, layer_index, head_index].reshape(len(activations), -1)
        per_dimension = _mean(squared_errors(together, actions, pool, [ks[index]]))[0]
        error = float(per_dimension.mean())
        if best is None or _rounded(error) < _rounded(best[0]):
            best = error, index, ranked, per_dimension
    error, index, ranked, per_dimension = best
    return HeadSelection(ranked, ks[index], error, ks, scores, per_dimension, split)


def _ranked(scores: np.ndarray, eligible: np.ndarray) -> list[tuple[int, int]]:
    """Eligible (layer, head) by score (L, H), lowest first, ties to the lower (layer, head)."""
    order = np.argsort([_rounded(score) for score in scores.ravel()], kind="stable")
    places = [(int(i) // scores.shape[1], int(i) % scores.shape[1]) for i in order]
    return [place for place in places if eligible[place]]


def _rounded(score: float) -> float:
    return float(f"{score:.{_DIGITS - 1}e}")


def _mean(errors: np.ndarray) -> np.ndarray:
    """(K, N, A) -> (K, A), over the frames that have a pool."""
    return errors[:, ~np.isnan(errors[0, :, 0])].mean(1)


def _pool(episodes: np.ndarray, frames: np.ndarray | None) -> Pool:
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


def _checked(activations, actions, episodes, ks, n_heads, frames, eligible) -> np.ndarray:
    if activations.ndim != 4 or 0 in activations.shape:
        raise UserError(f"expected activations of shape (frames, layers, heads, width); found {activations.shape}")
    count, layers, heads, _ = activations.shape
    if actions.ndim != 2 or len(actions) != count or actions.shape[1] == 0:
        raise UserError(f"expected actions of shape ({count}, dimensions) for activations {activations.shape}; found {actions.shape}")
    for name, values in (("episodes", episodes), ("frames", frames)):
        if values is not None and np.shape(values) != (count,):
            raise UserError(f"expected {name} of shape ({count},), one entry a frame; found {np.shape(values)}")
    for name, values in (("activations", activations), ("actions", actions)):
        if not np.issubdtype(values.dtype, np.number):
            raise UserError(f"expected numbers as {name}; found {values.dtype}")
        wrong = np.flatnonzero(~np.isfinite(values).reshape(count, -1).all(1))
        if len(wrong):
            raise UserError(f"{name} hold values that are not finite in {len(wrong)} of {count} frames, the first is frame {wrong[0]}")
    if not len(ks) or any(int(k) != k or k < 1 for k in ks):
        raise UserError(f"expected ks as whole numbers of neighbours, at least 1; found {tuple(ks)}")
    eligible = np.ones((layers, heads), bool) if eligible is None else np.asarray(eligible, bool)
    if eligible.shape != (layers, heads):
        raise UserError(f"expected eligible of shape ({layers}, {heads}); found {eligible.shape}")
    if not 1 <= n_heads <= eligible.sum():
        raise UserError(f"{n_heads} heads were asked for; the model has {eligible.sum()} eligible ones")
    return eligible
