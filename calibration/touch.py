"""The touch test: the fingertip goes above a corner of the board, and a look tells what the figures are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from calibration.rigid import hat, pose
from robosteer_core.runtime.pose import TOOL_DOWN


@dataclass(frozen=True)
class Touch:
    """`end_effector` (4x4) in the base frame with the fingertips above the corner; `miss_mm` the horizontal distance from it that 95 % of
    such tests stay within, by the covariances alone."""

    corner: int
    point_m: np.ndarray
    end_effector: np.ndarray
    miss_mm: float


def touch_on_table(
    corners: np.ndarray, corner: int, board: np.ndarray, board_covariance: np.ndarray, robot_sigma_m: float, above_m: float
) -> Touch:
    """Above corner number `corner` of a board that lies at `board` (4x4, base frame) with `board_covariance` (6, 6) of its step in
    its own frame."""
    in_board = corners[corner]
    point = board[:3, :3] @ in_board + board[:3, 3]
    # A step (v, w) of the board moves the point by R (v + w x p).
    slope = board[:3, :3] @ np.hstack([np.eye(3), -hat(in_board)])
    return _touch(corner, point, slope @ board_covariance @ slope.T, robot_sigma_m, above_m)


def touch_by_camera(
    corner: int, in_camera: np.ndarray, camera_in_base: np.ndarray, camera_covariance: np.ndarray, seen_sigma_m: float, robot_sigma_m: float,
    above_m: float,
) -> Touch:  # fmt: skip
    """Above a corner that the calibrated camera sees at `in_camera` (3,) from `camera_in_base` (4x4): for a camera on the hand, its
    pose in the base frame when it looked."""
    point = camera_in_base[:3, :3] @ in_camera + camera_in_base[:3, 3]
    slope = camera_in_base[:3, :3] @ np.hstack([np.eye(3), -hat(in_camera)])
    return _touch(corner, point, slope @ camera_covariance @ slope.T + seen_sigma_m**2 * np.eye(3), robot_sigma_m, above_m)


def _touch(corner: int, point: np.ndarray, covariance: np.ndarray, robot_sigma_m: float, above_m: float) -> Touch:
    flat = covariance[:2, :2] + robot_sigma_m**2 * np.eye(2)
    # The circle of a round distribution with the worst direction's variance: not smaller than the right one.
    miss = np.sqrt(chi2.ppf(0.95, 2) * np.linalg.eigvalsh(flat)[-1])
    return Touch(corner, point, pose(TOOL_DOWN.as_matrix(), point + np.array([0, 0, above_m])), float(1e3 * miss))
