"""Poses of the end effector and the arithmetic of Cartesian deltas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

#: Orientation of a tool that points straight down: x forward, z down. Rotation vectors are measured from it, so that
#: the usual poses lie near zero, far from the jump at pi.
TOOL_DOWN = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))


@dataclass(frozen=True)
class Pose:
    """End-effector pose in the base frame: `position` (3,) in metres, `quaternion` (4,) as x, y, z, w."""

    position: np.ndarray
    quaternion: np.ndarray

    @staticmethod
    def from_matrix(matrix: np.ndarray) -> Pose:
        """From a homogeneous 4x4 matrix."""
        return Pose(matrix[:3, 3].copy(), Rotation.from_matrix(matrix[:3, :3]).as_quat())

    def matrix(self) -> np.ndarray:
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation.as_matrix()
        matrix[:3, 3] = self.position
        return matrix

    @property
    def rotation(self) -> Rotation:
        return Rotation.from_quat(self.quaternion)

    def vector(self) -> np.ndarray:
        """(6,): position [m] and rotation vector from `TOOL_DOWN` [rad]."""
        return np.concatenate([self.position, (self.rotation * TOOL_DOWN.inv()).as_rotvec()])

    @staticmethod
    def from_vector(vector: np.ndarray) -> Pose:
        """Inverse of `vector`."""
        return Pose(np.array(vector[:3], float), (Rotation.from_rotvec(vector[3:6]) * TOOL_DOWN).as_quat())

    def moved(self, delta: np.ndarray) -> Pose:
        """This pose after a delta (6,): translation [m], then rotation vector [rad], both in the base frame."""
        return Pose(self.position + delta[:3], (Rotation.from_rotvec(delta[3:6]) * self.rotation).as_quat())

    def delta_to(self, other: Pose) -> np.ndarray:
        """(6,) delta with `self.moved(delta) == other`."""
        return np.concatenate([other.position - self.position, (other.rotation * self.rotation.inv()).as_rotvec()])


def interpolate(start: Pose, end: Pose, fraction: float) -> Pose:
    """Straight line in position, great circle in orientation; `fraction` in [0, 1]."""
    rotation = Slerp([0.0, 1.0], Rotation.concatenate([start.rotation, end.rotation]))(fraction)
    return Pose(start.position + fraction * (end.position - start.position), rotation.as_quat())
