"""Which teleoperation devices there are; each is imported when somebody asks for it."""

from __future__ import annotations

from importlib import import_module

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_ros.hardware.teleop.device import TeleopDevice

DEVICES = {
    "remote": "robosteer_ros.hardware.teleop.remote:RemoteDevice",
}
"""A class by the name of the device; each is made with the rig."""


def open_device(name: str, rig: Rig) -> TeleopDevice:
    """Raises UserError where there is no such device, or it cannot be opened."""
    if name not in DEVICES:
        raise UserError(f"no teleoperation device {name!r}; there are: {', '.join(DEVICES)}")
    module, _, noun = DEVICES[name].partition(":")
    return getattr(import_module(module), noun)(rig)
