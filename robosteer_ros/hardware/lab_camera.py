"""A camera of the simulated lab: frames from shared memory, fed into the SDK's software device."""

from __future__ import annotations

import logging
import threading

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Camera, Rig
from robosteer_core.runtime.frame_buffer import BufferedFrame, FrameReader, segment_name
from robosteer_ros.hardware.camera_source import CameraSource
from robosteer_ros.hardware.realsense_sdk import rs

logger = logging.getLogger(__name__)

_WAIT_S = 0.1

#: By so much the depth lens differs from the colour lens that draws it. With the two exactly alike, rs.align lands on
#: pixel borders and on the border between its two methods (librealsense, sse-align.cpp), and rounding decides: measured,
#: 7 % of the pixels came from a neighbour and 4 % were lost. With an offset of 1/32 pixel (0.05 mrad) and a focal length
#: longer by 1e-5, every pixel keeps its own depth at the 63 sizes and fields of view tried.
_DEPTH_LENS_OFFSET_PX = -1 / 32
_DEPTH_LENS_FOCAL_RATIO = 1 + 1e-5


class LabCamera(CameraSource):
    """The lab camera that the serial `lab:<name>` names. Stamps are lab time.

    A thread feeds each frame, as it is drawn, into the software device. Raises UserError when no lab draws this
    camera, or draws it in another size or rate than the rig says.
    """

    def __init__(self, camera: Camera, rig: Rig) -> None:
        self._name = segment_name(rig, camera)
        self._buffer = FrameReader(self._name)
        lens = self._buffer.format.intrinsics
        drawn, wanted = (lens.width, lens.height, self._buffer.format.fps), (camera.width, camera.height, camera.fps)
        if drawn != wanted:
            self._buffer.close()
            raise UserError(
                f"camera {camera.name!r}: the rig says {_mode(wanted)}, the lab draws {_mode(drawn)}; "
                "restart `robosteer sim cameras` with this rig"
            )
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._build(camera)

    def _build(self, camera: Camera) -> None:
        self._device = rs.software_device()
        self._device.register_info(rs.camera_info.name, f"lab camera {camera.name}")
        self._device.register_info(rs.camera_info.serial_number, camera.serial)
        self._depth_sensor = self._device.add_sensor("Stereo Module")
        self._depth_sensor.add_read_only_option(rs.option.depth_units, self._buffer.format.depth_unit_m)
        self._colour_sensor = self._device.add_sensor("RGB Camera")
        self._depth_profile = self._depth_sensor.add_video_stream(self._stream(rs.stream.depth, rs.format.z16, 0, 2))
        self._colour_profile = self._colour_sensor.add_video_stream(self._stream(rs.stream.color, rs.format.rgb8, 1, 3))
        # The lab draws depth through the colour camera's lens: the two coincide.
        identity = rs.extrinsics()
        identity.rotation, identity.translation = np.eye(3).ravel().tolist(), [0.0, 0.0, 0.0]
        self._depth_profile.register_extrinsics_to(self._colour_profile, identity)
        self._colour_profile.register_extrinsics_to(self._depth_profile, identity)

    def _stream(self, kind: rs.stream, pixel: rs.format, uid: int, bytes_per_pixel: int) -> rs.video_stream:
        lens = self._buffer.format.intrinsics
        intrinsics = rs.intrinsics()
        intrinsics.width, intrinsics.height = lens.width, lens.height
        offset, ratio = (_DEPTH_LENS_OFFSET_PX, _DEPTH_LENS_FOCAL_RATIO) if kind == rs.stream.depth else (0.0, 1.0)
        intrinsics.fx, intrinsics.fy = lens.fx * ratio, lens.fy * ratio
        intrinsics.ppx, intrinsics.ppy = lens.cx + offset, lens.cy + offset
        intrinsics.model, intrinsics.coeffs = rs.distortion.none, [0.0] * 5
        stream = rs.video_stream()
        stream.type, stream.index, stream.uid, stream.fmt, stream.bpp = kind, 0, uid, pixel, bytes_per_pixel
        stream.width, stream.height, stream.fps = lens.width, lens.height, self._buffer.format.fps
        stream.intrinsics = intrinsics
        return stream

    def pipeline(self, config: rs.config) -> rs.pipeline:
        pipeline = rs.pipeline()
        pipeline.set_device(self._device)
        return pipeline

    def begin(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._feed, name=f"feed {self._name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._buffer.close()

    def stamp_ns(self, frame: rs.frame, arrival_ns: int) -> int:
        # The SDK carries milliseconds as a double: exact for whole milliseconds, and to a nanosecond for 100 days.
        return round(frame.get_timestamp() * 1e6)

    def advice(self) -> str:
        if not self._buffer.alive():
            return (
                "the lab no longer draws this camera: it is unplugged (`robosteer sim fault` tells), or the lab's cameras have "
                "ended; start them: robosteer sim cameras"
            )
        return (
            "the lab's cameras run: is this one at fault (`robosteer sim fault` tells)? Does lab time advance? See that "
            "`robosteer sim serve` runs and nobody holds its clock"
        )

    def _feed(self) -> None:
        # The newest frame was drawn before we came; time may be held until somebody has seen it.
        seen = max(0, self._buffer.written - 1)
        while not self._stopping.is_set():
            written = self._buffer.wait(seen, _WAIT_S)
            if written == seen:
                if self._buffer.replaced():
                    seen = 0
                    if not self._follow():
                        return
                continue
            for index in range(max(seen, self._buffer.oldest()), written):
                frame = self._buffer.read(index)
                if frame is not None:
                    self._push(frame)
            seen = written

    def _follow(self) -> bool:
        """Turn to the segment of a restarted lab; false when it has another format and cannot enter this device."""
        try:
            successor = FrameReader(self._name)
        except UserError:  # gone again: look once more after the next time-out
            return True
        if successor.format != self._buffer.format:
            logger.error("%s came back as %s, was %s: frames stop", self._name, successor.format, self._buffer.format)
            successor.close()
            return False
        self._buffer.close()
        self._buffer = successor
        return True

    def _push(self, frame: BufferedFrame) -> None:
        for sensor, profile, pixels, stamp_ns, bytes_per_pixel in (
            (self._depth_sensor, self._depth_profile, frame.depth, frame.depth_stamp_ns, 2),
            (self._colour_sensor, self._colour_profile, frame.colour, frame.stamp_ns, 3),
        ):
            image = rs.software_video_frame()
            image.pixels = pixels
            image.bpp, image.stride = bytes_per_pixel, pixels.shape[1] * bytes_per_pixel
            image.timestamp, image.domain = stamp_ns / 1e6, rs.timestamp_domain.system_time
            image.frame_number = frame.number
            image.profile = profile.as_video_stream_profile()
            if bytes_per_pixel == 2:
                image.depth_units = self._buffer.format.depth_unit_m
            sensor.on_video_frame(image)


def _mode(mode: tuple[int, int, int]) -> str:
    return "{}x{} at {} Hz".format(*mode)
