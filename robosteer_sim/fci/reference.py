"""What the arm is to do at this cycle: the desired motion, from the client's commands or from the robot itself.

A Move request chooses one of the classes; `HoldReference` reigns between motions. Clients replan from the derivatives
that are reported back, so each reference differentiates its commands over the cycle.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import mujoco
import numpy as np

from robosteer_sim.fci import checks
from robosteer_sim.fci.checks import CYCLE_S, Checks, Names
from robosteer_sim.fci.kinematics import ArmKinematics, elbow_sign, moved_by, twist_between
from robosteer_sim.fci.wire import Generator, RobotError

#: Deceleration with which the robot stops by itself, rad/s^2.
STOP_RAD_PER_S2 = 10.0
_DAMPING = 1e-6
_EYE = np.eye(3)
#: What rounding to single precision does to an acceleration at most, rad/s^2 (checks.py).
_ROUNDED_ACCELERATION = checks.ROUNDED_RAD / CYCLE_S**2
#: How far a commanded rotation may be from orthonormal (libfranka, control_tools.h).
_ORTHONORMAL = 1e-5


class Reference(ABC):
    """`q`, `dq`, `ddq` (7,) [rad]; `pose` 4x4, `twist` and `acceleration` (6,) of the end effector, base frame."""

    #: Whether `pose` is what the client commands, rather than a consequence of its joint commands.
    cartesian = False
    #: Whether the arm's own controller follows `q`; else the client commands torques, beside a motion or without one.
    followed = True

    def __init__(self, kinematics: ArmKinematics, limits: Checks, q: np.ndarray) -> None:
        self.kinematics, self.limits = kinematics, limits
        self.q, self.dq, self.ddq = q.copy(), np.zeros(7), np.zeros(7)
        self.twist, self.acceleration = np.zeros(6), np.zeros(6)
        self._cycle_s = CYCLE_S
        kinematics.move_to(q)
        self.pose = kinematics.pose()

    @property
    def elbow(self) -> tuple[float, float, float, float]:
        """Position of joint 3 and its flip direction, then its velocity and acceleration."""
        return self.q[2], elbow_sign(self.q[3]), self.dq[2], self.ddq[2]

    @abstractmethod
    def follow(self, command: np.void, seconds: float) -> RobotError | None:
        """Take the client's command (a packet, wire.CONTROL) for a cycle of `seconds`; returns the limit that it violates."""

    def measured(self, q: np.ndarray, dq: np.ndarray, pose: np.ndarray) -> None:
        """What the arm does while the client commands torques; for a reference that has no motion of its own."""

    def finish(self) -> RobotError | None:
        """The client calls its motion finished; returns the limit that is violated where it is not at rest."""

    @abstractmethod
    def extrapolate(self, seconds: float) -> RobotError | None:
        """Go on for a cycle of `seconds` whose command has not come; returns the limit that this violates.

        Motions go on at constant acceleration, torques stay (libfranka, docs/overview.rst).
        """

    def _differentiate_joints(self, q: np.ndarray, seconds: float) -> None:
        dq = (q - self.q) / seconds
        self.ddq = (dq - self.dq) / seconds
        self.q, self.dq = q, dq

    def _differentiate_pose(self, pose: np.ndarray, seconds: float) -> None:
        twist = twist_between(self.pose, pose, seconds)
        self.acceleration = (twist - self.twist) / seconds
        self.pose, self.twist = pose, twist

    def _follow_joints(self, q: np.ndarray, seconds: float, names: Names) -> RobotError | None:
        """Take up the joint positions `q`; a violation is called by `names`."""
        before, ddq = self.q, self.ddq
        self._differentiate_joints(q, seconds)
        jerk = (self.ddq - ddq) / self._between_s(seconds)
        return self.limits.joints(
            names, before.tolist(), q.tolist(), self.dq.tolist(), self.ddq.tolist(), jerk.tolist()
        )

    def _between_s(self, seconds: float) -> float:
        # A motion's first cycle is longer than the others; its acceleration is that of its middle.
        return 0.5 * (seconds + self._cycle_s)


class HoldReference(Reference):
    """The robot's own: come to rest from `q`, `dq`, then stay there."""

    def __init__(self, kinematics: ArmKinematics, limits: Checks, q: np.ndarray, dq: np.ndarray) -> None:
        low, high = kinematics.joint_range
        super().__init__(kinematics, limits, np.clip(q, low, high))
        self.dq = dq.copy()

    def follow(self, command: np.void | None, seconds: float) -> None:
        if not self.dq.any():
            return
        dq = self.dq - np.clip(self.dq, -STOP_RAD_PER_S2 * seconds, STOP_RAD_PER_S2 * seconds)
        low, high = self.kinematics.joint_range
        self._differentiate_joints(np.clip(self.q + dq * seconds, low, high), seconds)
        self.dq = dq
        if not dq.any():
            self.ddq = np.zeros(7)
        self.kinematics.move_to(self.q)
        self.pose = self.kinematics.pose()

    def extrapolate(self, seconds: float) -> None:
        self.follow(None, seconds)


class JointPositionReference(Reference):
    """Follows q_c, or with `velocity` integrates dq_c."""

    def __init__(self, kinematics: ArmKinematics, limits: Checks, q: np.ndarray, velocity: bool = False) -> None:
        super().__init__(kinematics, limits, q)
        self._velocity = velocity
        self._names = checks.JOINT_VELOCITY if velocity else checks.JOINT_POSITION
        self._started = velocity  # a commanded velocity has no place to start from

    def follow(self, command: np.void, seconds: float) -> RobotError | None:
        if self._velocity:
            return self._move_to(self.q + seconds * command["dq_c"], seconds)
        q = command["q_c"].copy()
        if not self._started and np.abs(q - self.q).max() > checks.START_JOINT_RAD:
            return RobotError.JOINT_POSITION_MOTION_GENERATOR_START_POSE_INVALID
        self._started = True
        return self._move_to(q, seconds)

    def extrapolate(self, seconds: float) -> RobotError | None:
        return self._move_to(self.q + seconds * (self.dq + seconds * _significant(self.ddq)), seconds)

    def finish(self) -> RobotError | None:
        return self.limits.finish(self._names, self.dq.tolist(), None)

    def _move_to(self, q: np.ndarray, seconds: float) -> RobotError | None:
        error = self._follow_joints(q, seconds, self._names)
        self._cycle_s = seconds
        self.kinematics.move_to(self.q)
        self._differentiate_pose(self.kinematics.pose(), seconds)
        return error


class CartesianReference(Reference):
    """Follows O_T_EE_c, or with `velocity` integrates O_dP_EE_c, by one damped Newton step per cycle.

    Franka's own inverse kinematics is not public. This one keeps to the commanded elbow (position of joint 3) where the
    command has one, and else moves the joints as little as possible.
    """

    cartesian = True

    def __init__(self, kinematics: ArmKinematics, limits: Checks, q: np.ndarray, velocity: bool = False) -> None:
        super().__init__(kinematics, limits, q)
        self._velocity = velocity
        self._names = checks.CARTESIAN_VELOCITY if velocity else checks.CARTESIAN_POSITION
        self._joint_names = checks.INVERSE_VELOCITY if velocity else checks.INVERSE_POSITION
        self._started = velocity
        self._elbow: tuple[float, float, float, float] | None = None

    @property
    def elbow(self) -> tuple[float, float, float, float]:
        return self._elbow or super().elbow

    def follow(self, command: np.void, seconds: float) -> RobotError | None:
        if self._velocity:
            pose = moved_by(self.pose, command["O_dP_EE_c"], seconds)
        else:
            pose = command["O_T_EE_c"].reshape(4, 4, order="F").copy()
            if not np.abs(pose[:3, :3] @ pose[:3, :3].T - _EYE).max() <= _ORTHONORMAL:
                return RobotError.CARTESIAN_POSITION_MOTION_GENERATOR_INVALID_FRAME
            if not self._started and self._is_elsewhere(pose):
                return RobotError.CARTESIAN_POSITION_MOTION_GENERATOR_START_POSE_INVALID
            self._started = True
        if not command["valid_elbow"]:
            self._elbow = None
            return self._move_to(pose, seconds)
        position, sign = command["elbow_c"].tolist()
        if self._elbow is None:
            start, flip, *_ = super().elbow
            if abs(position - start) > checks.START_ELBOW_RAD or sign != flip:
                return RobotError.CARTESIAN_MOTION_GENERATOR_START_ELBOW_INVALID
            self._elbow = float(start), flip, 0.0, 0.0
        elif sign != self._elbow[1]:
            return RobotError.CARTESIAN_MOTION_GENERATOR_ELBOW_SIGN_INCONSISTENT
        return self._move_to(pose, seconds, position)

    def extrapolate(self, seconds: float) -> RobotError | None:
        elbow = None
        if self._elbow is not None:
            position, _, velocity, acceleration = self._elbow
            elbow = position + seconds * (velocity + seconds * acceleration)
        twist = self.twist + seconds * _significant(self.acceleration)
        return self._move_to(moved_by(self.pose, twist, seconds), seconds, elbow)

    def finish(self) -> RobotError | None:
        return self.limits.finish(self._names, self.dq.tolist(), self.twist.tolist())

    def _is_elsewhere(self, pose: np.ndarray) -> bool:
        away = twist_between(self.pose, pose, 1.0)
        return (
            math.hypot(*away[:3]) > checks.START_TRANSLATION_M or math.hypot(*away[3:]) > checks.START_ROTATION_RAD
        )

    def _move_to(self, pose: np.ndarray, seconds: float, elbow: float | None = None) -> RobotError | None:
        before = self.acceleration
        self._differentiate_pose(pose, seconds)
        jerk = (self.acceleration - before) / self._between_s(seconds)
        error = self.limits.cartesian(self._names, self.twist.tolist(), self.acceleration.tolist(), jerk.tolist())
        if error is not None:
            return error
        error = self._follow_joints(self.q + self._joint_step(pose, elbow), seconds, self._joint_names)
        if elbow is not None and error is None:
            error = self._follow_elbow(elbow, seconds)
        self._cycle_s = seconds
        return error

    def _follow_elbow(self, position: float, seconds: float) -> RobotError | None:
        before, sign, velocity_before, acceleration_before = self._elbow
        velocity = (position - before) / seconds
        acceleration = (velocity - velocity_before) / seconds
        jerk = (acceleration - acceleration_before) / self._between_s(seconds)
        self._elbow = position, sign, velocity, acceleration
        return self.limits.elbow(position, (velocity, acceleration, jerk))

    def _joint_step(self, pose: np.ndarray, elbow: float | None) -> np.ndarray:
        self.kinematics.move_to(self.q)
        error = twist_between(self.kinematics.pose(), pose, 1.0)
        jacobian = self.kinematics.jacobian()
        if elbow is not None:
            jacobian = np.vstack([jacobian, np.eye(7)[2]])
            error = np.append(error, elbow - self.q[2])
        damped = jacobian @ jacobian.T
        damped.ravel()[:: len(damped) + 1] += _DAMPING
        # MuJoCo's Cholesky takes a tenth of the time of numpy's solver at this size.
        mujoco.mju_cholFactor(damped, 0.0)
        solution = np.empty(len(error))
        mujoco.mju_cholSolve(solution, damped, error)
        return solution @ jacobian


class TorqueReference(Reference):
    """No motion is commanded, torques alone: the desired motion is the measured one, as `measured` keeps it."""

    def follow(self, command: np.void, seconds: float) -> None:
        """Nothing to follow: torques are applied as they are."""

    def extrapolate(self, seconds: float) -> None:
        """Nothing to go on with: the last torques stay."""

    def measured(self, q: np.ndarray, dq: np.ndarray, pose: np.ndarray) -> None:
        self.q[:], self.dq[:], self.pose = q, dq, pose


def _significant(acceleration: np.ndarray) -> np.ndarray:
    """Without what rounding in the client's states may have made of none: over 19 cycles that would add up."""
    return np.where(np.abs(acceleration) > _ROUNDED_ACCELERATION, acceleration, 0.0)


def reference_for(generator: Generator, kinematics: ArmKinematics, limits: Checks, q: np.ndarray) -> Reference:
    """The reference of a Move request's motion generator, starting at rest from `q` (7,)."""
    if generator == Generator.NONE:
        return TorqueReference(kinematics, limits, q)
    velocity = generator in (Generator.JOINT_VELOCITY, Generator.CARTESIAN_VELOCITY)
    if generator in (Generator.JOINT_POSITION, Generator.JOINT_VELOCITY):
        return JointPositionReference(kinematics, limits, q, velocity)
    return CartesianReference(kinematics, limits, q, velocity)
