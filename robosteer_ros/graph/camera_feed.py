"""What a camera's node does first of all: frames from the driver into shared memory, for as long as there is a camera."""

from __future__ import annotations

import logging
import threading
import time

from robosteer_core.errors import UserError
from robosteer_core.rig import Camera, Rig
from robosteer_core.runtime.frame import CameraError, CameraStatistics, Frame
from robosteer_core.runtime.frame_buffer import BufferFormat, FrameWriter, refuse_second_writer
from robosteer_ros.hardware.realsense import RealSense

logger = logging.getLogger(__name__)

SLOTS = 16
"""Frames that readers may be behind: half a second at 30 Hz."""

_RETRY_S, _SLICE_S, _FIRST_S = 0.5, 0.25, 5.0


class CameraFeed:
    """Starts the camera, passes every frame on, and starts it anew when frames stop: one that was unplugged goes on by itself.

    `trouble` is why none come, in the driver's words, empty while they do; `silent` says that the camera is there all the same.
    `passed` counts frames passed on, `missed` the numbers between them that were not, `interruptions` how often
    frames have ceased to come.
    """

    def __init__(self, camera: Camera, rig: Rig, segment: str, silent_after_s: float) -> None:
        self._camera, self._segment, self._silent_after_s = camera, segment, silent_after_s
        self._driver = RealSense(camera, rig)
        self._writer: FrameWriter | None = None
        self._stopping, self._known = threading.Event(), threading.Event()
        self.newest: Frame | None = None
        self.trouble, self.silent = "", False
        self.passed = self.missed = self.interruptions = 0

    @property
    def statistics(self) -> CameraStatistics:
        """The driver's, since the camera was last started."""
        return self._driver.statistics

    def start(self) -> None:
        """Comes back when the first frame has been passed on, or when it is known why there is none.

        Raises UserError where another node passes this camera's frames on already.
        """
        refuse_second_writer(self._segment)
        self._thread = threading.Thread(target=self._run, name=f"feed of {self._camera.name}", daemon=True)
        self._thread.start()
        self._known.wait(_FIRST_S)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            started = False
            try:
                self._driver.start()
                started = True
                try:
                    self._pass_on()
                finally:
                    self._driver.stop()
            except Exception as error:  # whatever it is, nobody else takes the camera again
                self._complain(error, silent=started and isinstance(error, CameraError))
                self._stopping.wait(_RETRY_S)

    def _pass_on(self) -> None:
        """Until the end, or until the camera has been silent for too long: CameraError then."""
        heard = time.monotonic()
        while not self._stopping.is_set():
            asked = time.monotonic()
            try:
                frame = self._driver.next(_SLICE_S)
            except CameraError:
                now = time.monotonic()
                if now - asked < _SLICE_S or now - heard > self._silent_after_s:
                    raise
                continue
            heard = time.monotonic()
            # A camera of the lab that is started anew begins with its newest frame, which may have been passed on before.
            if self.newest is None or (frame.stamp_ns, frame.number) != (self.newest.stamp_ns, self.newest.number):
                self._write(frame)

    def _write(self, frame: Frame) -> None:
        wanted = BufferFormat(frame.intrinsics, frame.depth_unit_m, self._camera.fps)
        if self._writer is None or self._writer.format != wanted:
            self._close()
            self._writer = FrameWriter(self._segment, wanted, SLOTS)
        if self.trouble:
            logger.info("camera %r gives frames again", self._camera.name)
            self.trouble, self.silent = "", False
            self._writer.say("")
        self._writer.write(frame.stamp_ns, frame.number, frame.colour, frame.depth)
        if self.newest is not None:
            self.missed += max(0, frame.number - self.newest.number - 1)
        self.newest = frame
        self.passed += 1
        self._known.set()

    def _complain(self, error: Exception, silent: bool) -> None:
        self.interruptions += not self.trouble
        if not self.trouble or silent != self.silent:  # the words change all the time
            logger.warning("%s", error, exc_info=not isinstance(error, UserError))
        self.trouble, self.silent = str(error), silent
        if self._writer is not None:
            self._writer.say(self.trouble)
        self._known.set()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
