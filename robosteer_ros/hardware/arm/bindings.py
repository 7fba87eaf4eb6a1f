"""Which binding drives a rig's arm and its hand; each is imported when a rig asks for it."""

from __future__ import annotations

import builtins
import importlib
import queue
import re
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from robosteer_core import rig
from robosteer_core.errors import UserError
from robosteer_ros.hardware.arm.driver import ArmDriver
from robosteer_ros.hardware.arm.fci_version import FCI_PORT, what_fits
from robosteer_ros.hardware.sockets import holder

#: A robot that is there completes the handshake in some 10 ms; libfranka itself waits a minute for one that is not, and
#: libfranka 0.9 for ever. To ask the host first whether it answers would not do: a robot takes one client, and might take
#: the question for it.
CONNECT_TIMEOUT_S = 2.7
#: What to install for each driver of a rig.
EXTRAS = {"franky": "ros", "panda_py": "panda"}

Result = TypeVar("Result")

#: What has become of attempts to connect, by what was to be reached: (thread, robot, None) or (thread, None, error).
_arrived: dict[str, queue.SimpleQueue] = {}


class HandState(Protocol):
    """Distance between the fingertips [m], and whether the hand says that it holds something."""

    width: float
    is_grasped: bool


class Hand(Protocol):
    """The Franka Hand. `move` and `grasp` block until the fingers have come to rest, let other threads run meanwhile, and
    return whether they have done it; metres, m/s and newtons."""

    @property
    def state(self) -> HandState: ...

    def move(self, width: float, speed: float) -> bool: ...

    def grasp(self, width: float, speed: float, force: float, epsilon_inner: float, epsilon_outer: float) -> bool: ...


def open_arm(arm: rig.Arm, limits: rig.Limits) -> ArmDriver:
    """Connect to the rig's arm. Raises UserError when there is no robot, within 3 s, or the binding is not installed."""
    _require(arm.driver)
    if arm.driver == "panda_py":
        from robosteer_ros.hardware.arm.panda_py_driver import PandaPyDriver

        return PandaPyDriver(arm, limits)
    from robosteer_ros.hardware.arm.franky_driver import FrankyDriver

    return FrankyDriver(arm, limits)


def open_hand(arm: rig.Arm) -> Hand:
    """Connect to the rig's hand. Raises what the binding raises when there is none, TimeoutError where it does not answer.

    All robots' hands speak the same version. franky's binding is taken where it is installed: that of panda-python keeps
    the interpreter while it waits for a state.
    """
    try:
        from franky import Gripper
    except ImportError:
        return _within(CONNECT_TIMEOUT_S, f"hand at {arm.address}", lambda: _PandaHand(arm.address))
    return _within(CONNECT_TIMEOUT_S, f"hand at {arm.address}", lambda: Gripper(arm.address))


class _PandaHand:
    def __init__(self, address: str) -> None:
        from panda_py.libfranka import Gripper

        gripper = Gripper(address)
        self.move, self.grasp, self._read = gripper.move, gripper.grasp, gripper.read_once

    @property
    def state(self) -> HandState:
        return self._read()


def connect(arm: rig.Arm, construct: Callable[[], Result]) -> Result:
    """What `construct`, which connects to the arm, returns. Raises UserError naming the address when there is no robot."""
    try:
        return _within(CONNECT_TIMEOUT_S, arm.address, construct)
    except builtins.Exception as error:
        reason = "no answer" if isinstance(error, TimeoutError) else str(error).rstrip(".")
        mismatch = re.search(r"(?:server|protocol) version:? (\d+).*version:? (\d+)", reason)
        if mismatch is not None:
            raise UserError(_wrong_version(arm, *map(int, mismatch.groups()))) from error
        held = holder(arm.address, FCI_PORT, but_us=True)
        if held is not None:
            raise UserError(f"the robot at {arm.address} takes one client, and has one: process {held}. End that one first") from error
        raise UserError(
            f"no robot at {arm.address} (port {FCI_PORT}): {reason}. Check `arm.address` in the rig, the cable, and that "
            "FCI is activated in Desk; for the simulated lab start `robosteer sim serve`"
        ) from error


def _wrong_version(arm: rig.Arm, spoken: int, ours: int) -> str:
    return (
        f"the robot at {arm.address} speaks server version {spoken}, the installed {arm.driver} speaks version {ours}. Server "
        f"version {spoken}: this is {what_fits(spoken)}"
    )


def _require(driver: str) -> None:
    try:
        importlib.import_module(driver)
    except ImportError as error:
        raise UserError(
            f"the rig's driver {driver} is not installed ({error}): pip install -e '.[{EXTRAS[driver]}]'"
        ) from error


def _within(timeout_s: float, whom: str, call: Callable[[], Result]) -> Result:
    """What `call`, which connects to `whom`, returns or raises. Raises TimeoutError when it takes longer.

    Its thread is then left behind, and with it a connection that comes about when the robot is back. As a robot takes one
    client, that would be in the way of the next call: which therefore returns it.
    """
    arrived = _arrived.setdefault(whom, queue.SimpleQueue())
    while not arrived.empty():
        _, result, error = arrived.get()
        if error is None:
            return result

    def run() -> None:
        try:
            arrived.put((thread, call(), None))
        except BaseException as error:  # noqa: BLE001  (handed to the caller)
            arrived.put((thread, None, error))

    thread = threading.Thread(target=run, name="connecting", daemon=True)
    thread.start()
    deadline = time.monotonic() + timeout_s
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            attempt, result, error = arrived.get(timeout=left_s)
        except queue.Empty:
            break
        if error is None:
            return result
        if attempt is thread:
            raise error
    raise TimeoutError
