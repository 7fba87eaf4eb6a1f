"""What an arm is able to do, and may be commanded: the numbers that the robot enforces, each with its source.

Sources: [spec] Franka's "Control Interface Specification and Robot Limits" (frankarobotics/docs, robot_specifications.rst and
the tables beside it); [urdf] `franka_description`, the model that the robot hands to its clients, from which libfranka takes
the position-based velocity limits; [rate] libfranka, include/franka/rate_limiting.h, which aims 0.001 below each limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

Joints = tuple[float, float, float, float, float, float, float]
_UNLIMITED = (math.inf,) * 7


class Derivatives(NamedTuple):
    """Largest first, second and third derivative: of metres or of radians, by seconds."""

    velocity: float
    acceleration: float
    jerk: float


@dataclass(frozen=True)
class ArmLimits:
    """Joint limits (7,) in rad, rad/s, rad/s^2, rad/s^3, Nm and Nm/s; Cartesian ones as norms, of the end effector.

    Where a joint comes near the end of its range, its velocity towards that end is limited to
    sqrt(2 deceleration (end - q)) - velocity_offset. An arm without such limits has a deceleration that is infinite.
    """

    position_low: Joints
    position_high: Joints
    velocity: Joints
    acceleration: Joints
    jerk: Joints
    torque: Joints
    torque_rate: Joints
    translation: Derivatives
    rotation: Derivatives
    elbow: Derivatives
    velocity_offset: Joints = (0.0,) * 7
    deceleration: Joints = _UNLIMITED

    def velocity_range(self, joint: int, q: float) -> tuple[float, float]:
        """Least and largest velocity of a joint (counted from 0) at the position `q`, rad/s; [spec], position-based limits."""
        largest, offset, deceleration = self.velocity[joint], self.velocity_offset[joint], self.deceleration[joint]
        if math.isinf(deceleration):
            return -largest, largest
        below = math.sqrt(max(0.0, 2.0 * deceleration * (q - self.position_low[joint]))) - offset
        above = math.sqrt(max(0.0, 2.0 * deceleration * (self.position_high[joint] - q))) - offset
        return max(-largest, min(0.0, -below)), min(largest, max(0.0, above))


FR3 = ArmLimits(
    # [spec] and [urdf]; the ranges of libfranka's deprecated functions [rate], +-2.7501 for joint 1, are of earlier systems.
    position_low=(-2.9007, -1.8361, -2.9007, -3.0770, -2.8763, 0.4398, -3.0508),
    position_high=(2.9007, 1.8361, 2.9007, -0.1169, 2.8763, 4.6216, 3.0508),
    velocity=(2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26),  # [spec], [urdf]
    acceleration=(10.0,) * 7,  # [spec], [rate]
    jerk=(5000.0,) * 7,  # [spec], [rate]
    torque=(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0),  # [spec], [urdf]
    torque_rate=(1000.0,) * 7,  # [spec], [rate]
    translation=Derivatives(3.0, 9.0, 4500.0),  # [spec], [rate]
    rotation=Derivatives(2.5, 17.0, 8500.0),  # [spec], [rate]
    elbow=Derivatives(2.62, 10.0, 5000.0),  # [spec]; [rate] aims at 1.5 rad/s
    # [urdf], because clients reckon with these; [spec] differs by up to 0.008 rad/s.
    velocity_offset=(0.652, 0.25, 0.2005, 0.3542, 0.5738, 0.4885, 0.4592),
    deceleration=(6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0),  # [urdf], [spec]
)

#: The Panda, which Franka also calls FER: [spec].
FER = ArmLimits(
    position_low=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
    position_high=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    velocity=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
    acceleration=(15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0),
    jerk=(7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0),
    torque=(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0),
    torque_rate=(1000.0,) * 7,
    translation=Derivatives(1.7, 13.0, 6500.0),
    rotation=Derivatives(2.5, 25.0, 12500.0),
    elbow=Derivatives(2.175, 10.0, 5000.0),
)

#: By the arm (`arm.model` of a rig).
LIMITS = {"fr3": FR3, "panda": FER}
