"""A camera's images as topics, for viewers and recorders: made from shared memory, and only for who listens."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from robosteer_core.camera_calibration import CalibratedLens
from robosteer_core.errors import UserError
from robosteer_core.rig import Camera, Rig
from robosteer_core.runtime.frame import CameraError, Frame, Intrinsics
from robosteer_ros.graph.camera_link import CameraLink
from robosteer_ros.graph.messages import Stamps
from robosteer_ros.ros import LifecycleNode, qos_profile_sensor_data, sensor_msgs, std_msgs

_LOOK_S = 0.1
"""How long somebody who begins to listen waits for the first image, at most."""


class ImageTopics:
    """`<camera>/color/image_raw` (rgb8), `<camera>/color/image_raw/compressed` (JPEG), `<camera>/aligned_depth_to_color/image_raw`
    (16UC1, millimetres), each with the frame's capture stamp, and both `camera_info` of the same stamps.

    `quality` gives JPEG's (1 to 95); `frame_id` is the colour camera's optical frame; `lens` a calibrated one, in place of
    the camera's own. A message is only made where somebody listens.
    """

    def __init__(
        self, camera: Camera, rig: Rig, node: LifecycleNode, frame_id: str, quality: Callable[[], int], lens: CalibratedLens | None
    ) -> None:
        self._camera, self._rig, self._node = camera, rig, node
        self._frame_id, self._quality, self._lens, self._stamps = frame_id, quality, lens, Stamps(rig)
        kinds = sensor_msgs.msg
        self._makers = {
            self._publisher(kind, name): make
            for name, kind, make in (
                ("color/image_raw", kinds.Image, self._colour),
                ("color/image_raw/compressed", kinds.CompressedImage, self._jpeg),
                ("color/camera_info", kinds.CameraInfo, self._info),
                ("aligned_depth_to_color/image_raw", kinds.Image, self._depth),
                ("aligned_depth_to_color/camera_info", kinds.CameraInfo, self._info),
            )
        }
        self._stopping = threading.Event()

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=f"images of {self._camera.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def close(self) -> None:
        """Take the topics off the graph."""
        for publisher in self._makers:
            self._node.destroy_lifecycle_publisher(publisher)

    def _publisher(self, kind: type, name: str):
        return self._node.create_lifecycle_publisher(kind, f"{self._camera.name}/{name}", qos_profile_sensor_data)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            if self._heard():
                try:
                    with CameraLink(self._camera, self._rig, self._node) as link:
                        self._publish(link)
                except UserError:  # no frame yet: the feed says why
                    continue

    def _publish(self, link: CameraLink) -> None:
        while not self._stopping.is_set() and (heard := self._heard()):
            try:
                frame = link.next(_LOOK_S)
            except CameraError:
                continue
            header = std_msgs.msg.Header(stamp=self._stamps.message(frame.stamp_ns), frame_id=self._frame_id)
            for publisher in heard:
                publisher.publish(self._makers[publisher](frame, header))

    def _heard(self) -> list:
        """The publishers that somebody listens to."""
        return [publisher for publisher in self._makers if publisher.get_subscription_count()]

    def _colour(self, frame: Frame, header: std_msgs.msg.Header) -> sensor_msgs.msg.Image:
        return _image(frame.colour, "rgb8", header)

    def _depth(self, frame: Frame, header: std_msgs.msg.Header) -> sensor_msgs.msg.Image:
        return _image(in_millimetres(frame.depth, frame.depth_unit_m), "16UC1", header)

    def _jpeg(self, frame: Frame, header: std_msgs.msg.Header) -> sensor_msgs.msg.CompressedImage:
        file = BytesIO()
        Image.fromarray(frame.colour).save(file, "JPEG", quality=self._quality())
        return sensor_msgs.msg.CompressedImage(header=header, format="jpeg", data=array("B", file.getvalue()))

    def _info(self, frame: Frame, header: std_msgs.msg.Header) -> sensor_msgs.msg.CameraInfo:
        return camera_info(frame.intrinsics, self._lens, header)


def camera_info(given: Intrinsics, calibrated: CalibratedLens | None, header: std_msgs.msg.Header) -> sensor_msgs.msg.CameraInfo:
    """The lens as image_proc reads it; the calibrated one where it is of the same image size."""
    lens, distortion = given, (0.0,) * 5
    if calibrated is not None and (calibrated.width, calibrated.height) == (given.width, given.height):
        lens, distortion = calibrated, calibrated.distortion
    matrix = [lens.fx, 0.0, lens.cx, 0.0, lens.fy, lens.cy, 0.0, 0.0, 1.0]
    info = sensor_msgs.msg.CameraInfo(header=header, width=lens.width, height=lens.height, distortion_model="plumb_bob")
    info.d, info.k, info.r = list(distortion), np.array(matrix), np.eye(3).ravel()
    info.p = np.insert(np.array(matrix).reshape(3, 3), 3, 0.0, axis=1).ravel()
    return info


def in_millimetres(depth: np.ndarray, unit_m: float) -> np.ndarray:
    """Depth (height, width) uint16 in units of `unit_m` as uint16 millimetres; 0, unknown, where it does not fit."""
    if unit_m == 0.001:
        return depth
    millimetres = np.rint(depth * (unit_m * 1e3))
    return np.where(millimetres <= np.iinfo(np.uint16).max, millimetres, 0).astype(np.uint16)


def _image(pixels: np.ndarray, encoding: str, header: std_msgs.msg.Header) -> sensor_msgs.msg.Image:
    height, width = pixels.shape[:2]
    return sensor_msgs.msg.Image(
        header=header, height=height, width=width, encoding=encoding, step=pixels.strides[0], data=array("B", pixels.tobytes())
    )
