"""What a policy sees: frames and the state of the robot, aligned by capture stamp."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Mapping

import numpy as np

from robosteer_core.runtime.frame import Frame
from robosteer_core.runtime.pose import Pose


@dataclass(frozen=True)
class ArmState:
    """`measured` is where the end effector is, `commanded` the last set-point sent to the arm (base frame).

    `joint_positions` (7,) rad; `force` (3,) N, external force estimate in the base frame; `gripper` opening in [0, 1],
    1 is open; `mode` is the arm node's own: idle, tracking, holding, stopped or fault.
    """

    stamp_ns: int
    measured: Pose
    commanded: Pose
    joint_positions: np.ndarray
    force: np.ndarray
    gripper: float
    mode: str = "tracking"

    def vector(self) -> np.ndarray:
        """(7,) float32 `observation.state`: position [m], rotation vector from tool-down [rad], gripper opening."""
        return np.append(self.measured.vector(), self.gripper).astype(np.float32)


class RecentStates:
    """The last states of the arm that were told, so that what cameras have seen is joined with what was measured then."""

    def __init__(self, count: int = 256) -> None:
        self._states: deque[ArmState] = deque(maxlen=count)

    def add(self, state: ArmState) -> None:
        self._states.append(state)

    @property
    def newest(self) -> ArmState | None:
        """None before the first."""
        return self._states[-1] if self._states else None

    def nearest(self, stamp_ns: int) -> ArmState:
        """What was measured nearest to `stamp_ns`; what is commanded, and the mode, are of the newest state: actions go on from there."""
        nearest = min(self._states, key=lambda state: abs(state.stamp_ns - stamp_ns))
        return replace(nearest, commanded=self.newest.commanded, mode=self.newest.mode)


@dataclass(frozen=True)
class Observation:
    """`frames` by camera name, the state of the arm, and the instruction in words."""

    stamp_ns: int
    frames: Mapping[str, Frame]
    arm: ArmState
    instruction: str

    @property
    def skew_ns(self) -> int:
        """Between the first and the last capture of what is seen together: frames and state."""
        stamps_ns = [frame.stamp_ns for frame in self.frames.values()] + [self.arm.stamp_ns]
        return max(stamps_ns) - min(stamps_ns)
