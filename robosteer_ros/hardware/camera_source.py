"""Where the frames of a camera come from: the one seam between a real camera and a simulated one."""

from __future__ import annotations

from abc import ABC, abstractmethod

from robosteer_ros.hardware.realsense_sdk import rs


class CameraSource(ABC):
    """A device behind an SDK pipeline. `attach`, then the pipeline starts, then `begin`; `end` before it stops."""

    @abstractmethod
    def pipeline(self, config: rs.config) -> rs.pipeline:
        """The pipeline of the device, and in `config` which device. Raises UserError where the device is missing."""

    def begin(self) -> None:
        """The pipeline has started."""

    def end(self) -> None:
        """The pipeline is about to stop. May be called without `begin`, and twice."""

    @abstractmethod
    def stamp_ns(self, frame: rs.frame, arrival_ns: int) -> int:
        """Capture time of a frame on the rig's clock; `arrival_ns` is time.monotonic_ns() when it came in."""

    @abstractmethod
    def advice(self) -> str:
        """What to check when frames stop coming."""
