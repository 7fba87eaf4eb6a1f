"""The touch test: the fingertips go above a corner of the board, and a look tells what the figures are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from calibration.adjustment import ROBOT_ROTATION_RAD, ROBOT_TRANSLATION_M
from calibration.board import Board
from calibration.corners import CORNER_PX
from calibration.detection import Detection, target_pose
from calibration.rigid import hat, inverse, pose


@dataclass(frozen=True)
class Touch:
    """`point_m` (3,) corner number `corner` of the board in the base frame; `miss_mm` the horizontal distance from it that 95 %
    of such tests stay within, by the covariances alone."""

    corner: int
    point_m: np.ndarray
    miss_mm: float

    def above(self, robot: np.ndarray, height_m: float) -> np.ndarray:
        """(4, 4) end effector pointing straight down `height_m` above the corner, turned as it is at `robot` (4, 4)."""
        forward = robot[:2, 0] / np.linalg.norm(robot[:2, 0])
        x = np.array([*forward, 0.0])
        down = np.array([0.0, 0.0, -1.0])
        return pose(np.column_stack([x, np.cross(down, x), down]), self.point_m + (0, 0, height_m))


def touch_on_table(
    corners: np.ndarray, corner: int, board: np.ndarray, board_covariance: np.ndarray, robot_sigma_m: float
) -> Touch:
    """On a board that lies at `board` (4x4, base frame) with `board_covariance` (6, 6) of its step in its own frame."""
    slope = board[:3, :3] @ _slope(corners[corner])
    point = board[:3, :3] @ corners[corner] + board[:3, 3]
    return _touch(corner, point, slope @ board_covariance @ slope.T + robot_sigma_m**2 * np.eye(3))


def touch_in_view(
    board: Board,
    corner: int,
    seen: Detection,
    lens: np.ndarray,
    camera: np.ndarray,
    camera_covariance: np.ndarray,
    robot: np.ndarray | None,
) -> Touch:
    """On a board in view of the calibrated `camera` (4x4 in the end effector frame where `robot` (4x4) is given, else in the
    base frame), with `camera_covariance` (6, 6) of its step in its own frame; `lens` (fx, fy, cx, cy)."""
    target, _ = target_pose(board, seen, lens)
    in_base = camera if robot is None else robot @ camera
    in_camera = target[:3, :3] @ board.corners[corner] + target[:3, 3]
    slope = in_base[:3, :3] @ _slope(in_camera)
    covariance = slope @ camera_covariance @ slope.T
    slope = in_base[:3, :3] @ target[:3, :3] @ _slope(board.corners[corner])
    covariance += slope @ _seen_covariance(board, seen, lens, target) @ slope.T
    point = in_base[:3, :3] @ in_camera + in_base[:3, 3]
    arm = np.diag([ROBOT_TRANSLATION_M**2] * 3 + [ROBOT_ROTATION_RAD**2] * 3)
    covariance += arm[:3, :3]  # of the fingertips above the corner
    if robot is not None:  # and of the hand that held the camera
        slope = robot[:3, :3] @ _slope((inverse(robot) @ np.append(point, 1))[:3])
        covariance += slope @ arm @ slope.T
    return _touch(corner, point, covariance)


def _slope(point: np.ndarray) -> np.ndarray:
    """(3, 6) how a point moves with a step of the frame that it is fixed in, in that frame."""
    return np.hstack([np.eye(3), -hat(point)])


def _seen_covariance(board: Board, seen: Detection, lens: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(6, 6) of the target's step, from where its corners are in one image."""
    points = board.corners[seen.ids]
    x, y, z = (points @ target[:3, :3].T + target[:3, 3]).T
    zero = np.zeros_like(z)
    project = np.stack([lens[0] / z, zero, -lens[0] * x / z**2, zero, lens[1] / z, -lens[1] * y / z**2], -1).reshape(-1, 2, 3)
    rows = (project @ target[:3, :3] @ np.concatenate([np.broadcast_to(np.eye(3), (len(z), 3, 3)), -hat(points)], -1)).reshape(
        -1, 6
    )
    return np.linalg.inv(rows.T @ rows) * CORNER_PX**2


def _touch(corner: int, point: np.ndarray, covariance: np.ndarray) -> Touch:
    # The circle of a round distribution with the worst direction's variance: not smaller than the right one.
    miss = np.sqrt(chi2.ppf(0.95, 2) * np.linalg.eigvalsh(covariance[:2, :2])[-1])
    return Touch(corner, point, float(1e3 * miss))
