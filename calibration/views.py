"""The board in every image of a recording."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calibration.board import Board
from calibration.detection import DEPTH_TOLERANCE, BoardDetector, BoardNotFound, Detection, depth_scale, refuse_other_scale
from calibration.recording import Lens, RecordedFolder
from robosteer_core.errors import UserError

#: Coverage is counted in a grid of so many columns and rows over the image.
GRID = (8, 6)


@dataclass(frozen=True)
class Views:
    """`seen` detections by index of the view, their corners as they are in the image; `missed` reasons by index."""

    recording: RecordedFolder
    board: Board
    size: tuple[int, int]
    seen: dict[int, Detection]
    missed: dict[int, str]

    def straightened(self, lens: Lens) -> list[Detection]:
        """The detections, without the lens's distortion."""
        return [replace(view, corners=lens.straightened(view.corners)) for view in self.seen.values()]

    def names(self) -> tuple[str, ...]:
        return tuple(self.recording.names[index] for index in self.seen)

    def coverage(self) -> np.ndarray:
        """(rows, columns) numbers of corners in each cell of GRID."""
        return coverage_of(list(self.seen.values()), self.size)


def coverage_of(views: list[Detection], size: tuple[int, int]) -> np.ndarray:
    corners = np.concatenate([view.corners for view in views]) if views else np.empty((0, 2))
    ranges = ((0, size[1]), (0, size[0]))
    return np.histogram2d(corners[:, 1], corners[:, 0], bins=GRID[::-1], range=ranges)[0].astype(int)


def find_boards(recording: RecordedFolder, board: Board, at_least: int) -> Views:
    """Detect the board in every image. Raises UserError where fewer than `at_least` show it, with what is wrong in the
    first."""
    detector, seen, missed = BoardDetector(board), {}, {}
    images = recording.images()
    for index, (name, image) in enumerate(zip(recording.names, images)):
        try:
            seen[index] = detector.detect(image, name)
        except BoardNotFound as error:
            missed[index] = str(error)
    if len(seen) < at_least:
        first = f" {next(iter(missed.values()))}" if missed else ""
        raise UserError(
            f"too few poses: the board ({board.words()}) is seen in {len(seen)} of {len(images)} images, at least {at_least} "
            f"are needed.{first}"
        )
    return Views(recording, board, images[0].shape[::-1], seen, missed)


def check_scale(views: Views, lens: Lens) -> float | None:
    """Measured over expected distance of the board by the depth images (median over the views), None without any. Raises
    UserError where the board is printed to another scale."""
    scales = {}
    for index, seen in zip(views.seen, views.straightened(lens)):
        depth = views.recording.depth_m(index)
        scale = None if depth is None else depth_scale(views.board, seen, lens.vector, depth)
        if scale is not None:
            scales[index] = (scale, seen, depth)
    if not scales:
        return None
    median = float(np.median([scale for scale, _, _ in scales.values()]))
    if abs(median - 1) > DEPTH_TOLERANCE:
        index = min(scales, key=lambda i: abs(scales[i][0] - median))
        refuse_other_scale(views.board, scales[index][1], lens.vector, scales[index][2], views.recording.names[index])
    return median
