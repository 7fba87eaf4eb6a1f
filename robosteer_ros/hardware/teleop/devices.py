"""Which teleoperation devices there are; each is imported when somebody asks for it."""

from __future__ import annotations

from importlib import import_module

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_ros.hardware.teleop.device import TeleopDevice

DEVICES = {
    "remote": "robosteer_ros.hardware.teleop.remote:RemoteDevice",
    "keyboard": "robosteer_ros.hardware.teleop.keyboard:Keyboard",
    "gamepad": "robosteer_ros.hardware.teleop.gamepad:Gamepad",
    "guiding": "robosteer_ros.hardware.teleop.guiding:Guiding",
    "spacemouse": "robosteer_ros.hardware.teleop.spacemouse:SpaceMouse",
}
"""A class by the name of the device."""


SPEED_M_PER_S, TURN_RAD_PER_S = 0.15, 0.6
"""Of the end effector at full deflection, where nobody says otherwise."""


def require_device(name: str) -> None:
    """Raises UserError where there is no device of this name."""
    if name not in DEVICES:
        raise UserError(f"no teleoperation device {name!r}; there are: {', '.join(DEVICES)}")


def open_device(name: str, rig: Rig, m_per_s: float = SPEED_M_PER_S, rad_per_s: float = TURN_RAD_PER_S) -> TeleopDevice:
    """The device, with the speeds of the end effector at full deflection where it has one.

    Raises UserError where there is no such device, or it cannot be opened.
    """
    require_device(name)
    module, _, noun = DEVICES[name].partition(":")
    make = getattr(import_module(module), noun)
    if name in ("remote", "guiding"):
        return make(rig)
    from robosteer_ros.hardware.teleop.deflection import Speeds

    return make(rig, Speeds(m_per_s, rad_per_s))
