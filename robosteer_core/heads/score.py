"""How well a feature predicts the demonstrator's action: k-nearest-neighbour regression over other episodes.

Source: Robotic Steering (arXiv 2511.22697) and the authors' release; `knn` in openpi_robotv's head tuning. For frame i
with feature h_i and action a_i

    d_ij = 1 - cos(h_i, h_j),  w_ij = 1 / (d_ij + 1e-8),  a^_i = sum_j w_ij a_j / sum_j w_ij

over the k nearest frames j of all other episodes; where some d_ij < 1e-8, a^_i is that nearest frame's action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np
import torch

EXACT_DISTANCE = 1e-8
SINGLE_EPISODE_GAP = 30
#: Distances closer than this are equal: their order would be that of rounding errors.
TIE_DISTANCE = 1e-14
#: Neighbours looked up beyond k, so that ties at the border show.
_MARGIN = 8
_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Pool:
    """From which frames each frame's action may be predicted.

    Those of all other episodes (`episodes` (N,) int); where `frames` (N,) is given, a single episode's frames more
    than 30 away.
    """

    episodes: torch.Tensor
    frames: torch.Tensor | None = None

    def sizes(self) -> np.ndarray:
        """(N,) how many frames each may be predicted from."""
        return np.concatenate([(~self.excludes(slice(i, i + 1024))).sum(1).numpy() for i in range(0, len(self.episodes), 1024)])

    def excludes(self, rows: slice) -> torch.Tensor:
        """(rows, N) bool: frames that may not be used for these rows."""
        if self.frames is None:
            return self.episodes[rows, None] == self.episodes[None]
        return (self.frames[rows, None] - self.frames[None]).abs() <= SINGLE_EPISODE_GAP


@dataclass(frozen=True)
class Neighbours:
    """Each frame's nearest frames of its pool, nearest first: `index` and `distance`, both (N, M); where a pool is
    smaller than M the distance is inf."""

    index: torch.Tensor
    distance: torch.Tensor

    def squared_errors(self, actions: torch.Tensor, ks: Sequence[int]) -> np.ndarray:
        """Squared errors (K, N, A) of the `actions` (N, A) predicted from the k nearest; NaN for an empty pool.

        A pool smaller than k is used whole.
        """
        columns = [min(k, self.index.shape[1]) - 1 for k in ks]
        # A distance of inf has weight 0, so the sums stay as they were where the pool ends.
        weights = 1.0 / (self.distance + EXACT_DISTANCE)
        neighbours = actions[self.index]
        totals = (weights[:, :, None] * neighbours).cumsum(1)[:, columns]
        predicted = totals / weights.cumsum(1)[:, columns, None]
        exact = self.distance[:, 0] < EXACT_DISTANCE
        predicted[exact] = neighbours[exact, :1]
        return ((predicted - actions[:, None]) ** 2).transpose(0, 1).numpy()


def squared_errors(features: np.ndarray, actions: np.ndarray, pool: Pool, ks: Sequence[int]) -> np.ndarray:
    """Squared errors (K, N, A) of the actions (N, A) predicted from `features` (N, D), for each number of neighbours."""
    return nearest(features, pool, max(ks)).squared_errors(torch.from_numpy(np.ascontiguousarray(actions, np.float64)), ks)


def nearest(features: np.ndarray, pool: Pool, most: int) -> Neighbours:
    """The `most` frames (or all, where there are fewer) nearest to each frame by `features` (N, D), all in float64.

    A feature of norm zero is at distance 1 from everything. Equal distances go to the earlier frame.
    """
    unit = torch.from_numpy(np.ascontiguousarray(features, np.float64))
    unit = unit / unit.norm(dim=1, keepdim=True).clamp_min(np.finfo(np.float64).tiny)
    return nearest_of(len(unit), lambda rows, out: torch.matmul(unit[rows], unit.T, out=out), pool, most)


def nearest_of(count: int, cosines: Callable[[slice, torch.Tensor], object], pool: Pool, most: int) -> Neighbours:
    """As `nearest`, from the cosines of `count` frames: `cosines(rows, out)` writes those of some rows with all, (R, N)."""
    most = min(most, count)
    index = torch.empty(count, most, dtype=torch.int64)
    distance = torch.empty(count, most, dtype=torch.float64)
    block = min(count, max(1, _BLOCK_BYTES // (8 * count)))
    buffer = torch.empty(block, count, dtype=torch.float64)  # one for all blocks: fresh pages cost more than the sums
    for start in range(0, count, block):
        rows = slice(start, min(start + block, count))
        distances = buffer[: rows.stop - rows.start]
        cosines(rows, distances)
        distances.neg_().add_(1.0).masked_fill_(pool.excludes(rows), torch.inf)
        index[rows] = _nearest(distances, most)
        distance[rows] = distances.gather(1, index[rows])
    return Neighbours(index, distance)


def _nearest(distances: torch.Tensor, most: int) -> torch.Tensor:
    """Indices (R, most) of each row's smallest distances, nearest first, ties to the smaller index."""
    width = min(most + _MARGIN, distances.shape[1])
    # NumPy's partition takes a third of the time of PyTorch's topk on a CPU.
    found = torch.from_numpy(np.argpartition(distances.numpy(), width - 1, axis=1)[:, :width])
    found = _in_order(distances, found.sort(dim=1).values)
    if width < distances.shape[1]:
        # The tie at the border may go on beyond what was looked up.
        values = distances.gather(1, found[:, [most - 1, width - 1]])
        unsure = (values[:, 1] - values[:, 0] <= 2 * TIE_DISTANCE).nonzero()[:, 0]
        if len(unsure):
            everything = torch.arange(distances.shape[1]).expand(len(unsure), -1)
            found[unsure, :most] = _in_order(distances[unsure], everything)[:, :most]
    return found[:, :most]


def _in_order(distances: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    rounded = (distances.gather(1, candidates) / TIE_DISTANCE).round()
    return candidates.gather(1, rounded.sort(dim=1, stable=True).indices)


def chance_error(actions: np.ndarray, pool: Pool, k: int) -> float:
    """Expected mean squared error where the k frames are drawn at random out of each frame's pool: what features reach that say
    nothing. Frames without a pool are left out.

    |a_i - m|^2 + s^2 / k (n - k) / (n - 1) with the mean m and the variance s^2 of the n frames to draw from.
    """
    actions = np.asarray(actions, np.float64)
    actions, errors = actions - actions.mean(0), []
    block = max(1, _BLOCK_BYTES // (8 * len(actions)))
    for start in range(0, len(actions), block):
        rows = slice(start, start + block)
        share = (~pool.excludes(rows)).numpy().astype(np.float64)
        size = share.sum(1, keepdims=True)
        share /= np.maximum(size, 1)
        mean, count = share @ actions, np.clip(size, 1, k)
        drawn = (share @ actions**2 - mean**2) / count * (size - count) / np.maximum(size - 1, 1)
        errors.append(((actions[rows] - mean) ** 2 + drawn)[size[:, 0] > 0])
    return float(np.concatenate(errors).mean())
