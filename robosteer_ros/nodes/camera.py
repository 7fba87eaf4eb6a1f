"""The node of one camera: its frames into shared memory, images for viewers, where it sits, and how it is."""

from __future__ import annotations

import time
from pathlib import Path

from robosteer_core.camera_calibration import CameraCalibration, StaticTransform, camera_calibration, frames
from robosteer_core.errors import UserError
from robosteer_core.rig import Camera
from robosteer_ros.graph.camera_feed import CameraFeed
from robosteer_ros.graph.camera_link import segment_of
from robosteer_ros.graph.image_topics import ImageTopics
from robosteer_ros.graph.messages import report
from robosteer_ros.graph.qos import DIAGNOSTICS, LATCHED
from robosteer_ros.nodes import rig_node
from robosteer_ros.nodes.rig_node import Declared, RigNode
from robosteer_ros.ros import Clock, ClockType, QoSProfile, diagnostic_msgs, geometry_msgs, std_msgs, tf2_msgs

_REPORT_S = 1.0
_Level = diagnostic_msgs.msg.DiagnosticStatus


class CameraNode(RigNode):
    """Named `<camera>_camera` it is the node of that camera; under another name its parameter `camera` tells.

    A camera that is missing or falls silent is said on /diagnostics (ERROR, STALE) and taken again when it is back.
    """

    PARAMETERS = RigNode.PARAMETERS | {
        "camera": Declared("", "name of the camera in the rig; where empty, that of the node without _camera"),
        "calibrations": Declared("calibrations", "folder of <camera>.yaml, as `robosteer calibrate hand-eye` writes them"),
        "jpeg_quality": Declared(85, "quality of the compressed images, 1 to 95", read_only=False),
        "silent_after_s": Declared(2.0, "seconds without a frame after which the camera is started anew"),
    }

    def __init__(self) -> None:
        super().__init__("camera")

    def configure(self) -> None:
        camera = self._camera = self._which()
        self._calibration = self._read_calibration()
        _, optical, _ = frames(self.rig.arm.model, camera.name, camera.mount)
        lens = self._calibration.lens if self._calibration else None
        self._images = ImageTopics(camera, self.rig, self, optical, lambda: self.value("jpeg_quality"), lens)
        self.resources.callback(self._images.close)
        self._transforms = self._publisher(tf2_msgs.msg.TFMessage, "/tf_static", LATCHED)
        self._diagnostics = self._publisher(diagnostic_msgs.msg.DiagnosticArray, "/diagnostics", DIAGNOSTICS)

    def activate(self) -> None:
        feed = self._feed = CameraFeed(self._camera, self.rig, segment_of(self._camera, self.rig, self), self.value("silent_after_s"))
        feed.start()
        self.running.callback(feed.stop)
        self._images.start()
        self.running.callback(self._images.stop)
        if self._calibration is not None:
            self._transforms.publish(tf2_msgs.msg.TFMessage(transforms=[self._transform(self._calibration.transform)]))
        self._told = (time.monotonic(), feed.passed)
        timer = self.create_timer(_REPORT_S, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.running.callback(self.destroy_timer, timer)

    def _which(self) -> Camera:
        """Raises UserError where neither the parameter nor the node's name tells a camera of the rig."""
        name = self.value("camera") or self.get_name().removesuffix("_camera")
        try:
            return self.rig.camera(name)
        except UserError as error:
            raise UserError(f"{error}. Give one: -p camera:=NAME, or call the node NAME_camera: -r __node:=NAME_camera") from None

    def _read_calibration(self) -> CameraCalibration | None:
        """The camera's calibration, where it may be relied upon. A camera without goes on, without its transform."""
        file = Path(self.value("calibrations")) / f"{self._camera.name}.yaml"
        try:
            found = camera_calibration(self.rig, self._camera, file.parent)
            if found is not None and found.verdict != "accepted":
                raise UserError(f"{file} was rejected: {found.reason}")
        except UserError as error:
            self._refused = str(error)
            self.get_logger().warning(f"no transform of camera {self._camera.name!r}: {error}")
            return None
        self._refused = ""
        return found

    def _transform(self, found: StaticTransform) -> geometry_msgs.msg.TransformStamped:
        (x, y, z), (qx, qy, qz, qw) = found.translation_m, found.rotation_xyzw
        return geometry_msgs.msg.TransformStamped(
            header=std_msgs.msg.Header(stamp=self.get_clock().now().to_msg(), frame_id=found.parent_frame),
            child_frame_id=found.child_frame,
            transform=geometry_msgs.msg.Transform(
                translation=geometry_msgs.msg.Vector3(x=x, y=y, z=z), rotation=geometry_msgs.msg.Quaternion(x=qx, y=qy, z=qz, w=qw)
            ),
        )

    def _publisher(self, kind: type, topic: str, profile: QoSProfile):
        made = self.create_lifecycle_publisher(kind, topic, profile)
        self.resources.callback(self.destroy_lifecycle_publisher, made)
        return made

    def _report(self) -> None:
        feed, now, calibration = self._feed, time.monotonic(), self._calibration
        (then, passed), self._told = self._told, (now, feed.passed)
        values = {
            "serial": self._camera.serial, "frames": str(feed.passed), "frames per second": f"{(feed.passed - passed) / (now - then):.1f}",
            "missed": str(feed.missed), "interruptions": str(feed.interruptions),
            **{name: str(getattr(feed.statistics, name)) for name in ("repeated", "jumped_back", "unpaired")},
            "calibration": f"{calibration.date:%Y-%m-%d %H:%M}, {calibration.errors.loo_mm:.2f} mm" if calibration else "none",
        }  # fmt: skip
        level, words = _Level.OK, "frames come"
        if self._refused:
            level, words = _Level.WARN, f"no transform: {self._refused}"
        if feed.trouble:
            level, words = _Level.STALE if feed.silent else _Level.ERROR, feed.trouble
        self._diagnostics.publish(report(self.get_clock().now().to_msg(), self.get_fully_qualified_name(), words, values, level))


def main() -> None:
    rig_node.main(CameraNode)


if __name__ == "__main__":
    main()
