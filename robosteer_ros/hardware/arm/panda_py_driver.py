"""The Panda through panda-python 1.1: Cartesian impedance at 1 kHz in C++, set-points from here.

Facts about panda-python that shape this file (its source, and measured here with 1.1.1): `start_controller` begins a thread
and returns; `get_state` returns at once what the control loop saw last while a controller runs, and waits for a packet else;
a fault ends the control loop, but `is_moving` stays true, and only `raise_error` tells, once. `stop_controller` keeps the
interpreter while it waits for the loop, which may itself want it to log why it ended: `teaching_mode(False)` does the same
without keeping it. Starting anything recovers from errors unasked. An exception of the virtual joint walls in the loop, a
start outside the joint limits, would end the process; so would its destructor where the robot is gone, which is why a Panda
is never let go.
"""

from __future__ import annotations

import builtins
import ctypes
import logging
import os
import re
import socket
import stat
import threading
import time

import numpy as np
from panda_py import Panda
from panda_py.controllers import CartesianImpedance
from panda_py.libfranka import RealtimeConfig, RobotMode

from robosteer_core import rig
from robosteer_core.runtime.pose import Pose
from robosteer_ros.hardware.arm.bindings import FCI_PORT, connect
from robosteer_ros.hardware.arm.driver import HOME_DYNAMICS, ArmDriver, ArmFault, Reading, describe, error_names

logger = logging.getLogger(__name__)

#: Of a mass of 1 kg; the arm's hand moves like a larger one. Overshoot when the command stops at 0.15 m/s: 4.8 mm at 1.0,
#: 3.1 mm at 1.4 (the FR3 through franky: 2.8 mm), in the lab at 1000 N/m.
DAMPING_RATIO = 1.4
#: A motion counts as ended when no joint moves faster than this, rad/s, or after so much robot time all the same, s.
REST_RAD_PER_S, REST_WITHIN_S = 0.01, 2.0
REST_PERIOD_S = 0.005
#: Words of libfranka's errors that mean that the connection is gone.
_LOST = re.compile(r"UDP|TCP|server closed|connection", re.IGNORECASE)


class PandaPyDriver(ArmDriver):
    """Connects on construction. Raises UserError naming the address when there is no robot, within 3 s."""

    def __init__(self, arm: rig.Arm, limits: rig.Limits) -> None:
        self._config = arm
        stiffness = np.array([arm.translational_stiffness_n_per_m] * 3 + [arm.rotational_stiffness_nm_per_rad] * 3)
        # The controller takes the vector part of a quaternion, half the angle, for the rotation.
        self._impedance = stiffness * [1, 1, 1, 2, 2, 2]
        # The controller damps every motion, with twice the ratio times sqrt(K). To damp only what differs from the commanded twist is the same
        # as to lead the pose by damping over stiffness.
        self._lead_s = 2 * DAMPING_RATIO * np.sqrt(self._impedance) / stiffness
        self._lock = threading.Lock()
        self._motion: str | None = None
        self._failure: BaseException | None = None
        self._controller: CartesianImpedance | None = None
        self._home: threading.Thread | None = None
        self._panda = self._connect()

    def _connect(self) -> Panda:
        realtime = RealtimeConfig.kEnforce if self._config.realtime else RealtimeConfig.kIgnore
        panda = connect(self._config, lambda: Panda(self._config.address, realtime_config=realtime))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(panda))
        torque, force = [self._config.collision_torque_nm] * 7, [self._config.collision_force_n] * 6
        panda.get_robot().set_collision_behavior(torque, torque, force, force)
        return panda

    def read(self) -> Reading:
        state = self._state()
        return Reading(
            robot_time_ns=state.time.to_msec() * 1_000_000,
            end_effector=Pose.from_matrix(np.reshape(state.O_T_EE, (4, 4), order="F")),
            joint_positions=np.array(state.q),
            wrench=np.array(state.O_F_ext_hat_K),
            success_rate=float(state.control_command_success_rate),
            robot_mode=state.robot_mode.name.removeprefix("k"),
            errors=error_names(repr(state.current_errors)) if state.robot_mode == RobotMode.kReflex else "",
        )

    def _state(self):
        # While a motion begins or ends the binding itself reads the robot, and two readers at once fail both.
        if self._motion is None or self._panda.is_moving():
            try:
                self._last_state = self._panda.get_state()
            except builtins.Exception as error:
                raise ArmFault(describe(error)) from error
        return self._last_state

    @property
    def moving(self) -> bool:
        if self._motion == "tracking":
            self._look()
        return self._motion is not None

    def _look(self) -> None:
        """Find out whether the control loop has ended by a fault."""
        with self._lock:
            if self._motion != "tracking":
                return
            try:
                self._panda.raise_error()
            except builtins.Exception as error:
                self._failure = error
                self._let_go()

    def begin_tracking(self, pose: Pose) -> None:
        # The binding cannot clip the spring: what bounds its force while this process stands still and someone pushes the
        # arm away is the robot's own collision reflex.
        self._prepare()
        self._joints = np.array(self._state().q)
        self._controller = CartesianImpedance(np.diag(self._impedance), DAMPING_RATIO)
        self._motion = "tracking"
        try:
            self._panda.start_controller(self._controller)
        except builtins.Exception as error:
            self._motion = None
            raise ArmFault(describe(error)) from error
        self.track(pose, np.zeros(6))

    def track(self, pose: Pose, twist: np.ndarray) -> None:
        led = pose.moved(self._lead_s * twist)
        self._controller.set_control(led.position, led.quaternion, self._joints)

    def begin_home(self) -> None:
        self._prepare()
        self._motion = "home"
        self._home = threading.Thread(target=self._go_home, name="home", daemon=True)
        self._home.start()

    def _go_home(self) -> None:
        target = np.array(self._config.home_joint_positions_rad)
        try:
            arrived = self._panda.move_to_joint_position(target, speed_factor=HOME_DYNAMICS)
            self._panda.raise_error()
            if not arrived and self._motion == "home":
                short = np.abs(self._state().q - target).max()
                raise ArmFault(f"the arm came to rest {short:.3f} rad from home")
        except builtins.Exception as error:
            self._failure = error
        self._let_go()

    def _let_go(self) -> None:
        """After a motion's loop has ended, by itself or by a fault: until then it counts as running, with old states."""
        try:
            self._panda.stop_controller()
        except builtins.Exception:
            logger.debug("no state of the robot after a motion", exc_info=True)
        self._motion = None

    def begin_stop(self) -> None:
        with self._lock:
            motion = self._motion
            if motion not in ("tracking", "home"):
                return
            self._motion = "stop"
        if motion == "tracking":
            # Held where it is now the arm comes to rest softly; only then the robot's own controller takes over.
            try:
                self.track(self.read().end_effector, np.zeros(6))
            except ArmFault:
                # It is held at the last set-point; what the fault is shows while the tracking ends.
                logger.warning("where the arm is cannot be told as it is stopped", exc_info=True)
        ending = self._end_tracking if motion == "tracking" else self._end_home
        threading.Thread(target=ending, name="coming to rest", daemon=True).start()

    def _end_tracking(self) -> None:
        try:
            state = self._panda.get_state()
            until_ms = state.time.to_msec() + REST_WITHIN_S * 1000
            while np.abs(state.dq).max() > REST_RAD_PER_S and state.time.to_msec() < until_ms:
                time.sleep(REST_PERIOD_S)
                self._panda.raise_error()
                state = self._panda.get_state()
            self._panda.teaching_mode(False)
            self._panda.raise_error()
        except builtins.Exception as error:
            self._failure = error
        self._let_go()

    def _end_home(self) -> None:
        # Before the way home has begun there is nothing to stop, and just when it begins a stop is forgotten.
        while self._home.is_alive():
            if self._panda.is_moving():
                self._panda.stop_controller()
            self._home.join(REST_PERIOD_S)

    def raise_fault(self) -> None:
        if self._failure is not None:
            raise ArmFault(describe(self._failure)) from self._failure

    def free_for_guiding(self) -> None:
        try:
            self._panda.get_robot().set_guiding_mode([True] * 6, True)
        except builtins.Exception as error:
            raise ArmFault(describe(error)) from error

    def recover(self) -> None:
        try:
            self._state()
        except ArmFault as fault:
            # Asked over a lost connection, libfranka 0.9 would wait for its answer for ever.
            if not _LOST.search(str(fault)):
                raise
            logger.warning("the robot at %s does not answer (%s): connecting anew", self._config.address, fault)
            _hang_up(self._config.address)
            self._panda = self._connect()
        try:
            self._panda.get_robot().automatic_error_recovery()
        except builtins.Exception as error:
            raise ArmFault(describe(error)) from error
        self._failure = None
        self.await_recovery(lambda: bool(self._state().current_errors))

    def _prepare(self) -> None:
        """Before a motion. Raises ArmFault where the binding would do more, or worse, than begin it."""
        state = self._state()
        if state.current_errors or state.robot_mode.name not in ("kIdle", "kMove"):
            raise ArmFault(f"the robot is in mode {state.robot_mode.name.removeprefix('k')} {state.current_errors}: recover it first")
        low, high = self._panda.get_joint_limits_lower(), self._panda.get_joint_limits_upper()
        beyond = [f"joint {n + 1} at {q:.3f} rad" for n, q in enumerate(state.q) if not low[n] < q < high[n]]
        if beyond:
            raise ArmFault(f"{', '.join(beyond)}: outside of the range of panda-python; guide the arm inside by hand")
        self._failure = None


def _hang_up(address: str) -> None:
    """Shut this process's connections to the robot at `address`: it takes one client, and a Panda cannot be let go."""
    robot = {found[4] for found in socket.getaddrinfo(address, FCI_PORT, socket.AF_INET, socket.SOCK_STREAM)}
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as end:
                if end.family == socket.AF_INET and end.type == socket.SOCK_STREAM and end.getpeername() in robot:
                    end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # closed since, or not connected
