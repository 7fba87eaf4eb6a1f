"""A chunk of actions as the arm receives it: poses at absolute times."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from robosteer_core.runtime.pose import Pose
from robosteer_core.runtime.quaternion import turned


@dataclass(frozen=True)
class ActionChunk:
    """Poses to be reached at `stamps_ns` (N,) int64, strictly increasing, on the rig's clock.

    `positions` (N, 3) m, `quaternions` (N, 4) x, y, z, w, base frame; `gripper` (N,) opening in [0, 1], 1 is open.
    """

    stamps_ns: np.ndarray
    positions: np.ndarray
    quaternions: np.ndarray
    gripper: np.ndarray

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def pose(self, index: int) -> Pose:
        return Pose(self.positions[index], self.quaternions[index])


def integrate_deltas(start: Pose, actions: np.ndarray, first_stamp_ns: int, period_ns: int) -> ActionChunk:
    """Turn Cartesian deltas into poses, integrating from `start`, the last commanded pose.

    `actions` (N, 7): translation [m] and rotation vector [rad] in the base frame, gripper opening. Action i is reached
    at `first_stamp_ns + i * period_ns`.
    """
    quaternions = np.array(list(accumulate(actions[:, 3:6], turned, initial=start.quaternion))[1:])
    return ActionChunk(
        stamps_ns=first_stamp_ns + period_ns * np.arange(len(actions), dtype=np.int64),
        positions=start.position + np.cumsum(actions[:, :3], axis=0),
        quaternions=quaternions,
        gripper=np.clip(actions[:, 6], 0.0, 1.0),
    )
