"""The Franka arm through franky-control 2.x: Cartesian impedance tracking at 1 kHz in C++, set-points from here.

Facts about franky that shape this file (../shared/reference/franka_fci.md, and measured here with 2.0.0): its calls
release the interpreter lock while they block; `state`, `is_in_control` and `poll_motion` return at once while a motion
runs; `state` waits for a new packet otherwise; faults of a running motion surface only at the next `poll_motion`,
`join_motion` or `move`; its InvalidMotionTypeException and NetworkException share only the builtin Exception.
"""

from __future__ import annotations

import builtins
import logging

import numpy as np
from franky import (
    Affine,
    CartesianImpedanceTracker,
    JointMotion,
    JointStopMotion,
    NetworkException,
    RealtimeConfig,
    Robot,
    RobotMode,
    TorqueStopMotion,
    Twist,
)

from robosteer_core import rig
from robosteer_core.errors import UserError
from robosteer_core.runtime.pose import Pose
from robosteer_ros.hardware.arm.bindings import connect
from robosteer_ros.hardware.arm.driver import HOME_DYNAMICS, ArmDriver, ArmFault, Reading, describe, error_names

logger = logging.getLogger(__name__)


class FrankyDriver(ArmDriver):
    """Connects on construction. Raises UserError naming the address when there is no robot, within 3 s."""

    def __init__(self, arm: rig.Arm, limits: rig.Limits) -> None:
        self._config, self._limits = arm, limits
        self._tracker: CartesianImpedanceTracker | None = None
        self._robot = self._connect()

    def _connect(self) -> Robot:
        realtime = RealtimeConfig.Enforce if self._config.realtime else RealtimeConfig.Ignore
        # On connecting, franky sets the thresholds for contact and collision alike, in all phases of motion.
        return connect(
            self._config,
            lambda: Robot(
                self._config.address, realtime_config=realtime, default_torque_threshold=self._config.collision_torque_nm,
                default_force_threshold=self._config.collision_force_n,
            ),
        )  # fmt: skip

    def read(self) -> Reading:
        try:
            state = self._robot.state
        except builtins.Exception as error:
            raise ArmFault(describe(error)) from error
        pose = state.O_T_EE
        return Reading(
            robot_time_ns=state.time.to_msec() * 1_000_000,
            end_effector=Pose(np.array(pose.translation), np.array(pose.quaternion)),
            joint_positions=np.array(state.q),
            wrench=np.array(state.O_F_ext_hat_K),
            success_rate=float(state.control_command_success_rate),
            robot_mode=state.robot_mode.name,
            errors=error_names(repr(state.current_errors)) if state.robot_mode == RobotMode.Reflex else "",
        )

    @property
    def moving(self) -> bool:
        return self._robot.is_in_control

    def begin_tracking(self, pose: Pose) -> None:
        # The spring is clipped where the limits clip the command, so that its force stays bounded even if this
        # process stands still while someone pushes the arm away.
        try:
            self._tracker = CartesianImpedanceTracker(
                self._robot,
                translational_stiffness=self._config.translational_stiffness_n_per_m,
                rotational_stiffness=self._config.rotational_stiffness_nm_per_rad,
                translational_error_clip=np.full(3, self._limits.max_distance_m),
            )
        except builtins.Exception as error:
            raise ArmFault(describe(error)) from error
        self.track(pose, np.zeros(6))

    def track(self, pose: Pose, twist: np.ndarray) -> None:
        self._tracker.set_target(Affine(pose.position, pose.quaternion), Twist(twist[:3], twist[3:]))

    def begin_home(self) -> None:
        target = list(self._config.home_joint_positions_rad)
        self._tracker = None
        self._begin(JointMotion(target, relative_dynamics_factor=HOME_DYNAMICS))

    def begin_stop(self) -> None:
        if self._robot.is_in_control:
            self._begin(JointStopMotion() if self._tracker is None else TorqueStopMotion())

    def raise_fault(self) -> None:
        try:
            self._robot.poll_motion()
        except builtins.Exception as error:
            raise ArmFault(describe(error)) from error

    def free_for_guiding(self) -> None:
        try:
            self._robot.set_guiding_mode([True] * 6, True)
        except builtins.Exception as error:
            raise ArmFault(describe(error)) from error

    def recover(self) -> None:
        try:
            try:
                self._robot.recover_from_errors()
            except NetworkException as error:
                logger.warning("the robot at %s does not answer (%s): connecting anew", self._config.address, error)
                self._robot = self._connect()
                self._robot.recover_from_errors()
            self.await_recovery(lambda: self._robot.has_errors)
        except (UserError, ArmFault):
            raise
        except builtins.Exception as error:
            raise ArmFault(describe(error)) from error

    def _begin(self, motion: object) -> None:
        try:
            self._robot.move(motion, asynchronous=True)
        except builtins.Exception as error:
            raise ArmFault(describe(error)) from error
