"""The closed-form solutions of OpenCV: five of hand-eye (AX = XB) and two of robot-world and hand-eye (AX = ZB)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from calibration.pairs import PosePairs
from calibration.rigid import inverse, mean, pose, steps_between

Mount = Literal["hand", "fixed"]

HAND_EYE = {
    "tsai": cv2.CALIB_HAND_EYE_TSAI,
    "park": cv2.CALIB_HAND_EYE_PARK,
    "horaud": cv2.CALIB_HAND_EYE_HORAUD,
    "andreff": cv2.CALIB_HAND_EYE_ANDREFF,
    "daniilidis": cv2.CALIB_HAND_EYE_DANIILIDIS,
}
ROBOT_WORLD = {
    "shah": cv2.CALIB_ROBOT_WORLD_HAND_EYE_SHAH,
    "li": cv2.CALIB_ROBOT_WORLD_HAND_EYE_LI,
}
SOLVERS = (*HAND_EYE, *ROBOT_WORLD)


@dataclass(frozen=True)
class HandEye:
    """The two unknown poses (4x4) of a camera's mounting.

    `mount` "hand": `camera` in the end effector frame, `target` in the base frame. `mount` "fixed": `camera` in the base
    frame, `target` in the end effector frame.
    """

    mount: Mount
    camera: np.ndarray
    target: np.ndarray

    def target_in_camera(self, robot: np.ndarray) -> np.ndarray:
        """(n, 4, 4) where the camera sees the target when the end effector is at `robot` (n, 4, 4)."""
        return inverse(self.camera) @ carried(self.mount, robot) @ self.target


def carried(mount: Mount, robot: np.ndarray) -> np.ndarray:
    """Pose of the target's carrier in the camera's carrier: base in end effector, or end effector in base."""
    return inverse(robot) if mount == "hand" else robot


def solve(pairs: PosePairs, mount: Mount, solver: str) -> HandEye | None:
    """The solution of one solver, None where it has none."""
    # With the camera on a stand base and end effector change their parts.
    link = pairs.robot if mount == "hand" else inverse(pairs.robot)
    try:
        if solver in HAND_EYE:
            parts = cv2.calibrateHandEye(*_split(link), *_split(pairs.target), method=HAND_EYE[solver])
            camera = pose(parts[0], parts[1].ravel())
        else:
            parts = cv2.calibrateRobotWorldHandEye(*_split(pairs.target), *_split(inverse(link)), method=ROBOT_WORLD[solver])
            camera = inverse(pose(parts[2], parts[3].ravel()))
    except cv2.error:
        return None
    turn = camera[:3, :3]
    # Pairs that contradict each other make some solvers return a reflection, or no rotation at all.
    if not np.isfinite(camera).all() or np.abs(turn @ turn.T - np.eye(3)).max() > 1e-3 or np.linalg.det(turn) < 0:
        return None
    return HandEye(mount, camera, mean(link @ camera @ pairs.target))


def misfits(pairs: PosePairs, found: HandEye) -> np.ndarray:
    """(n, 6) steps from the target as seen to the target as predicted, in the target's frame [m, rad]."""
    return steps_between(pairs.target, found.target_in_camera(pairs.robot))


def misfit_sizes(pairs: PosePairs, found: HandEye) -> np.ndarray:
    """(n, 2) metres and radians."""
    steps = misfits(pairs, found)
    return np.stack([np.linalg.norm(steps[:, :3], axis=1), np.linalg.norm(steps[:, 3:], axis=1)], -1)


def _split(poses: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return list(np.ascontiguousarray(poses[:, :3, :3])), list(np.ascontiguousarray(poses[:, :3, 3]))
