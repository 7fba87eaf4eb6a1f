"""What an arm says of itself: its state at one instant, and why a motion ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robosteer_core.runtime.pose import Pose


class ArmFault(Exception):
    """A motion ended by the robot or the network, not by us; the message begins with the robot's own error names."""


@dataclass(frozen=True)
class Reading:
    """The robot's state at its own time `robot_time_ns`.

    `end_effector` measured, base frame; `joint_positions` (7,) rad; `wrench` (6,) N and Nm, estimated external force and
    moment along the axes of the base frame, the moment about the stiffness frame's origin (O_F_ext_hat_K);
    `success_rate` share of the last control commands that arrived in time, in [0, 1]; `robot_mode` in the robot's words;
    `errors` their names in the robot's words, separated by commas, known in reflex.
    """

    robot_time_ns: int
    end_effector: Pose
    joint_positions: np.ndarray
    wrench: np.ndarray
    success_rate: float
    robot_mode: str
    errors: str = ""

    @property
    def force(self) -> np.ndarray:
        """(3,) N."""
        return self.wrench[:3]
