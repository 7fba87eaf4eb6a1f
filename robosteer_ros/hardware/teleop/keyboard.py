"""The keys of a terminal as a teleoperation device."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_ros.hardware.teleop.deflection import DeflectionDevice, Hand, Speeds
from robosteer_ros.hardware.teleop.keys import Keys

#: A terminal tells no release: a key counts as held for so long after it has come, and it comes again 25 times a second.
HOLD_S = 0.15

_FORWARD, _LEFT, _UP, _ROLL, _PITCH, _YAW = np.eye(6)
MOTIONS = {
    "w": _FORWARD, "s": -_FORWARD, "a": _LEFT, "d": -_LEFT, "r": _UP, "f": -_UP,
    "l": _ROLL, "j": -_ROLL, "i": _PITCH, "k": -_PITCH, "u": _YAW, "o": -_YAW,
}  # fmt: skip
PRESSES = {" ": "gripper", "\n": "start", "y": "keep", "n": "discard", "h": "home", "x": "recover", "q": "finish"}
HELP = (
    "held: w/s forward and back, a/d left and right, r/f up and down, j/l roll, i/k pitch, u/o yaw, space: hand, h: home\n"
    "once: enter start, y keep, n discard and do again, x recover from a fault, q finish"
)


class Keyboard(DeflectionDevice):
    """The enabling switch is the key of a motion itself, held down. One key at a time: terminals repeat the last one alone.

    Raises UserError where standard input is no terminal.
    """

    def __init__(self, rig: Rig, speeds: Speeds, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(rig, speeds)
        self._keys, self._now_s = Keys(), now_s
        if not self._keys.listening:
            raise UserError("the keyboard needs a terminal: start `robosteer record --device keyboard` in one")
        self._keys.__enter__()
        self._held, self._came_s = "", -HOLD_S

    def look(self) -> Hand:
        now_s, pressed = self._now_s(), []
        if now_s - self._came_s > HOLD_S:
            self._held = ""
        for key in self._keys.read():
            if key in PRESSES and key != self._held:
                pressed.append(PRESSES[key])
            if key in MOTIONS or key in PRESSES:
                self._held, self._came_s = key, now_s
        # Held for a motion, for the way home, and for the hand.
        deadman = self._held in MOTIONS or self._held in ("h", " ")
        return Hand(MOTIONS.get(self._held, np.zeros(6)), deadman, tuple(pressed))

    def close(self) -> None:
        self._keys.__exit__()
