"""3Dconnexion's SpaceMouse: its HID reports as they come from the kernel."""

from __future__ import annotations

import ctypes
import logging
import struct
import time
from collections.abc import Callable

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_ros.hardware.teleop.deflection import DeflectionDevice, Hand, Speeds

logger = logging.getLogger(__name__)

#: 3Dconnexion's own vendor number, and the products that were sold under Logitech's. Source: pyspacemouse 2.1.0, devices.toml,
#: as are the reports and the full deflection.
VENDOR = 0x256F
LOGITECH, LOGITECH_PRODUCTS = 0x046D, (0xC625, 0xC626, 0xC627, 0xC629, 0xC62B)
FULL = 350.0
_MOVED, _TURNED, _BUTTONS = 1, 2, 3
_LEFT, _RIGHT = 1, 2
#: A puck that is deflected reports at 60 Hz or more; one that has fallen silent is where it was no longer.
SILENT_S = 0.2

#: Takes the oldest report that waits; b"" for none, None where the device is gone.
Reports = Callable[[], "bytes | None"]


class SpaceMouse(DeflectionDevice):
    """Left button held: enabled. Right button: the hand while enabled; else start, or keep while an episode is recorded.

    Discarding, and the rest, by the keys of the console. A mouse that is unplugged counts as released.
    Raises UserError where there is none.
    """

    def __init__(
        self, rig: Rig, speeds: Speeds, reports: Reports | None = None, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(rig, speeds)
        self._close = lambda: None
        if reports is None:
            reports, self._close = _open()
        self._reports, self._now_s = reports, now_s
        self._raw, self._buttons = np.zeros(6), 0  # right, towards the operator, down, and turns about these
        self._came_s, self._gone = -SILENT_S, False

    def look(self) -> Hand:
        now_s, pressed = self._now_s(), []
        while not self._gone and (report := self._reports()) != b"":
            if report is None:
                self._gone, self._buttons = True, 0
                logger.error("the SpaceMouse has gone: check its cable; start again when it is back")
                break
            before = self._buttons
            self._take(report, now_s)
            if self._buttons & ~before & _RIGHT:
                enabled = self._buttons & _LEFT
                pressed.append("gripper" if enabled else "keep" if self.stage == "recording" else "start")
        if now_s - self._came_s > SILENT_S:
            self._raw = np.zeros(6)
        right, back, down, about_right, about_back, about_down = np.clip(self._raw / FULL, -1, 1)
        axes = -np.array([back, right, down, about_back, about_right, about_down])
        return Hand(axes, bool(self._buttons & _LEFT), tuple(pressed))

    def close(self) -> None:
        self._close()

    def _take(self, report: bytes, now_s: float) -> None:
        """Kind, then three signed 16-bit numbers (six in newer ones: motion and turn together), or a bit per button."""
        kind, content = report[0], report[1:]
        if kind == _BUTTONS and content:
            self._buttons = content[0]
            return
        if kind in (_MOVED, _TURNED) and len(content) >= 6:
            first, count = (3, 3) if kind == _TURNED else (0, 6 if len(content) >= 12 else 3)
            self._raw[first : first + count] = struct.unpack_from(f"<{count}h", content)
            self._came_s = now_s


def _open() -> tuple[Reports, Callable[[], None]]:
    from robosteer_ros.hardware.teleop.sdl import sdl

    sdl.SDL_hid_init()
    for vendor, products in ((VENDOR, (0,)), (LOGITECH, LOGITECH_PRODUCTS)):
        for product in products:
            found = sdl.SDL_hid_enumerate(vendor, product)
            try:
                if not found:
                    continue
                device = sdl.SDL_hid_open_path(found.contents.path, 0)
            finally:
                sdl.SDL_hid_free_enumeration(found)
            if not device:
                raise UserError("there is a SpaceMouse, and it may not be read: allow it by a udev rule for /dev/hidraw*")
            sdl.SDL_hid_set_nonblocking(device, 1)
            buffer = (ctypes.c_ubyte * 64)()

            def reports() -> bytes | None:
                count = sdl.SDL_hid_read(device, buffer, len(buffer))
                return None if count < 0 else bytes(buffer[:count])

            return reports, lambda: sdl.SDL_hid_close(device)
    raise UserError("no SpaceMouse found; connect one, and see that you may read /dev/hidraw* (a udev rule for vendor 256f)")
