"""`robosteer arm`: the process that holds the arm and the gripper of a rig."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

from robosteer_core.rig import Rig
from robosteer_core.runtime.clock import MonotonicClock, rig_clock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.hardware.arm.bindings import open_arm
from robosteer_ros.hardware.arm.controller import ArmController
from robosteer_ros.hardware.arm.server import ArmServer
from robosteer_ros.hardware.gripper import GripperDriver

logger = logging.getLogger(__name__)


def run(rig: Rig, ready: Callable[[str], None]) -> None:
    """Hold the arm of `rig` until SIGTERM or SIGINT; `ready` is called once with the address that takes commands.

    Raises UserError when there is no robot at the rig's address, or the command address is taken.
    """
    driver = open_arm(rig.arm, rig.limits)
    gripper = GripperDriver(rig.arm, rig.gripper, lambda: rig_clock(rig, "gripper"))
    controller = ArmController(rig, driver, gripper, lambda: rig_clock(rig, "setpoints"), clock_reader(rig))
    server = ArmServer(rig.arm.command_address, controller)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: controller.close())
    ready(server.address)
    try:
        controller.run()
    finally:
        server.close()
        gripper.close()


def clock_reader(rig: Rig) -> Callable[[], int]:
    """A function that reads the rig's clock without joining it; from any thread."""
    if rig.lab is None:
        return MonotonicClock().now_ns
    return LabLink(rig.lab.control, "arm").now_ns
