"""How far a selection depends on which demonstrations were recorded: bootstrap over demonstrations.

A resample draws as many demonstrations as there are, with replacement (Efron 1979, "Bootstrap methods: another look at
the jackknife"), and every head is scored on it again by the same rule and the same k. A demonstration drawn twice counts
twice, as frames to be predicted and as neighbours; copies of one demonstration never predict each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from robosteer_core.heads.score import EXACT_DISTANCE, Neighbours, Pool, nearest
from robosteer_core.heads.selection import HeadSelection, in_threads, pool_of, ranked

RESAMPLES = 50
#: With fewer demonstrations a resample would often hold a single one.
LEAST_DEMONSTRATIONS = 3
#: A resample's k nearest frames are looked for among so many times k of all frames.
_DEPTH = 3
_BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Stability:
    """Of `resamples` resamples: `frequency` (L, H), the share in which each head is among the chosen; `jaccard` (resamples,),
    the overlap |A and B| / |A or B| of the heads chosen then with those chosen from all demonstrations; `band` (2, L, H), the
    2.5th and 97.5th percentile of each head's error (NaN for heads that may not be chosen)."""

    resamples: int
    frequency: np.ndarray
    jaccard: np.ndarray
    band: np.ndarray

    @property
    def jaccard_95(self) -> tuple[float, float]:
        low, high = np.percentile(self.jaccard, (2.5, 97.5))
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        return {"resamples": self.resamples, "jaccard_mean": float(self.jaccard.mean()), "jaccard_95": list(self.jaccard_95)}


def stability(
    activations: np.ndarray,
    actions: np.ndarray,
    episodes: np.ndarray,
    selection: HeadSelection,
    *,
    eligible: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Callable[[], object] | None = None,
) -> Stability | None:
    """Bootstrap of a `selection` that `select` made of the same arrays; None with fewer than three demonstrations.

    `progress()` is called for each eligible head.
    """
    if len(np.unique(episodes)) < LEAST_DEMONSTRATIONS:
        return None
    pool, target = pool_of(episodes, None), torch.from_numpy(np.ascontiguousarray(actions, np.float64))
    counts = torch.from_numpy(_draw(int(pool.episodes.max()) + 1, resamples, seed))
    scores = np.full((resamples, *eligible.shape), np.nan)
    places = [tuple(place) for place in np.argwhere(eligible).tolist()]

    def score(place: tuple[int, int]) -> np.ndarray:
        found = nearest(activations[:, *place], pool, min(_DEPTH * selection.k, len(target)))
        return resampled_errors(found, target, pool, selection.k, counts)

    for place, errors in zip(places, in_threads(score, places)):
        scores[:, *place] = errors
        if progress is not None:
            progress()
    chosen, frequency, jaccard = set(selection.heads), np.zeros(eligible.shape), np.empty(resamples)
    for index, of_resample in enumerate(scores):
        again = set(ranked(of_resample, eligible)[: len(chosen)])
        jaccard[index] = len(again & chosen) / len(again | chosen)
        for place in again:
            frequency[place] += 1 / resamples
    band = np.full((2, *eligible.shape), np.nan)
    band[:, eligible] = np.percentile(scores[:, eligible], (2.5, 97.5), axis=0)
    return Stability(resamples, frequency, jaccard, band)


def _draw(episodes: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, episodes) how often each is drawn; a resample of one episode alone is drawn again."""
    random, drawn = np.random.default_rng(seed), []
    while len(drawn) < resamples:
        counts = np.bincount(random.integers(episodes, size=episodes), minlength=episodes)
        if (counts > 0).sum() > 1:
            drawn.append(counts)
    return np.array(drawn, np.float64)


def resampled_errors(found: Neighbours, actions: torch.Tensor, pool: Pool, k: int, counts: torch.Tensor) -> np.ndarray:
    """Mean squared error (R,) of the actions (N, A) in R resamples that hold each episode `counts` (R, episodes) times."""
    total, seen = torch.zeros(len(counts), dtype=torch.float64), torch.zeros(len(counts), dtype=torch.float64)
    block = max(1, _BLOCK_BYTES // (8 * len(counts) * found.index.shape[1]))
    for start in range(0, len(actions), block):
        rows = slice(start, start + block)
        index, distance = found.index[rows], found.distance[rows]
        copies = counts[:, pool.episodes[index]].transpose(0, 1) * torch.isfinite(distance)[:, None]  # (rows, R, neighbours)
        upto = copies.cumsum(2)
        taken = torch.minimum((k - (upto - copies)).clamp_min(0), copies)
        weights = taken / (distance + EXACT_DISTANCE).nan_to_num(posinf=1.0)[:, None]
        predicted = torch.bmm(weights, actions[index]) / weights.sum(2, keepdim=True)
        first = (upto == 0).sum(2).clamp_max(index.shape[1] - 1)  # the nearest frame that was drawn
        exact = distance.gather(1, first) < EXACT_DISTANCE
        predicted[exact] = actions[index.gather(1, first)[exact]]
        error = ((predicted - actions[rows, None]) ** 2).mean(2)
        often = counts[:, pool.episodes[rows]].T * (upto[:, :, -1] > 0)
        total += torch.where(often > 0, often * error, 0.0).sum(0)
        seen += often.sum(0)
    return (total / seen).numpy()
