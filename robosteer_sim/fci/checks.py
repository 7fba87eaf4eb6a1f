"""Whether a motion keeps to an arm's limits, and what the robot calls it where not.

The robot differentiates commands by backward differences over its cycle (libfranka, docs/overview.rst). What it names is one
derivative above the interface: an acceleration beyond its limit is a discontinuity of the velocity where positions are
commanded, of the acceleration where velocities are; too much jerk is one of the acceleration in both. A step breaks all limits
at once and is named as a discontinuity, so accelerations are looked at before velocities. That order is what users of
`franka-sim` have recorded from an arm; libfranka's text leaves it open.

Everything here is plain floats: at seven numbers they take a fraction of numpy's time, once per cycle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from robosteer_sim.fci.limits import ArmLimits
from robosteer_sim.fci.wire import RobotError

#: What the robot takes commands by, seconds.
CYCLE_S = 0.001
#: Clients command from the states they are told, in single precision: what rounding may add to an angle (up to 4.6 rad, the
#: step of a float32 there is 4.8e-7) and to a position or the angle of a rotation (up to 1), at most.
ROUNDED_RAD, _ROUNDED_TRANSLATION, _ROUNDED_ROTATION = 2.4e-7, 6e-8, 1.2e-7
#: The same for torques up to 87 Nm, as a rate.
_ROUNDED_NM_PER_S = 0.01
#: The measured velocity may pass the limit by this much, rad/s: the limit is exact, a measurement is not.
_MEASURED_MARGIN = 0.1
#: How far a motion's first command may lie from where the arm is held: rad for joints and elbow, m and rad for a pose. What
#: the robot allows is not published; these are what `franka-sim` assumes.
START_JOINT_RAD, START_TRANSLATION_M, START_ROTATION_RAD, START_ELBOW_RAD = 0.1, 0.05, 0.1, 0.1
_AT_REST = (0.0,) * 6


class Names(NamedTuple):
    """What a violation is called: of the range, velocity, acceleration and jerk."""

    position: RobotError
    velocity: RobotError
    acceleration: RobotError
    jerk: RobotError


_E = RobotError
JOINT_POSITION = Names(
    _E.JOINT_MOTION_GENERATOR_POSITION_LIMITS_VIOLATION,
    _E.JOINT_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION,
    _E.JOINT_MOTION_GENERATOR_VELOCITY_DISCONTINUITY,
    _E.JOINT_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY,
)
JOINT_VELOCITY = JOINT_POSITION._replace(acceleration=_E.JOINT_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY)
CARTESIAN_POSITION = Names(
    _E.CARTESIAN_POSITION_LIMITS_VIOLATION,
    _E.CARTESIAN_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION,
    _E.CARTESIAN_MOTION_GENERATOR_VELOCITY_DISCONTINUITY,
    _E.CARTESIAN_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY,
)
CARTESIAN_VELOCITY = CARTESIAN_POSITION._replace(acceleration=_E.CARTESIAN_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY)
#: The joints' motion that comes out of the inverse kinematics.
INVERSE_POSITION = Names(
    _E.CARTESIAN_MOTION_GENERATOR_JOINT_POSITION_LIMITS_VIOLATION,
    _E.CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_LIMITS_VIOLATION,
    _E.CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_DISCONTINUITY,
    _E.CARTESIAN_MOTION_GENERATOR_JOINT_ACCELERATION_DISCONTINUITY,
)
INVERSE_VELOCITY = INVERSE_POSITION._replace(
    acceleration=_E.CARTESIAN_MOTION_GENERATOR_JOINT_ACCELERATION_DISCONTINUITY
)


class Checks:
    """The checks against `limits`. Each returns the first limit that is violated, or None."""

    def __init__(self, limits: ArmLimits) -> None:
        self.limits = limits
        velocity, acceleration, jerk = (ROUNDED_RAD / CYCLE_S**order for order in (1, 2, 3))
        self._tolerance = velocity
        self._ranges = tuple(
            (low - ROUNDED_RAD, high + ROUNDED_RAD) for low, high in zip(limits.position_low, limits.position_high)
        )
        self._acceleration = tuple(largest + acceleration for largest in limits.acceleration)
        self._jerk = tuple(largest + jerk for largest in limits.jerk)
        self._torque_rate = tuple(largest + _ROUNDED_NM_PER_S for largest in limits.torque_rate)
        self._envelope = tuple(
            (low, high, largest, offset, 2.0 * deceleration)
            for low, high, largest, offset, deceleration in zip(
                limits.position_low, limits.position_high, limits.velocity, limits.velocity_offset, limits.deceleration
            )
        )
        self._translation, self._rotation = (
            [largest + rounded / CYCLE_S**order for order, largest in enumerate(derivatives, 1)]
            for derivatives, rounded in (
                (limits.translation, _ROUNDED_TRANSLATION), (limits.rotation, _ROUNDED_ROTATION)
            )
        )  # fmt: skip
        self._elbow = tuple(largest + ROUNDED_RAD / CYCLE_S**order for order, largest in enumerate(limits.elbow, 1))

    def joints(
        self, names: Names, before: Sequence[float], q: Sequence[float], dq: Sequence[float], ddq: Sequence[float],
        jerk: Sequence[float],
    ) -> RobotError | None:  # fmt: skip
        """A commanded joint motion (7,) from `before` to `q` within a cycle."""
        for value, (low, high) in zip(q, self._ranges):
            if not low <= value <= high:
                return names.position
        if _beyond(ddq, self._acceleration):
            return names.acceleration
        # The client could know the velocity's limit only for the position that it was told.
        if self._faster(before, dq, self._tolerance):
            return names.velocity
        if _beyond(jerk, self._jerk):
            return names.jerk
        return None

    def cartesian(
        self, names: Names, twist: Sequence[float], acceleration: Sequence[float], jerk: Sequence[float]
    ) -> RobotError | None:
        """A commanded motion of the end effector: (6,), linear before angular."""
        for values, order, name in ((acceleration, 1, names.acceleration), (twist, 0, names.velocity), (jerk, 2, names.jerk)):
            x, y, z, rx, ry, rz = values
            if not (math.hypot(x, y, z) <= self._translation[order] and math.hypot(rx, ry, rz) <= self._rotation[order]):
                return name
        return None

    def elbow(self, position: float, derivatives: Sequence[float]) -> RobotError | None:
        """A commanded elbow, which is joint 3's position, and its velocity, acceleration and jerk."""
        low, high = self._ranges[2]
        if not low <= position <= high or _beyond(derivatives, self._elbow):
            return RobotError.CARTESIAN_MOTION_GENERATOR_ELBOW_LIMIT_VIOLATION
        return None

    def torques(self, torque: Sequence[float], before: Sequence[float], seconds: float) -> RobotError | None:
        """Commanded torques (7,) Nm, `seconds` after those `before`."""
        if _beyond(torque, self.limits.torque):
            return RobotError.TAU_J_RANGE_VIOLATION
        if _beyond([(new - old) / seconds for new, old in zip(torque, before)], self._torque_rate):
            return RobotError.CONTROLLER_TORQUE_DISCONTINUITY
        return None

    def measured(self, q: Sequence[float], dq: Sequence[float], speed: float) -> RobotError | None:
        """What the arm does: positions and velocities (7,), and the speed of the end effector in m/s."""
        for value, (low, high) in zip(q, self._ranges):
            if not low <= value <= high:
                return RobotError.JOINT_POSITION_LIMITS_VIOLATION
        if self._faster(q, dq, _MEASURED_MARGIN):
            return RobotError.JOINT_VELOCITY_VIOLATION
        if speed > self.limits.translation.velocity:
            return RobotError.CARTESIAN_VELOCITY_VIOLATION
        return None

    def finish(self, names: Names, dq: Sequence[float], twist: Sequence[float] | None) -> RobotError | None:
        """A motion that is called finished while its command goes at `dq` (7,) and, where that is a pose, `twist` (6,): the
        robot takes it for a step to rest (libfranka issue 137: "Motion finished commanded, but the robot is still moving!")."""
        if twist is not None:
            return self.cartesian(names, _AT_REST, [speed / CYCLE_S for speed in twist], _AT_REST)
        return names.acceleration if _beyond([speed / CYCLE_S for speed in dq], self._acceleration) else None

    def outside(self, q: Sequence[float]) -> bool:
        """Whether a joint is out of its range."""
        return any(not low <= value <= high for value, (low, high) in zip(q, self._ranges))

    def _faster(self, q: Sequence[float], dq: Sequence[float], tolerance: float) -> bool:
        """Whether velocities lie out of `ArmLimits.velocity_range`, squared to save the roots."""
        for at, speed, (low, high, largest, offset, twice) in zip(q, dq, self._envelope):
            if speed > tolerance:
                speed -= tolerance
                if speed > largest or (speed + offset) ** 2 > twice * (high - at):
                    return True
            elif not speed >= -tolerance:
                speed += tolerance
                if not speed >= -largest or (offset - speed) ** 2 > twice * (at - low):
                    return True
        return False


def _beyond(values: Sequence[float], largest: Sequence[float]) -> bool:
    for value, limit in zip(values, largest):
        if not -limit <= value <= limit:
            return True
    return False
