"""What faults make of the frames of one simulated camera."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_MS = 1_000_000

Images = tuple[np.ndarray, np.ndarray]


class Shot(NamedTuple):
    """One frame as it goes into shared memory (`FrameWriter.write`)."""

    stamp_ns: int
    number: int
    colour: np.ndarray
    depth: np.ndarray
    depth_stamp_ns: int


class FaultyCamera:
    """A camera that does what the lab's faults of it (`robosteer_sim.faults`, as plain types) say; sound without any."""

    def __init__(self) -> None:
        self._faults: dict[str, dict] = {}
        self._last: Shot | None = None
        self._frames = self._back = None

    def suffer(self, faults: list[dict]) -> None:
        """These are the camera's faults from now on."""
        self._faults = {fault["kind"]: fault for fault in faults}
        frames = self._faults.get("camera_jump_back", {}).get("frames")
        if frames != self._frames:
            self._frames, self._back = frames, None

    @property
    def unplugged(self) -> bool:
        return "camera_disconnect" in self._faults

    def take(self, now_ns: int, number: int, draw: Callable[[], Images]) -> Shot | None:
        """What the camera makes of the frame `number` that is due now; None where nothing comes."""
        faults = self._faults
        if self.unplugged or "camera_stop" in faults:
            return None
        if "camera_repeat" in faults and self._last is not None:
            return self._last
        if "camera_jump_back" in faults:
            if self._back is None:
                self._back = min(self._frames, number)
            number -= self._back
        skew = faults.get("camera_skew", {})
        stamp_ns = now_ns + skew.get("clock_ms", 0) * _MS
        self._last = Shot(stamp_ns, number, *draw(), stamp_ns + skew.get("depth_ms", 0) * _MS)
        return self._last
