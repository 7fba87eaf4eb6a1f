"""What the robot does by itself: modes, motions, errors, and the state that it reports. Nothing here knows of networks."""

from __future__ import annotations

import logging
import math

import numpy as np

from robosteer_core.errors import UserError
from robosteer_sim.fci.cartesian_controller import CartesianController
from robosteer_sim.fci.checks import CYCLE_S, Checks
from robosteer_sim.fci.contact import ContactSense
from robosteer_sim.fci.joint_controller import JointController
from robosteer_sim.fci.kinematics import ArmKinematics, elbow_sign
from robosteer_sim.fci.limits import LIMITS
from robosteer_sim.fci.reference import HoldReference, TorqueReference, reference_for
from robosteer_sim.fci.versions import VERSIONS
from robosteer_sim.fci.wire import Controller, Generator, Mode, RecoveryStatus, RobotError
from robosteer_sim.panda.arm import HAND_CENTRE_M, HAND_INERTIA_KG_M2, HAND_MASS_KG
from robosteer_sim.robot import FLANGE_TO_TCP_M
from robosteer_sim.world import World

logger = logging.getLogger(__name__)

_IDENTITY = np.eye(4).ravel()
#: So many cycles in a row without a command end a motion (libfranka, docs/overview.rst).
MOST_MISSED_CYCLES = 20
#: The success rate is about so many of the last cycles (libfranka, robot_state.h).
_RATED_CYCLES = 100
#: For so many cycles after a collision the arm brakes without a spring; then it holds where it is, and presses no more.
_BRAKING_CYCLES = 100


class Firmware:
    """The arm of `world`. The owner calls, for every cycle: `follow`, `torque`, step the world, `after_step`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.version = VERSIONS[world.arm_model]
        self._kinematics = ArmKinematics(world.arm_model)
        self._checks = Checks(LIMITS[world.arm_model])
        self._controller, self._cartesian_controller = JointController(world), CartesianController(world)
        self.contact = ContactSense()
        self._stopped_by_user = False
        self._guiding_free, self._guiding_elbow = np.ones(6, bool), True
        self.state = state = np.zeros((), self.version.state)
        self._view = {name: state[name] for name in state.dtype.names if state[name].shape}
        state["EE_T_K"] = state["NE_T_EE"] = _IDENTITY
        self._flange_to_hand = np.eye(4)
        self._flange_to_hand[:2, :2] = np.sqrt(0.5) * np.array([[1, 1], [-1, 1]])  # the hand is turned by -45 degrees
        self._flange_to_hand[2, 3] = FLANGE_TO_TCP_M
        state["F_T_NE"] = state["F_T_EE"] = self._flange_to_hand.ravel(order="F")
        state["m_ee"], state["F_x_Cee"], state["I_ee"] = HAND_MASS_KG, HAND_CENTRE_M, HAND_INERTIA_KG_M2.ravel()
        state["O_ddP_O"] = (0.0, 0.0, -9.81)
        self.reset()

    def reset(self) -> None:
        """Take over a new scene: hold the arm where it is, forget errors. A user stop stays pressed."""
        self._controller.reset()
        self.mode = Mode.USER_STOPPED if self._stopped_by_user else Mode.IDLE
        self.contact.reset()
        self._braking = 0
        self._measured_torque = np.zeros(7)
        self._commanded_torque = np.zeros(7)
        self.state["errors"] = self.state["reflex_reason"] = 0
        self._hold(measured=True)

    @property
    def moving(self) -> bool:
        return self.mode == Mode.MOVE

    @property
    def motion(self) -> str:
        """What the running motion commands, e.g. `cartesian position`; `torques`; `none` between motions."""
        if not self.moving:
            return "none"
        return "torques" if not self._reference.followed else self._generator.name.lower().replace("_", " ")

    # --- motions ----------------------------------------------------------------------------------------------------

    def begin(self, controller: Controller, generator: Generator) -> None:
        """Begin a motion at rest where the arm is held."""
        self._braking = 0
        self.mode, self._generator, self._controller_mode = Mode.MOVE, generator, controller
        q = self._reference.q if generator != Generator.NONE else self._world.joint_positions()
        self._reference = reference_for(generator, self._kinematics, self._checks, q)
        self._reference.followed = controller != Controller.EXTERNAL
        self._commanded_torque = np.zeros(7)
        self._missed, self._cycles, self._received = 0, 0, 0
        self._position: list[float] | None = None
        self.state["reflex_reason"] = 0

    def finish(self) -> RobotError | None:
        """The client calls its motion finished. Returns the limit that this violates, where what it commands still moves."""
        error = self._reference.finish() if self._generator != Generator.NONE else None
        if error is None:
            self.end()
        return error

    def end(self) -> None:
        """The motion is over: come to rest and hold."""
        self.mode = Mode.IDLE
        self._hold(measured=not self._reference.followed)

    def reflex(self, error: RobotError) -> None:
        """Stop, whatever is commanded; nothing moves before `recover`."""
        logger.warning("reflex: %s", error.name.lower())
        self.mode = Mode.USER_STOPPED if self._stopped_by_user else Mode.REFLEX
        self.state["errors"][error] = 1
        self.state["reflex_reason"] = 0
        self.state["reflex_reason"][error] = 1
        self._braking = _BRAKING_CYCLES if error in (RobotError.JOINT_REFLEX, RobotError.CARTESIAN_REFLEX) else 0
        self._hold(measured=True)

    def recover(self) -> RecoveryStatus:
        """Forget errors, where their cause is gone."""
        if self._stopped_by_user:
            return RecoveryStatus.EMERGENCY_ABORTED
        if self.mode in (Mode.MOVE, Mode.GUIDING):
            return RecoveryStatus.NOT_POSSIBLE
        if self.mode == Mode.REFLEX:
            if self._checks.outside(self._world.joint_positions().tolist()):
                return RecoveryStatus.MANUAL_RECOVERY_REQUIRED
            self.mode = Mode.IDLE
            self.state["errors"] = 0
        self.contact.forget()
        return RecoveryStatus.SUCCESS

    def user_stop(self, pressed: bool) -> None:
        """Press the user stop, which ends whatever the arm does, or release it."""
        self._stopped_by_user = pressed
        if pressed:
            self.mode = Mode.USER_STOPPED
            self._hold(measured=True)
        elif self.mode == Mode.USER_STOPPED:
            self.mode = self._mode_at_rest()

    def guide(self, active: bool) -> None:
        """Press or release the buttons at the hand by which somebody leads the arm: pressed, it yields.

        Raises UserError unless the arm is at rest.
        """
        if active and self.mode not in (Mode.IDLE, Mode.REFLEX):
            raise UserError(f"the arm can be guided only at rest: its mode is {self.mode.name.lower()}")
        if active:
            self.mode = Mode.GUIDING
            self._reference = TorqueReference(self._kinematics, self._checks, self._world.joint_positions())
            self._reference.followed = False
            self._guided_from = self._reference.pose, self._reference.q.copy()
        elif self.mode == Mode.GUIDING:
            self.mode = self._mode_at_rest()
            self._hold(measured=True)

    def _mode_at_rest(self) -> Mode:
        return Mode.REFLEX if self.state["errors"].any() else Mode.IDLE

    def follow(self, command: np.void | None, seconds: float = CYCLE_S) -> RobotError | None:
        """Take the client's command for the coming cycle: None between motions, and in a motion's cycle that had none.

        A motion without a command goes on by itself for fewer than 20 cycles. Returns the limit that is violated.
        """
        if self.moving:
            self._cycles = min(self._cycles + 1, _RATED_CYCLES)
            self._received = self._received << 1 & (1 << _RATED_CYCLES) - 1 | (command is not None)
            if command is None:
                self._missed += 1
                if self._missed >= MOST_MISSED_CYCLES:
                    return RobotError.COMMUNICATION_CONSTRAINTS_VIOLATION
                return self._reference.extrapolate(seconds)
            self._missed = 0
        elif self.mode == Mode.GUIDING:
            return None
        elif self._braking:
            self._braking -= 1
            self._reference = HoldReference(self._kinematics, self._checks, self._world.joint_positions(), np.zeros(7))
            return None
        error = self._reference.follow(command, seconds)
        if not self._reference.followed:
            torque = command["tau_J_d"].copy()
            if error is None:
                error = self._checks.torques(torque.tolist(), self._commanded_torque.tolist(), seconds)
            self._commanded_torque = torque
        return error

    def torque(self) -> np.ndarray:
        """Joint torques (7,) Nm for the step that follows, without gravity."""
        reference = self._reference
        if self.mode == Mode.GUIDING:
            pose, q = self._guided_from
            self._commanded_torque = self._cartesian_controller.guided(
                pose, q, self._pose(), self._guiding_free, self._guiding_elbow
            )
        elif reference.followed and self._controller_mode == Controller.CARTESIAN_IMPEDANCE:
            self._commanded_torque = self._cartesian_controller.torque(
                reference.pose, reference.twist, reference.q, reference.dq, self._pose(), self._stiffness_offset()
            )
        elif reference.followed:
            self._commanded_torque = self._controller.torque(reference.q, reference.dq, reference.ddq)
        return self._commanded_torque

    def after_step(self) -> RobotError | None:
        """Look at the step that was made. Returns the limit that the arm has passed in a motion, or the collision."""
        world, contact = self._world, self.contact
        if world.data.ncon or contact.touched:
            nominal = world.end_effector_pose()
            frame = self._kinematics.with_tool(nominal) @ self._stiffness_offset()
            contact.feel(world, frame[:3, 3] - nominal[:3, 3])
        collision = contact.judge(self._reference.ddq)
        if not self.moving:
            return None
        before, self._position = self._position, self._end_effector_position()
        speed = math.dist(before, self._position) / CYCLE_S if before else 0.0
        error = self._checks.measured(world.joint_positions().tolist(), world.joint_velocities().tolist(), speed)
        return collision if error is None else error

    def _pose(self) -> np.ndarray:
        return self._kinematics.with_tool(self._world.end_effector_pose())

    def _end_effector_position(self) -> list[float]:
        return self._pose()[:3, 3].tolist()

    def _stiffness_offset(self) -> np.ndarray:
        return self.state["EE_T_K"].reshape(4, 4).T

    def _hold(self, measured: bool) -> None:
        self._generator, self._controller_mode = Generator.IDLE, Controller.OTHER
        if measured:
            q, dq = self._world.joint_positions(), self._world.joint_velocities()
        else:
            q, dq = self._reference.q, self._reference.dq
        self._reference = HoldReference(self._kinematics, self._checks, q, dq)

    # --- configuration ----------------------------------------------------------------------------------------------

    def set_stiffness(self, stiffness: np.ndarray) -> None:
        """Of the robot's own joint controller, (7,) Nm/rad."""
        self._controller.stiffness = stiffness

    def set_cartesian_stiffness(self, stiffness: np.ndarray) -> None:
        """Of the robot's own Cartesian controller, (6,) N/m and Nm/rad, in the axes of the stiffness frame."""
        self._cartesian_controller.stiffness = stiffness

    def set_guiding_mode(self, free: np.ndarray, elbow: bool) -> None:
        """Which axes of the base (6,) bool yield to who guides the arm, and whether the elbow does."""
        self._guiding_free, self._guiding_elbow = free, elbow

    def set_tool(self, tool: np.ndarray) -> None:
        """NE_T_EE: the end effector (4x4) in the nominal end effector frame. Between motions only."""
        self._kinematics.tool = tool
        self.state["NE_T_EE"] = tool.ravel(order="F")
        self.state["F_T_EE"] = (self._flange_to_hand @ tool).ravel(order="F")
        self._hold(measured=False)

    # --- report -----------------------------------------------------------------------------------------------------

    def fill_state(self) -> None:
        """Write what is known at this instant into `state`."""
        view, world, reference = self._view, self._world, self._reference
        q, dq = world.joint_positions(), world.joint_velocities()
        nominal = world.end_effector_pose()
        pose = self._kinematics.with_tool(nominal)
        if not reference.followed:
            reference.measured(q, dq, pose)
        view["q"][:] = view["theta"][:] = q
        view["dq"][:] = view["dtheta"][:] = dq
        view["O_T_EE"][:] = pose.T.ravel()
        view["q_d"][:], view["dq_d"][:], view["ddq_d"][:] = reference.q, reference.dq, reference.ddq
        view["O_T_EE_d"][:] = view["O_T_EE_c"][:] = reference.pose.T.ravel()
        view["O_dP_EE_d"][:] = view["O_dP_EE_c"][:] = reference.twist
        view["O_ddP_EE_c"][:] = reference.acceleration
        view["elbow"][:] = (q[2], elbow_sign(q[3]))
        view["elbow_d"][:] = (reference.q[2], elbow_sign(reference.q[3]))
        position, sign, view["delbow_c"][0], view["ddelbow_c"][0] = reference.elbow
        view["elbow_c"][:] = (position, sign)
        self._fill_torques()
        self._fill_forces(pose)
        state = self.state
        state["motion_generator_mode"], state["controller_mode"] = self._generator, self._controller_mode
        state["robot_mode"] = self.mode
        state["control_command_success_rate"] = self._success_rate() if self.moving else 0.0

    def _success_rate(self) -> float:
        return self._received.bit_count() / self._cycles if self._cycles else 1.0

    def _fill_torques(self) -> None:
        # At the link's side of the joints, after the friction of the gears; what carries the arm's weight is seen, too.
        dofs, data, view = self._world.arm_dof, self._world.data, self._view
        torque = self._commanded_torque + data.qfrc_gravcomp[dofs] + data.qfrc_constraint[dofs] - self.contact.load[:7]
        view["dtau_J"][:] = (torque - self._measured_torque) / CYCLE_S
        view["tau_J"][:] = self._measured_torque = torque
        view["tau_J_d"][:] = self._commanded_torque

    def _fill_forces(self, pose: np.ndarray) -> None:
        view, contact = self._view, self.contact
        view["joint_contact"][:], view["cartesian_contact"][:] = contact.contact[:7], contact.contact[7:]
        view["joint_collision"][:], view["cartesian_collision"][:] = contact.collision[:7], contact.collision[7:]
        view["tau_ext_hat_filtered"][:], view["O_F_ext_hat_K"][:] = contact.torques, contact.wrench
        if not contact.touched:
            view["K_F_ext_hat_K"][:] = 0.0
            return
        axes = pose[:3, :3] @ self._stiffness_offset()[:3, :3]
        view["K_F_ext_hat_K"][:3], view["K_F_ext_hat_K"][3:] = contact.wrench[:3] @ axes, contact.wrench[3:] @ axes
