"""The arm inside one process, without FCI: set-points, limits, impedance and the robot's own checks over the physics.

What runs here is what runs on the way through FCI (`TrackingSession`, `Limits`, `ChunkExecutor`, the firmware), except
the client's 1 kHz loop, which is written anew (`CartesianImpedance`), and the network.
"""

from __future__ import annotations

from collections.abc import Callable

import robosteer_sim  # noqa: F401  (chooses the OpenGL backend before mujoco is imported)
import mujoco
import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk, integrate_deltas
from robosteer_core.runtime.clock import Clock
from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.limits import malformation
from robosteer_core.runtime.observation import ArmState
from robosteer_core.runtime.pose import Pose
from robosteer_core.runtime.reading import ArmFault, Reading
from robosteer_core.runtime.runner import last_tick, tick_ns
from robosteer_core.runtime.session import LoopStatistics, TrackingSession
from robosteer_sim.direct_gripper import DirectGripper
from robosteer_sim.fci import wire
from robosteer_sim.fci.firmware import Firmware
from robosteer_sim.fci.wire import Controller, Generator
from robosteer_sim.impedance import CartesianImpedance
from robosteer_sim.world import World

MS = 1_000_000
#: Time at which every episode begins: nothing depends on what this process did before.
START_NS = 1_000_000_000


class DirectArm(Clock):
    """The arm of `world` from the scene that it holds now, tracking; an `ArmLink` and the `Clock` that goes with it.

    `sleep_until_ns` steps the physics. At one instant the caller acts first, then the set-point loop, then the gripper,
    as the lab's participants do. After a reflex `state().mode` is `fault` and `send` raises Refused.
    """

    def __init__(self, world: World, rig: Rig) -> None:
        if rig.action_space.kind != "cartesian_delta" or not rig.action_space.gripper:
            raise UserError(f"the arm takes Cartesian deltas and a gripper; the rig's action space is {rig.action_space.kind}")
        self._world, self._rig, self._now_ns = world, rig, START_NS
        self._firmware = Firmware(world)
        # As the drivers set them: for contact and collision alike, in both phases of a motion.
        arm = rig.arm
        self._firmware.contact.set_thresholds(np.repeat([arm.collision_torque_nm, arm.collision_force_n], [28, 24]))
        self._firmware.begin(Controller.EXTERNAL, Generator.NONE)
        self._command = np.zeros((), wire.CONTROL)
        self._impedance = CartesianImpedance(world, rig)
        self._error: str | None = None
        reading = self.read()
        self._impedance.target(reading.end_effector, np.zeros(6))
        self.statistics = LoopStatistics()
        self._gripper = DirectGripper(world, rig.gripper, START_NS)
        self._session = TrackingSession(rig, self, self._gripper, reading, self._gripper.opening, START_NS, self.statistics)
        self._due_ns = tick_ns(0, last_tick(0, START_NS, rig.rates.setpoint_hz) + 1, rig.rates.setpoint_hz)
        self._ticks = 0

    # --- the clock --------------------------------------------------------------------------------------------------

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until_ns(self, stamp_ns: int) -> int:
        while self._now_ns < stamp_ns:
            self._millisecond()
        return self._now_ns

    def _millisecond(self) -> None:
        if self._now_ns == self._due_ns:
            self._set_point()
        if self._now_ns == self._gripper.due_ns:
            self._gripper.tick()
        firmware, command = self._firmware, None
        if firmware.moving:
            command = self._command
            command["tau_J_d"] = self._impedance.step()
        error = firmware.follow(command)
        if error is not None:
            self._reflex(error)
        self._world.step(firmware.torque())
        error = firmware.after_step()
        if error is not None:
            self._reflex(error)
        self._gripper.after_step()
        self._now_ns += MS

    def _set_point(self) -> None:
        if self._error is None:
            if self._session.mode != "stopped":
                self._session.tick(self._now_ns, self._now_ns)
            if self._session.mode == "stopped":
                self._error = self._session.ending or f"no set-point for {self._rig.limits.stop_after_s:g} s"
                if self._firmware.moving:
                    self._firmware.end()
        hz = self._rig.rates.setpoint_hz
        self._due_ns = tick_ns(0, last_tick(0, self._now_ns, hz) + 1, hz)

    def _reflex(self, error: wire.RobotError) -> None:
        self._firmware.reflex(error)
        self._error = self._error or error.name.lower()

    # --- what commands the arm --------------------------------------------------------------------------------------

    def state(self) -> ArmState:
        """The state at this instant."""
        reading = self.read()
        mode = "fault" if self._firmware.mode == wire.Mode.REFLEX else self._session.mode
        return ArmState(
            self._now_ns, reading.end_effector, self._session.commanded, reading.joint_positions, reading.force,
            self._gripper.opening, mode,
        )  # fmt: skip

    def send(self, chunk: ActionChunk) -> None:
        """Play a chunk from the next set-point on. Raises Refused for what is no chunk, and when the arm has stopped."""
        self._require_tracking()
        reason = malformation(chunk)
        if reason is not None:
            self.statistics.interventions[reason.limit] += 1
            raise Refused(reason.words)
        self._session.submit(chunk)

    def keep(self) -> None:
        """The last chunk still stands."""
        self._require_tracking()
        self._session.keep()

    def apply(
        self, actions: np.ndarray, delay_ns: int = 0, ticks: int | None = None, over: Callable[[], bool] = lambda: False
    ) -> None:
        """Send actions (N, 7) of the rig's space, one per tick of the policy, `delay_ns` after now; it is then `ticks` ticks
        later (default N), or the first at which it is `over()`. For callers that decide at ticks alone, as an operator does.
        """
        actions, hz = np.atleast_2d(actions), self._rig.rates.policy_hz
        start, first_ns = self._session.commanded, tick_ns(START_NS, self._ticks + 1, hz)
        if delay_ns:
            self.sleep_until_ns(self._now_ns + delay_ns)
        self.send(integrate_deltas(start, actions, first_ns, int(1e9 / hz)))
        for tick in range(ticks or len(actions)):
            if tick:
                if over():
                    return
                self.keep()
            self.sleep_until_ns(tick_ns(START_NS, self._ticks + 1, hz))
            self._ticks += 1

    def _require_tracking(self) -> None:
        if self._error is not None:
            raise Refused(f"the arm is {'in fault' if self._firmware.mode == wire.Mode.REFLEX else 'stopped'} ({self._error})")

    # --- what the session asks of an arm ------------------------------------------------------------------------------

    @property
    def moving(self) -> bool:
        return self._firmware.moving

    def read(self) -> Reading:
        """What the robot reports now."""
        self._firmware.fill_state()
        state = self._firmware.state
        return Reading(
            robot_time_ns=self._now_ns,
            end_effector=_pose(state["O_T_EE"].reshape(4, 4).T.astype(float)),
            joint_positions=state["q"].astype(float),
            wrench=state["O_F_ext_hat_K"].astype(float),
            success_rate=1.0 if self.moving else 0.0,
            robot_mode=self._firmware.mode.name.lower(),
        )

    def track(self, pose: Pose, twist: np.ndarray) -> None:
        self._impedance.target(pose, twist)

    def raise_fault(self) -> None:
        if self._error is not None:
            raise ArmFault(self._error)


def _pose(matrix: np.ndarray) -> Pose:
    """As `Pose.from_matrix`, by MuJoCo: SciPy makes sure by an SVD that the matrix is a rotation, which takes longer."""
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(matrix[:3, :3]).ravel())
    return Pose(matrix[:3, 3].copy(), np.roll(quaternion, -1))
