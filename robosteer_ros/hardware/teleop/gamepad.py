"""Gamepads, by SDL's standard layout: an Xbox pad's names hold for all."""

from __future__ import annotations

import logging

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_ros.hardware.teleop.deflection import DeflectionDevice, Hand, Speeds
from robosteer_ros.hardware.teleop.sdl import sdl

logger = logging.getLogger(__name__)

_FULL = 32767
PRESSES = {
    sdl.SDL_CONTROLLER_BUTTON_A: "gripper", sdl.SDL_CONTROLLER_BUTTON_START: "start", sdl.SDL_CONTROLLER_BUTTON_X: "keep",
    sdl.SDL_CONTROLLER_BUTTON_B: "discard", sdl.SDL_CONTROLLER_BUTTON_Y: "home", sdl.SDL_CONTROLLER_BUTTON_BACK: "recover",
    sdl.SDL_CONTROLLER_BUTTON_GUIDE: "finish",
}  # fmt: skip


class Gamepad(DeflectionDevice):
    """The first gamepad that is connected. Right shoulder held: enabled. Left stick: forward and left; right stick: up and
    yaw; cross: pitch and roll. A: hand; Start, X, B, Y, Back, Guide: start, keep, discard, home, recover, finish.

    A pad that is unplugged counts as released, and as found again once it is back. Raises UserError where there is none.
    """

    def __init__(self, rig: Rig, speeds: Speeds) -> None:
        super().__init__(rig, speeds)
        sdl.SDL_SetHint(sdl.SDL_HINT_JOYSTICK_ALLOW_BACKGROUND_EVENTS, b"1")
        sdl.SDL_SetHint(sdl.SDL_HINT_NO_SIGNAL_HANDLERS, b"1")
        if sdl.SDL_InitSubSystem(sdl.SDL_INIT_GAMECONTROLLER):
            raise UserError(f"SDL cannot look for gamepads: {sdl.SDL_GetError().decode()}")
        self._pad = None
        self._down: set[int] = set()
        if not self._connected():
            sdl.SDL_QuitSubSystem(sdl.SDL_INIT_GAMECONTROLLER)
            raise UserError("no gamepad found; connect one, and see that you may read /dev/input (group `input`)")

    def look(self) -> Hand:
        sdl.SDL_GameControllerUpdate()
        if not self._connected():
            return Hand(np.zeros(6), deadman=False)
        down = {button for button in PRESSES if sdl.SDL_GameControllerGetButton(self._pad, button)}
        pressed, self._down = tuple(PRESSES[button] for button in sorted(down - self._down)), down
        forward, left = -self._axis(sdl.SDL_CONTROLLER_AXIS_LEFTY), -self._axis(sdl.SDL_CONTROLLER_AXIS_LEFTX)
        up, yaw = -self._axis(sdl.SDL_CONTROLLER_AXIS_RIGHTY), -self._axis(sdl.SDL_CONTROLLER_AXIS_RIGHTX)
        roll = self._button(sdl.SDL_CONTROLLER_BUTTON_DPAD_RIGHT) - self._button(sdl.SDL_CONTROLLER_BUTTON_DPAD_LEFT)
        pitch = self._button(sdl.SDL_CONTROLLER_BUTTON_DPAD_UP) - self._button(sdl.SDL_CONTROLLER_BUTTON_DPAD_DOWN)
        held = bool(self._button(sdl.SDL_CONTROLLER_BUTTON_RIGHTSHOULDER))
        return Hand(np.array([forward, left, up, roll, pitch, yaw]), held, pressed)

    def close(self) -> None:
        if self._pad is not None:
            sdl.SDL_GameControllerClose(self._pad)
            self._pad = None
        sdl.SDL_QuitSubSystem(sdl.SDL_INIT_GAMECONTROLLER)

    def _connected(self) -> bool:
        if self._pad is not None and sdl.SDL_GameControllerGetAttached(self._pad):
            return True
        if self._pad is not None:
            logger.error("the gamepad has gone: check its cable or battery")
            sdl.SDL_GameControllerClose(self._pad)
            self._pad, self._down = None, set()
        for index in range(sdl.SDL_NumJoysticks()):
            if sdl.SDL_IsGameController(index) and (pad := sdl.SDL_GameControllerOpen(index)):
                self._pad = pad
                logger.info("gamepad: %s", sdl.SDL_GameControllerName(pad).decode(errors="replace"))
                return True
        return False

    def _axis(self, axis: int) -> float:
        return max(-1.0, sdl.SDL_GameControllerGetAxis(self._pad, axis) / _FULL)

    def _button(self, button: int) -> int:
        return sdl.SDL_GameControllerGetButton(self._pad, button)
