"""Corners of the board in the images, as observations of a bundle adjustment with a free lens."""

from __future__ import annotations

import numpy as np

from calibration.adjustment import Blocks, Chain
from calibration.board import Board
from calibration.detection import Detection

#: Corners are found this well, per coordinate, in sharp and evenly lit images [pixels].
CORNER_PX = 0.15
#: Factory intrinsics are right to about one per cent of their values; farther than three of these the adjustment does not go.
LENS_SIGMA, LENS_BOUND = 0.01, 0.03


class SeenCorners:
    """`views` are detections of one camera; `lens` its (fx, fy, cx, cy) in pixels, free within bounds unless `fixed`."""

    assumed = {"corner": CORNER_PX}

    def __init__(self, board: Board, views: list[Detection], lens: np.ndarray, fixed: bool = False) -> None:
        self._points, self._lens, self._fixed = board.corners, np.asarray(lens, float), fixed
        self._seen = np.zeros((len(views), len(self._points), 2))
        self._present = np.zeros((len(views), len(self._points)), bool)
        for index, view in enumerate(views):
            self._seen[index, view.ids] = view.corners
            self._present[index, view.ids] = True

    def __len__(self) -> int:
        return len(self._seen)

    def lens_prior(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._fixed:
            return np.empty(0), np.empty(0), np.empty(0)
        return self._lens, LENS_SIGMA * self._lens, LENS_BOUND * self._lens

    def blocks(self, chain: Chain, lens: np.ndarray) -> list[Blocks]:
        points, shared, own = chain.points(self._points)
        focal, centre = np.split(self._lens if self._fixed else lens, 2)
        x, y, z = np.moveaxis(points, -1, 0)
        ray = np.stack([x, y], -1) / z[..., None]
        # d(u, v) / d(x, y, z), rows in turn.
        slope = np.zeros((*points.shape[:2], 2, 3))
        slope[..., 0, 0], slope[..., 1, 1] = focal[0] / z, focal[1] / z
        slope[..., :, 2] = -focal * ray / z[..., None]
        values = np.where(self._present[..., None], ray * focal + centre - self._seen, 0.0)
        by_lens = np.zeros((*points.shape[:2], 2, 0 if self._fixed else 4))
        if not self._fixed:
            by_lens[..., 0, 0], by_lens[..., 1, 1] = ray[..., 0], ray[..., 1]
            by_lens[..., 0, 2] = by_lens[..., 1, 3] = 1.0
        return [Blocks("corner", values, np.concatenate([slope @ shared, by_lens], -1), slope @ own, self._present, many=True)]
