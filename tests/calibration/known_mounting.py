"""Pose pairs of a known mounting."""

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.pairs import PosePairs
from calibration.rigid import distance, exp, inverse, moved, pose

CAMERA_IN_HAND = pose(exp(np.array([0.05, -0.3, 1.6])), np.array([0.07, 0.01, -0.03]))
BOARD_IN_BASE = pose(exp(np.array([0.0, 0.0, 0.4])), np.array([0.5, -0.05, 0.0]))
CAMERA_IN_BASE = pose(Rotation.from_euler("ZYX", [1.6, 0.1, -2.4]).as_matrix(), np.array([1.1, 0.05, 0.7]))
BOARD_IN_HAND = pose(exp(np.array([0.1, 2.9, 0.2])), np.array([0.02, -0.05, 0.1]))


def looking(rng, count, spread_rad=0.4):
    """(count, 4, 4) target in camera: before it, 0.35 to 0.55 m away, tilted about both axes and turned about the third."""
    turns = Rotation.from_euler("xyz", rng.uniform(-1, 1, (count, 3)) * (spread_rad, spread_rad, 2 * spread_rad))
    facing = (turns * Rotation.from_euler("x", np.pi)).as_matrix()
    return pose(facing, rng.uniform((-0.05, -0.05, 0.35), (0.05, 0.05, 0.55), (count, 3)))


def make_pairs(count=20, seed=0, mount="hand", target=None, robot_mm=0.3, robot_deg=0.05, target_mm=0.1, target_deg=0.02):
    """Pairs of the mounting above, the robot's poses and the targets with normal errors of this size per axis."""
    rng = np.random.default_rng(seed)
    target = looking(rng, count) if target is None else target
    if mount == "hand":
        robot = BOARD_IN_BASE @ inverse(target) @ inverse(CAMERA_IN_HAND)
    else:
        robot = CAMERA_IN_BASE @ target @ inverse(BOARD_IN_HAND)
    count = len(target)

    def noise(millimetres, degrees):
        return np.hstack([rng.normal(0, millimetres / 1e3, (count, 3)), np.deg2rad(rng.normal(0, degrees, (count, 3)))])

    robot, target = moved(robot, noise(robot_mm, robot_deg)), moved(target, noise(target_mm, target_deg))
    return PosePairs(robot, target, tuple(f"pair {index}" for index in range(count)))


def within(found, expected, millimetres, degrees):
    far_mm, turned_deg = distance(np.asarray(found), expected)
    return far_mm < millimetres and turned_deg < degrees
