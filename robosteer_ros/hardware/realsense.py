"""The RealSense driver: stamped colour frames with aligned depth, from a real camera or one of the simulated lab."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Camera, Rig
from robosteer_core.runtime.frame import CameraError, CameraStatistics, Frame, FrameStream, Intrinsics
from robosteer_core.runtime.frame_buffer import LAB_SERIAL
from robosteer_ros.hardware.camera_source import CameraSource
from robosteer_ros.hardware.lab_camera import LabCamera
from robosteer_ros.hardware.realsense_sdk import rs
from robosteer_ros.hardware.serial_camera import SerialCamera

logger = logging.getLogger(__name__)

_WAIT_MS = 100
#: Frame sets on their way to us, and kept for `next`. The SDK lends 16.
_QUEUED, _KEPT = 8, 4


@dataclass(frozen=True)
class _Capture:
    """A frame set that the SDK still holds, not yet aligned."""

    stamp_ns: int
    number: int
    arrival_ns: int
    frames: rs.composite_frame


class RealSense(FrameStream):
    """One camera of the rig: `start`, `read` as often as wanted, `stop`; or use it as a context manager.

    A real camera is found by its serial number; `lab:<name>` is a camera of the simulated lab that `rig` describes.
    A thread takes every frame set from the SDK and keeps the last ones; depth is aligned to colour only for frames that
    are read. `read` may be called from several threads, `next` is for one.
    """

    def __init__(self, camera: Camera, rig: Rig | None = None, context: rs.context | None = None) -> None:
        if camera.serial.startswith(LAB_SERIAL) and rig is None:
            raise UserError(f"camera {camera.name!r} ({camera.serial}) is of a simulated lab: give its rig, too")
        super().__init__(camera)
        self._rig, self._context = rig, context
        self._news = threading.Condition()
        self._aligning = threading.Lock()
        self._align = rs.align(rs.stream.color)
        self._source: CameraSource | None = None

    @property
    def statistics(self) -> CameraStatistics:
        with self._news:
            return self._statistics

    def start(self) -> None:
        """Open the camera and start its streams.

        Raises UserError when there is no such camera, CameraError when it does not offer the rig's size and rate.
        """
        camera = self._camera
        self._statistics = CameraStatistics()
        self._newest: _Capture | None = None
        self._waiting: deque[_Capture] = deque(maxlen=_KEPT)
        self._until_newest, self._oddity = self._statistics, ""
        self._last_number: int | None = None
        self._resuming = False
        self._failure: str | None = None
        self._frame: Frame | None = None
        self._stopping = threading.Event()
        source = self._open()
        # The pipeline's own queue holds one set: a process that is kept waiting for a frame's time would lose it.
        config, self._queue = rs.config(), rs.frame_queue(_QUEUED)
        pipeline = source.pipeline(config)
        config.enable_stream(rs.stream.depth, camera.width, camera.height, rs.format.z16, camera.fps)
        config.enable_stream(rs.stream.color, camera.width, camera.height, rs.format.rgb8, camera.fps)
        try:
            profile = pipeline.start(config, self._queue)
        except RuntimeError as error:
            source.end()
            raise CameraError(
                f"{self._label}: the SDK cannot stream colour rgb8 and depth z16 with {camera.width}x{camera.height} at "
                f"{camera.fps} Hz: {error}. Choose a mode in the rig that the camera offers on this USB port "
                "(rs-enumerate-devices lists them), and see that no other process uses it"
            ) from error
        self._intrinsics = _intrinsics(profile.get_stream(rs.stream.color), self._label)
        self._source, self._pipeline = source, pipeline
        self._thread = threading.Thread(target=self._receive, name=f"frames of {camera.name}", daemon=True)
        # A thread inside the SDK while the interpreter ends would abort the process.
        atexit.register(self.stop)
        self._thread.start()
        source.begin()

    def read(self, not_before_ns: int, timeout_s: float = 5.0) -> Frame:
        """The newest frame, once that was captured at or after `not_before_ns` on the rig's clock.

        The same frame may be returned twice; its arrays are shared, do not write to them. `timeout_s` is wall time.
        Raises CameraError when no such frame comes in time.
        """
        if self._source is None:
            raise CameraError(f"{self._label} is not started")

        def arrived() -> bool:
            return self._failure is not None or (self._newest is not None and self._newest.stamp_ns >= not_before_ns)

        with self._news:
            came = self._news.wait_for(arrived, timeout_s)
            capture = self._newest
        if not came or self._failure is not None:
            raise CameraError(self._stalled(f"captured at {not_before_ns} ns or later", timeout_s, capture, not_before_ns))
        return self._finish(capture)

    def next(self, timeout_s: float = 5.0) -> Frame:
        """The oldest frame that this has not given yet: each in turn, for who is never more than 4 behind; who is loses the
        oldest. Raises CameraError when none comes in time."""
        if self._source is None:
            raise CameraError(f"{self._label} is not started")
        with self._news:
            came = self._news.wait_for(lambda: self._failure is not None or self._waiting, timeout_s)
            if not came or self._failure is not None:
                raise CameraError(self._stalled("that is new", timeout_s, self._newest))
            capture = self._waiting.popleft()
        return self._finish(capture)

    def stop(self) -> None:
        """Stop the streams and release the camera. Harmless when it is not started."""
        if self._source is None:
            return
        atexit.unregister(self.stop)
        self._source.end()
        self._stopping.set()
        self._thread.join()
        self._pipeline.stop()
        self._source = self._newest = None
        self._waiting.clear()

    def _open(self) -> CameraSource:
        if self._camera.serial.startswith(LAB_SERIAL):
            return LabCamera(self._camera, self._rig)
        return SerialCamera(self._camera.serial, self._context)

    def _receive(self) -> None:
        while not self._stopping.is_set():
            try:
                came, frames = self._queue.try_wait_for_frame(_WAIT_MS)
                if came:
                    self._take(frames.as_frameset(), time.monotonic_ns())
            except RuntimeError as error:  # the SDK has no other kind
                logger.error("%s: %s", self._label, error)
                with self._news:
                    self._failure = str(error)
                    self._news.notify_all()
                return

    def _take(self, frames: rs.composite_frame, arrival_ns: int) -> None:
        colour, depth = frames.get_color_frame(), frames.get_depth_frame()
        if not colour or not depth:
            return self._count(unpaired=1)
        if not _captured_together(colour, depth, self._camera.fps):
            apart_ms = depth.get_timestamp() - colour.get_timestamp()
            self._oddity = f"depth and colour were not captured together, but {abs(apart_ms):.0f} ms apart"
            return self._count(unpaired=1)
        number, stamp_ns = colour.get_frame_number(), self._source.stamp_ns(colour, arrival_ns)
        last, self._last_number = self._last_number, number
        if number == last:
            self._oddity = f"frame number {number} comes again and again"
            return self._count(repeated=1)
        older = self._newest is not None and stamp_ns <= self._newest.stamp_ns
        if older and not self._resuming:
            # The next stamp is compared with this one: a camera whose clock restarts loses one frame, not all.
            self._resuming = True
            back_ms = (self._newest.stamp_ns - stamp_ns) / 1e6
            self._oddity = f"frame number {number} is stamped {back_ms:.0f} ms before the last"
            logger.warning("%s: %s", self._label, self._oddity)
            return self._count(jumped_back=1)
        fell_back = last is not None and number < last
        if fell_back:
            logger.warning("%s: its frame numbers have fallen back from %d to %d", self._label, last, number)
        if older:
            with self._aligning:
                self._frame = None  # of the time before, and perhaps with the very same stamp
        missed = 0 if last is None or self._resuming or fell_back else number - last - 1
        self._resuming = False
        with self._news:
            self._newest = _Capture(stamp_ns, number, arrival_ns, frames)
            self._waiting.append(self._newest)
            self._news.notify_all()
        self._count(frames=1, missed=missed, jumped_back=int(fell_back))
        self._until_newest, self._oddity = self._statistics, ""

    def _count(self, **more: int) -> None:
        with self._news:
            now = self._statistics
            self._statistics = replace(now, **{name: getattr(now, name) + value for name, value in more.items()})

    def _finish(self, capture: _Capture) -> Frame:
        with self._aligning:
            if self._frame is not None and self._frame.stamp_ns == capture.stamp_ns:
                return self._frame
            aligned = self._align.process(capture.frames)
            depth = aligned.get_depth_frame()
            self._frame = Frame(
                camera=self._camera.name,
                stamp_ns=capture.stamp_ns,
                number=capture.number,
                colour=np.array(aligned.get_color_frame().get_data()),
                depth=np.array(depth.get_data()),
                # The SDK keeps units as 32-bit floats.
                depth_unit_m=round(depth.get_units(), 9),
                intrinsics=self._intrinsics,
            )
            return self._frame

    def _stalled(self, wanted: str, timeout_s: float, newest: _Capture | None, not_before_ns: int | None = None) -> str:
        if self._failure is not None:
            return f"{self._label}: its streams ended: {self._failure}; {self._source.advice()}"
        if newest is None:
            last = "none has come since it was started"
        else:
            age_s = (time.monotonic_ns() - newest.arrival_ns) / 1e9
            last = f"the last, number {newest.number}, came {age_s:.1f} s ago"
            if not_before_ns is not None:
                last += f" and was captured {(not_before_ns - newest.stamp_ns) / 1e6:.0f} ms too early"
        return (
            f"{self._label}: no frame {wanted} came within {timeout_s:g} s; {last}"
            f"{self._useless()} ({self._statistics}); {self._source.advice()}"
        )

    def _useless(self) -> str:
        """What has come since the newest frame and could not be taken, for the operator to know what is wrong."""
        if not self._oddity:
            return ""
        now, then = self._statistics, self._until_newest
        count = sum(getattr(now, name) - getattr(then, name) for name in ("repeated", "jumped_back", "unpaired"))
        return f"; {count} came since that could not be taken: {self._oddity}"


def _captured_together(colour: rs.frame, depth: rs.frame, fps: int) -> bool:
    """Within half a frame, as the SDK's own matcher has it, on the same clock."""
    same_clock = colour.get_frame_timestamp_domain() == depth.get_frame_timestamp_domain()
    return same_clock and abs(colour.get_timestamp() - depth.get_timestamp()) <= 500.0 / fps


def _intrinsics(profile: rs.stream_profile, label: str) -> Intrinsics:
    lens = profile.as_video_stream_profile().get_intrinsics()
    if any(lens.coeffs):
        logger.warning("%s: its lens distortion %s is not carried with the frames", label, lens.coeffs)
    return Intrinsics(lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy)
