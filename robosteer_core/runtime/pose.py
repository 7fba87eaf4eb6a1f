"""Poses of the end effector and the arithmetic of Cartesian deltas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robosteer_core.runtime.quaternion import from_matrix, to_matrix, turn, turned

#: Orientation (4,) of a tool that points straight down: x forward, z down. Rotation vectors are measured from it, so that
#: the usual poses lie near zero, far from the jump at pi.
TOOL_DOWN = np.array([1.0, 0.0, 0.0, 0.0])


@dataclass(frozen=True)
class Pose:
    """End-effector pose in the base frame: `position` (3,) in metres, `quaternion` (4,) as x, y, z, w."""

    position: np.ndarray
    quaternion: np.ndarray

    @staticmethod
    def from_matrix(matrix: np.ndarray) -> Pose:
        """From a homogeneous 4x4 matrix."""
        return Pose(matrix[:3, 3].copy(), from_matrix(matrix[:3, :3]))

    def matrix(self) -> np.ndarray:
        matrix = np.eye(4)
        matrix[:3, :3] = to_matrix(self.quaternion)
        matrix[:3, 3] = self.position
        return matrix

    def vector(self) -> np.ndarray:
        """(6,): position [m] and rotation vector from `TOOL_DOWN` [rad]."""
        return np.concatenate([self.position, turn(TOOL_DOWN, self.quaternion)])

    @staticmethod
    def from_vector(vector: np.ndarray) -> Pose:
        """Inverse of `vector`."""
        return Pose(np.array(vector[:3], float), turned(TOOL_DOWN, np.asarray(vector[3:6])))

    def moved(self, delta: np.ndarray) -> Pose:
        """This pose after a delta (6,): translation [m], then rotation vector [rad], both in the base frame."""
        return Pose(self.position + delta[:3], turned(self.quaternion, np.asarray(delta[3:6])))

    def delta_to(self, other: Pose) -> np.ndarray:
        """(6,) delta with `self.moved(delta) == other`."""
        return np.concatenate([other.position - self.position, turn(self.quaternion, other.quaternion)])


def interpolate(start: Pose, end: Pose, fraction: float) -> Pose:
    """Straight line in position, great circle in orientation; `fraction` in [0, 1]."""
    position = start.position + fraction * (end.position - start.position)
    return Pose(position, turned(start.quaternion, fraction * turn(start.quaternion, end.quaternion)))
