"""Where a board is in an image, and why it is not found."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from calibration.board import DICTIONARIES, Board
from calibration.rigid import pose
from robosteer_core.errors import UserError

#: A pose from fewer corners is not worth much.
MIN_CORNERS = 6
#: A depth camera is off by 1 to 2 % within a metre; a board printed to fit the page by 3 % and more.
DEPTH_TOLERANCE = 0.03
#: Depth is compared where at least so many corners have it.
_MIN_DEPTHS = 6


class BoardNotFound(UserError):
    """The board is not in the image; the message says what was found instead."""


@dataclass(frozen=True)
class Detection:
    """`ids` (k,) of the board's corners, `corners` (k, 2) in pixels; the centre of the upper left pixel is (0, 0)."""

    ids: np.ndarray
    corners: np.ndarray
    size: tuple[int, int]


class BoardDetector:
    """OpenCV's ChArUco detector for one board, its corners refined to sub-pixels."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._detector = _detector(board)

    def detect(self, image: np.ndarray, name: str = "the image") -> Detection:
        """Corners in `image` (height, width) or (height, width, 3) RGB uint8. Raises BoardNotFound with what to do."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
        corners, ids, _, marker_ids = self._detector.detectBoard(grey)
        if ids is None or len(ids) < MIN_CORNERS:
            raise BoardNotFound(
                f"{name}: {self._why(grey, 0 if ids is None else len(ids), 0 if marker_ids is None else len(marker_ids))}"
            )
        order = np.argsort(ids.ravel())
        return Detection(ids.ravel()[order], corners.reshape(-1, 2).astype(float)[order], (grey.shape[1], grey.shape[0]))

    def _why(self, grey: np.ndarray, corners: int, markers: int) -> str:
        if markers >= 4:
            return (
                f"board not found: {markers} markers of {self.board.dictionary} and {corners} corners of its "
                f"{self.board.columns}x{self.board.rows} squares, at least {MIN_CORNERS} are needed. Show all of the board, "
                "or name the numbers of squares on yours"
            )
        best, most = "", 3
        for name, number in DICTIONARIES.items():
            # The original ArUco patterns are found in clutter by chance.
            if name == self.board.dictionary or "ORIGINAL" in name:
                continue
            parameters = cv2.aruco.DetectorParameters()
            parameters.errorCorrectionRate = 0.0
            found = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(number), parameters).detectMarkers(grey)[1]
            # Small dictionaries are the first part of the large ones: at equal numbers the first found is named.
            if found is not None and len(found) > most:
                best, most = name, len(found)
        if best:
            return (
                f"wrong dictionary: {most} markers of {best}, and {markers} of the expected {self.board.dictionary}. Describe "
                "the board that you use (--board FILE.yaml), or print the expected one: robosteer calibrate board"
            )
        contrast = float(grey.std())
        light = " (the image is almost uniform: is the lens covered, or the exposure wrong?)" if contrast < 8 else ""
        return (
            f"board not found: no marker of {self.board.dictionary}, nor of another dictionary{light}. Show all of the board, "
            "flat, sharp and evenly lit, at least a fifth of the image wide"
        )


def target_pose(board: Board, seen: Detection, lens: np.ndarray) -> tuple[np.ndarray, float]:
    """The board in the camera's optical frame (4x4), and the root mean square of its reprojection in pixels. `lens` is (fx,
    fy, cx, cy) in pixels, of corners without distortion."""
    points = board.corners[seen.ids]
    found = None
    for _, turn, shift, error in _solutions(points, seen.corners, _matrix(lens)):
        if found is None or error < found[1]:
            turn, shift = cv2.solvePnPRefineLM(points, seen.corners, _matrix(lens), None, turn, shift)
            projected = cv2.projectPoints(points, turn, shift, _matrix(lens), None)[0].reshape(-1, 2)
            rms = float(np.sqrt(((projected - seen.corners) ** 2).sum(1).mean()))
            found = (pose(cv2.Rodrigues(turn)[0], shift.ravel()), rms) if found is None or rms < found[1] else found
    return found


def refuse_other_scale(board: Board, seen: Detection, lens: np.ndarray, depth_m: np.ndarray, name: str) -> None:
    """Raises UserError where depth (height, width) in metres, 0 where unknown, says that the board is of another size."""
    scale = depth_scale(board, seen, lens, depth_m)
    if scale is not None and abs(scale - 1) > DEPTH_TOLERANCE:
        raise UserError(
            f"{name}: the board is printed to another scale: by the depth image its squares measure "
            f"{1e3 * board.square_m * scale:.1f} mm, expected {1e3 * board.square_m:g} mm. Measure them with a ruler; print "
            "the page at 100 % (not `fit to page`), or give the size you measure"
        )


def depth_scale(board: Board, seen: Detection, lens: np.ndarray, depth_m: np.ndarray) -> float | None:
    """Measured distance of the corners over that which the board's size implies (median), None where depth is missing."""
    target, _ = target_pose(board, seen, lens)
    expected = (board.corners[seen.ids] @ target[:3, :3].T + target[:3, 3])[:, 2]
    column, row = np.rint(seen.corners).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < depth_m.shape[1]) & (row < depth_m.shape[0])
    measured = depth_m[row[inside], column[inside]]
    known = measured > 0
    if known.sum() < _MIN_DEPTHS:
        return None
    return float(np.median(measured[known] / expected[inside][known]))


def _solutions(points: np.ndarray, corners: np.ndarray, matrix: np.ndarray) -> list[tuple]:
    count, turns, shifts, errors = cv2.solvePnPGeneric(points, corners, matrix, None, flags=cv2.SOLVEPNP_IPPE)
    return [(count, turn, shift, float(np.ravel(error)[0])) for turn, shift, error in zip(turns, shifts, errors)]


def _matrix(lens: np.ndarray) -> np.ndarray:
    fx, fy, cx, cy = lens
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def _detector(board: Board) -> cv2.aruco.CharucoDetector:
    parameters = cv2.aruco.DetectorParameters()
    return cv2.aruco.CharucoDetector(board.cv, cv2.aruco.CharucoParameters(), parameters, cv2.aruco.RefineParameters())
