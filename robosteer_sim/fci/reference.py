"""What the arm is to do at this cycle: the desired motion, from the client's commands or from the robot itself.

A Move request chooses one of the classes; `HoldReference` reigns between motions. Clients replan from the derivatives
that are reported back, so each reference differentiates its commands over the cycle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import mujoco
import numpy as np

from robosteer_sim.fci.kinematics import ArmKinematics, moved_by, twist_between
from robosteer_sim.fci.wire import Generator, RobotError

#: Joint velocity limits of the FR3 (datasheet), rad/s.
MAX_JOINT_VELOCITIES = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])
#: Cartesian velocity limits of the FR3 (datasheet), m/s and rad/s.
MAX_SPEED_M_PER_S, MAX_ANGULAR_SPEED_RAD_PER_S = 3.0, 2.5
#: Commands may reach a limit; rounding may not make them a violation.
_TOLERANCE = 1.01
_LARGEST_COMMANDED = _TOLERANCE * MAX_JOINT_VELOCITIES
#: Deceleration with which the robot stops by itself, rad/s^2.
STOP_RAD_PER_S2 = 10.0
CYCLE_S = 0.001
_DAMPING = 1e-6
_EYE = np.eye(3)


class Reference(ABC):
    """`q`, `dq`, `ddq` (7,) [rad]; `pose` 4x4, `twist` and `acceleration` (6,) of the end effector, base frame."""

    #: Whether `pose` is what the client commands, rather than a consequence of its joint commands.
    cartesian = False
    #: Whether the arm's own controller follows `q`; else the client commands torques, beside a motion or without one.
    followed = True

    def __init__(self, kinematics: ArmKinematics, q: np.ndarray) -> None:
        self.kinematics = kinematics
        self.q, self.dq, self.ddq = q.copy(), np.zeros(7), np.zeros(7)
        self.twist, self.acceleration = np.zeros(6), np.zeros(6)
        kinematics.move_to(q)
        self.pose = kinematics.pose()

    @abstractmethod
    def follow(self, command: np.void, seconds: float) -> RobotError | None:
        """Take the client's command (a packet, wire.CONTROL) for a cycle of `seconds`; returns the limit that it violates."""

    def measured(self, q: np.ndarray, dq: np.ndarray, pose: np.ndarray) -> None:
        """What the arm does while the client commands torques; for a reference that has no motion of its own."""

    @abstractmethod
    def extrapolate(self, seconds: float) -> RobotError | None:
        """Go on for a cycle of `seconds` whose command has not come; returns the limit that this violates.

        Motions go on at constant acceleration, torques stay (libfranka, docs/overview.rst).
        """

    def _follow_joints(self, q: np.ndarray, seconds: float) -> None:
        dq = (q - self.q) / seconds
        self.ddq = (dq - self.dq) / seconds
        self.q, self.dq = q, dq

    def _follow_pose(self, pose: np.ndarray, seconds: float) -> None:
        twist = twist_between(self.pose, pose, seconds)
        self.acceleration = (twist - self.twist) / seconds
        self.pose, self.twist = pose, twist

    def _joint_violation(self, position: RobotError, velocity: RobotError) -> RobotError | None:
        low, high = self.kinematics.joint_range
        if (self.q < low).any() or (self.q > high).any():
            return position
        if (np.abs(self.dq) > _LARGEST_COMMANDED).any():
            return velocity
        return None


class HoldReference(Reference):
    """The robot's own: come to rest from `q`, `dq`, then stay there."""

    def __init__(self, kinematics: ArmKinematics, q: np.ndarray, dq: np.ndarray) -> None:
        low, high = kinematics.joint_range
        super().__init__(kinematics, np.clip(q, low, high))
        self.dq = dq.copy()

    def follow(self, command: np.void | None, seconds: float) -> None:
        if not self.dq.any():
            return
        dq = self.dq - np.clip(self.dq, -STOP_RAD_PER_S2 * seconds, STOP_RAD_PER_S2 * seconds)
        low, high = self.kinematics.joint_range
        self._follow_joints(np.clip(self.q + dq * seconds, low, high), seconds)
        self.dq = dq
        if not dq.any():
            self.ddq = np.zeros(7)
        self.kinematics.move_to(self.q)
        self.pose = self.kinematics.pose()

    def extrapolate(self, seconds: float) -> None:
        self.follow(None, seconds)


class JointPositionReference(Reference):
    """Follows q_c, or with `velocity` integrates dq_c."""

    def __init__(self, kinematics: ArmKinematics, q: np.ndarray, velocity: bool = False) -> None:
        super().__init__(kinematics, q)
        self._velocity = velocity

    def follow(self, command: np.void, seconds: float) -> RobotError | None:
        return self._move_to(self.q + seconds * command["dq_c"] if self._velocity else command["q_c"].copy(), seconds)

    def extrapolate(self, seconds: float) -> RobotError | None:
        return self._move_to(self.q + seconds * (self.dq + seconds * self.ddq), seconds)

    def _move_to(self, q: np.ndarray, seconds: float) -> RobotError | None:
        self._follow_joints(q, seconds)
        self.kinematics.move_to(self.q)
        self._follow_pose(self.kinematics.pose(), seconds)
        return self._joint_violation(
            RobotError.JOINT_MOTION_GENERATOR_POSITION_LIMITS_VIOLATION,
            RobotError.JOINT_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION,
        )


class CartesianReference(Reference):
    """Follows O_T_EE_c, or with `velocity` integrates O_dP_EE_c, by one damped Newton step per cycle.

    Franka's own inverse kinematics is not public. This one keeps to the commanded elbow (position of joint 3) where the
    command has one, and else moves the joints as little as possible.
    """

    cartesian = True

    def __init__(self, kinematics: ArmKinematics, q: np.ndarray, velocity: bool = False) -> None:
        super().__init__(kinematics, q)
        self._velocity = velocity
        self._elbow: float | None = None

    def follow(self, command: np.void, seconds: float) -> RobotError | None:
        if self._velocity:
            pose = moved_by(self.pose, command["O_dP_EE_c"], seconds)
        else:
            pose = command["O_T_EE_c"].reshape(4, 4, order="F").copy()
            if np.abs(pose[:3, :3] @ pose[:3, :3].T - _EYE).max() > 1e-3:
                return RobotError.CARTESIAN_POSITION_MOTION_GENERATOR_INVALID_FRAME
        self._elbow = float(command["elbow_c"][0]) if command["valid_elbow"] else None
        return self._move_to(pose, seconds)

    def extrapolate(self, seconds: float) -> RobotError | None:
        # An elbow stays where it was commanded last.
        return self._move_to(moved_by(self.pose, self.twist + seconds * self.acceleration, seconds), seconds)

    def _move_to(self, pose: np.ndarray, seconds: float) -> RobotError | None:
        self._follow_pose(pose, seconds)
        linear, angular = self.twist[:3], self.twist[3:]
        if linear @ linear > (_TOLERANCE * MAX_SPEED_M_PER_S) ** 2 or angular @ angular > (
            (_TOLERANCE * MAX_ANGULAR_SPEED_RAD_PER_S) ** 2
        ):
            return RobotError.CARTESIAN_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION
        self._follow_joints(self.q + self._joint_step(pose, self._elbow), seconds)
        return self._joint_violation(
            RobotError.CARTESIAN_MOTION_GENERATOR_JOINT_POSITION_LIMITS_VIOLATION,
            RobotError.CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_LIMITS_VIOLATION,
        )

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


def reference_for(generator: Generator, kinematics: ArmKinematics, q: np.ndarray) -> Reference:
    """The reference of a Move request's motion generator, starting at rest from `q` (7,)."""
    if generator == Generator.NONE:
        return TorqueReference(kinematics, q)
    velocity = generator in (Generator.JOINT_VELOCITY, Generator.CARTESIAN_VELOCITY)
    if generator in (Generator.JOINT_POSITION, Generator.JOINT_VELOCITY):
        return JointPositionReference(kinematics, q, velocity)
    return CartesianReference(kinematics, q, velocity)
