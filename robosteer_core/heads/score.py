"""How well a feature predicts the demonstrator's action: k-nearest-neighbour regression over other episodes.

Source: Robotic Steering (arXiv 2511.22697) and the authors' release; `knn` in openpi_robotv's head tuning. For frame i
with feature h_i and action a_i

    d_ij = 1 - cos(h_i, h_j),  w_ij = 1 / (d_ij + 1e-8),  a^_i = sum_j w_ij a_j / sum_j w_ij

over the k nearest frames j of all other episodes; where some d_ij < 1e-8, a^_i is that nearest frame's action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
import torch

EXACT_DISTANCE = 1e-8
SINGLE_EPISODE_GAP = 30
#: Distances closer than this are equal: their order would be that of rounding errors.
TIE_DISTANCE = 1e-14
#: Neighbours looked up beyond k, so that ties at the border show.
_MARGIN = 8
_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Pool:
    """From which frames each frame's action may be predicted.

    Those of all other episodes (`episodes` (N,) int); where `frames` (N,) is given, a single episode's frames more
    than 30 away.
    """

    episodes: torch.Tensor
    frames: torch.Tensor | None = None

    def excludes(self, rows: slice) -> torch.Tensor:
        """(rows, N) bool: frames that may not be used for these rows."""
        if self.frames is None:
            return self.episodes[rows, None] == self.episodes[None]
        return (self.frames[rows, None] - self.frames[None]).abs() <= SINGLE_EPISODE_GAP


def squared_errors(features: np.ndarray, actions: np.ndarray, pool: Pool, ks: Sequence[int]) -> np.ndarray:
    """Squared errors (K, N, A) of the actions (N, A) predicted from `features` (N, D), for each number of neighbours.

    All in float64. A pool smaller than k is used whole; a frame whose pool is empty has NaN. A feature of norm zero is
    at distance 1 from everything. Equal distances go to the earlier frame.
    """
    unit = torch.from_numpy(np.ascontiguousarray(features, np.float64))
    unit = unit / unit.norm(dim=1, keepdim=True).clamp_min(np.finfo(np.float64).tiny)
    target = torch.from_numpy(np.ascontiguousarray(actions, np.float64))
    count, most = len(unit), min(max(ks), len(unit))
    columns = [min(k, most) - 1 for k in ks]
    block = max(1, _BLOCK_BYTES // (8 * count))
    errors = torch.empty(len(ks), *target.shape, dtype=torch.float64)
    for start in range(0, count, block):
        rows = slice(start, min(start + block, count))
        distances = 1.0 - unit[rows] @ unit.T
        distances[pool.excludes(rows)] = torch.inf
        nearest = _nearest(distances, most)
        distance = distances.gather(1, nearest)
        # A distance of inf has weight 0, so the sums stay as they were where the pool ends.
        weights = 1.0 / (distance + EXACT_DISTANCE)
        neighbours = target[nearest]
        totals = (weights[:, :, None] * neighbours).cumsum(1)[:, columns]
        predicted = totals / weights.cumsum(1)[:, columns, None]
        exact = distance[:, 0] < EXACT_DISTANCE
        predicted[exact] = neighbours[exact, :1]
        errors[:, rows] = ((predicted - target[rows, None]) ** 2).transpose(0, 1)
    return errors.numpy()


def _nearest(distances: torch.Tensor, most: int) -> torch.Tensor:
    """Indices (R, most) of each row's smallest distances, nearest first, ties to the smaller index."""
    width = min(most + _MARGIN, distances.shape[1])
    values, found = distances.topk(width, dim=1, largest=False)
    found = _in_order(distances, found.sort(dim=1).values)[:, :most]
    if width < distances.shape[1]:
        # The tie at the border may go on beyond what was looked up.
        unsure = (values[:, -1] - values[:, most - 1] <= 2 * TIE_DISTANCE).nonzero()[:, 0]
        if len(unsure):
            everything = torch.arange(distances.shape[1]).expand(len(unsure), -1)
            found[unsure] = _in_order(distances[unsure], everything)[:, :most]
    return found


def _in_order(distances: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    rounded = (distances.gather(1, candidates) / TIE_DISTANCE).round()
    return candidates.gather(1, rounded.sort(dim=1, stable=True).indices)
