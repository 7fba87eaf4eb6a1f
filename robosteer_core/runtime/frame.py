"""One image of one camera, with its capture stamp; and what is said of the camera itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Camera


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole camera without distortion; focal lengths and principal point in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class Frame:
    """Colour and, aligned to it, depth.

    `colour` (height, width, 3) uint8 RGB; `depth` (height, width) uint16 in units of `depth_unit_m`, 0 where unknown;
    `stamp_ns` capture time on the rig's clock; `number` counts the camera's frames.
    """

    camera: str
    stamp_ns: int
    number: int
    colour: np.ndarray
    depth: np.ndarray
    depth_unit_m: float
    intrinsics: Intrinsics


class CameraError(UserError):
    """The camera cannot be started or its frames have stopped; the message says what to check."""


@dataclass(frozen=True)
class CameraStatistics:
    """What has come from the camera since `start`: frames taken, and what was found wrong.

    `repeated`: the same frame number again; `jumped_back`: a frame number or stamp older than the last; `missed`: frame
    numbers that never came; `unpaired`: sets whose colour and depth were not captured together. The SDK hands out one
    such set between two good ones whenever the depth image arrives first.

    Repeated and unpaired frames and those with older stamps are not taken. A frame whose number alone is older is: the
    camera's counter has begun anew.
    """

    frames: int = 0
    repeated: int = 0
    jumped_back: int = 0
    missed: int = 0
    unpaired: int = 0


class FrameStream(ABC):
    """The frames of one camera of the rig: `start`, `read` or `next` as often as wanted, `stop`; or a context manager."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera

    @abstractmethod
    def start(self) -> None:
        """Raises UserError when there is no such camera."""

    @abstractmethod
    def read(self, not_before_ns: int, timeout_s: float = 5.0) -> Frame:
        """The newest frame, once that was captured at or after `not_before_ns` on the rig's clock.

        `timeout_s` is wall time. Raises CameraError when no such frame comes in time.
        """

    @abstractmethod
    def next(self, timeout_s: float = 5.0) -> Frame:
        """The oldest frame that this has not given yet. Raises CameraError when none comes in time."""

    @abstractmethod
    def stop(self) -> None:
        """Harmless when it is not started."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _label(self) -> str:
        return f"camera {self._camera.name!r} ({self._camera.serial})"
