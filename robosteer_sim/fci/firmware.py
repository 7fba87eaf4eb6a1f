"""What the robot does by itself: modes, motions, errors, and the state that it reports. Nothing here knows of networks."""

from __future__ import annotations

import logging

import numpy as np

from robosteer_sim.fci.joint_controller import JointController
from robosteer_sim.fci.kinematics import ArmKinematics
from robosteer_sim.fci.reference import CYCLE_S, MAX_JOINT_VELOCITIES, HoldReference, reference_for
from robosteer_sim.fci.versions import VERSIONS
from robosteer_sim.fci.wire import Controller, Generator, Mode, RobotError
from robosteer_sim.panda.arm import HAND_CENTRE_M, HAND_INERTIA_KG_M2, HAND_MASS_KG
from robosteer_sim.robot import FLANGE_TO_TCP_M
from robosteer_sim.world import World

logger = logging.getLogger(__name__)

#: Measured velocities may exceed the limit by this factor: the commanded ones are checked more closely.
_LARGEST_MEASURED = 1.05 * MAX_JOINT_VELOCITIES
#: Weight of the newest cycle in the estimate of external forces: a low-pass filter of 30 Hz.
_EXTERNAL_FILTER = 0.17
#: External torques and forces below this are none, Nm and N.
_NO_FORCE = 1e-6
#: Joint 4 beyond this angle is the elbow's other flip direction (robot interface specification), rad.
_ELBOW_FLIP_RAD = -0.467002423653011
_IDENTITY = np.eye(4).ravel()
#: So many cycles in a row without a command end a motion (libfranka, docs/overview.rst).
MOST_MISSED_CYCLES = 20
#: The success rate is about so many of the last cycles (libfranka, robot_state.h).
_RATED_CYCLES = 100


class Firmware:
    """The arm of `world`. The owner calls, for every cycle: `follow`, `torque`, step the world, `after_step`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.version = VERSIONS[world.arm_model]
        self._kinematics = ArmKinematics(world.arm_model)
        self._controller = JointController(world)
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
        """Take over a new scene: hold the arm where it is, forget errors."""
        self._controller.reset()
        self.mode = Mode.IDLE
        self._load = np.zeros(13)  # what contacts do: joint torques (7,), then the wrench at the end effector (6,)
        self._external = np.zeros(13)  # the same, filtered
        self._touched = False
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
        self.mode, self._generator, self._controller_mode = Mode.MOVE, generator, controller
        q = self._reference.q if generator != Generator.NONE else self._world.joint_positions()
        self._reference = reference_for(generator, self._kinematics, q)
        self._reference.followed = controller != Controller.EXTERNAL
        self._commanded_torque = np.zeros(7)
        self._missed, self._cycles, self._received = 0, 0, 0
        self.state["reflex_reason"] = 0

    def end(self) -> None:
        """The motion is over: come to rest and hold."""
        self.mode = Mode.IDLE
        self._hold(measured=not self._reference.followed)

    def reflex(self, error: RobotError) -> None:
        """Stop, whatever is commanded; nothing moves before `recover`."""
        logger.warning("reflex: %s", error.name.lower())
        self.mode = Mode.REFLEX
        self.state["errors"][error] = 1
        self.state["reflex_reason"] = 0
        self.state["reflex_reason"][error] = 1
        self._hold(measured=True)

    def recover(self) -> None:
        if self.mode == Mode.REFLEX:
            self.mode = Mode.IDLE
            self.state["errors"] = 0

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
        error = self._reference.follow(command, seconds)
        if not self._reference.followed:
            self._commanded_torque = command["tau_J_d"].copy()
        return error

    def torque(self) -> np.ndarray:
        """Joint torques (7,) Nm for the step that follows, without gravity."""
        if self._reference.followed:
            reference = self._reference
            self._commanded_torque = self._controller.torque(reference.q, reference.dq, reference.ddq)
        return self._commanded_torque

    def after_step(self) -> RobotError | None:
        """Look at the step that was made. Returns the limit that the arm has passed in a motion."""
        world = self._world
        if world.data.ncon or self._touched:
            self._load = world.external_load()
            self._external += _EXTERNAL_FILTER * (self._load - self._external)
            self._touched = bool((np.abs(self._external) > _NO_FORCE).any())
        if not self.moving:
            return None
        q, dq = world.joint_positions(), world.joint_velocities()
        if (np.abs(dq) > _LARGEST_MEASURED).any():
            return RobotError.JOINT_VELOCITY_VIOLATION
        low, high = self._kinematics.joint_range
        if (q < low).any() or (q > high).any():
            return RobotError.JOINT_POSITION_LIMITS_VIOLATION
        return None

    def _hold(self, measured: bool) -> None:
        self._generator, self._controller_mode = Generator.IDLE, Controller.OTHER
        if measured:
            q, dq = self._world.joint_positions(), self._world.joint_velocities()
        else:
            q, dq = self._reference.q, self._reference.dq
        self._reference = HoldReference(self._kinematics, q, dq)

    # --- configuration ----------------------------------------------------------------------------------------------

    def set_stiffness(self, stiffness: np.ndarray) -> None:
        """Of the robot's own joint controller, (7,) Nm/rad."""
        self._controller.stiffness = stiffness

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
        view["elbow"][:] = (q[2], 1.0 if q[3] > _ELBOW_FLIP_RAD else -1.0)
        desired = reference.q
        view["elbow_d"][:] = view["elbow_c"][:] = (desired[2], 1.0 if desired[3] > _ELBOW_FLIP_RAD else -1.0)
        view["delbow_c"][0], view["ddelbow_c"][0] = reference.dq[2], reference.ddq[2]
        self._fill_torques()
        self._fill_forces(nominal, pose)
        state = self.state
        state["motion_generator_mode"], state["controller_mode"] = self._generator, self._controller_mode
        state["robot_mode"] = self.mode
        state["control_command_success_rate"] = self._success_rate() if self.moving else 0.0

    def _success_rate(self) -> float:
        return self._received.bit_count() / self._cycles if self._cycles else 1.0

    def _fill_torques(self) -> None:
        # At the link's side of the joints, after the friction of the gears; what carries the arm's weight is seen, too.
        dofs, data, view = self._world.arm_dof, self._world.data, self._view
        torque = self._commanded_torque + data.qfrc_gravcomp[dofs] + data.qfrc_constraint[dofs] - self._load[:7]
        view["dtau_J"][:] = (torque - self._measured_torque) / CYCLE_S
        view["tau_J"][:] = self._measured_torque = torque
        view["tau_J_d"][:] = self._commanded_torque

    def _fill_forces(self, nominal: np.ndarray, pose: np.ndarray) -> None:
        view = self._view
        if not self._touched:
            view["tau_ext_hat_filtered"][:] = view["O_F_ext_hat_K"][:] = view["K_F_ext_hat_K"][:] = 0.0
            return
        # Forces that the robot exerts on the world count positive (libfranka, robot_state.h).
        exerted = -self._external
        force, moment = exerted[7:10], exerted[10:]
        # The moment is to be about the origin of K, which lies off the point between the fingertips.
        frame = pose @ self.state["EE_T_K"].reshape(4, 4).T
        moment = moment - np.cross(frame[:3, 3] - nominal[:3, 3], force)
        view["tau_ext_hat_filtered"][:] = exerted[:7]
        view["O_F_ext_hat_K"][:3], view["O_F_ext_hat_K"][3:] = force, moment
        view["K_F_ext_hat_K"][:3], view["K_F_ext_hat_K"][3:] = force @ frame[:3, :3], moment @ frame[:3, :3]
