"""The raw log of an episode: what is on the graph, byte by byte, as a ROS 2 bag in MCAP."""

from __future__ import annotations

import logging
import shutil
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_ros.qos import EVERY_LATCHED, STATES
from robosteer_ros.ros import (
    DurabilityPolicy,
    MutuallyExclusiveCallbackGroup,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    diagnostic_msgs,
    geometry_msgs,
    sensor_msgs,
    std_msgs,
    tf2_msgs,
    trajectory_msgs,
)

logger = logging.getLogger(__name__)

FOLDER = "raw"
_RUNNING = ".running"
_DEFINITIONS = get_typestore(Stores.ROS2_JAZZY)
#: Images come best effort; the depth is ours alone, for the moments in which Python is busy.
_IMAGES = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)


def topics(rig: Rig) -> dict[str, tuple[type, QoSProfile]]:
    """What is logged, each with its type and how it is heard."""
    listed = {
        "joint_states": (sensor_msgs.msg.JointState, STATES),
        "arm/pose": (geometry_msgs.msg.PoseStamped, STATES),
        "arm/commanded_pose": (geometry_msgs.msg.PoseStamped, STATES),
        "arm/wrench": (geometry_msgs.msg.WrenchStamped, STATES),
        "arm/status": (diagnostic_msgs.msg.DiagnosticArray, STATES),
        "arm/answers": (diagnostic_msgs.msg.DiagnosticArray, STATES),
        "arm/teleop/chunk": (trajectory_msgs.msg.MultiDOFJointTrajectory, STATES),
        "arm/teleop/gripper_chunk": (trajectory_msgs.msg.JointTrajectory, STATES),
        "gripper/width": (std_msgs.msg.Float64, STATES),
        "teleop/command": (sensor_msgs.msg.Joy, STATES),
        "recorder/status": (diagnostic_msgs.msg.DiagnosticArray, STATES),
        "/tf_static": (tf2_msgs.msg.TFMessage, EVERY_LATCHED),
    }
    for camera in rig.cameras:
        listed[f"{camera.name}/color/image_raw/compressed"] = (sensor_msgs.msg.CompressedImage, _IMAGES)
        listed[f"{camera.name}/color/camera_info"] = (sensor_msgs.msg.CameraInfo, _IMAGES)
    return listed


@dataclass
class _Heard:
    """One topic. `last` is kept where it is latched: an episode begins after it has been said."""

    name: str
    kind: type
    latched: bool
    stamped: bool
    last: list[bytes] = field(default_factory=list)
    connection: Connection | None = None


class RawLog:
    """Listens to `topics` as long as the node lives, and writes them between `begin` and `end`.

    One bag per episode, `raw/episode_000003/episode_000003.mcap` beside the dataset's own folders; `ros2 bag`, `mcap` and
    Foxglove open it. Log times are ROS time: in the lab the newest stamp that has been heard. A bag whose process was
    killed, or whose disk is full, has no index and stays under `raw/interrupted_...`, for `mcap recover`.
    """

    def __init__(self, node: Node, rig: Rig, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._lock = threading.Lock()
        self._writer: Writer | None = None
        self._simulated, self._stamp_ns = rig.lab is not None, 0
        self._set_aside()
        group = MutuallyExclusiveCallbackGroup()
        self._heard = [self._hear(node, group, name, *what) for name, what in topics(rig).items()]
        self._node = node

    def begin(self) -> None:
        """Raises UserError where the log cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            writer = Writer(self._folder / _RUNNING, version=9, storage_plugin=StoragePlugin.MCAP)
            writer.open()
        except OSError as error:
            raise UserError(f"cannot write the raw log {self._folder}: {error.strerror}; make room, or record elsewhere") from error
        with self._lock:
            for heard, _ in self._heard:
                heard.connection = writer.add_connection(heard.name, _ros_name(heard.kind), typestore=_DEFINITIONS)
                for payload in heard.last:
                    writer.write(heard.connection, self._now_ns(), payload)
            self._writer = writer

    def end(self, index: int | None) -> None:
        """Finish the log as that of episode `index`, or with None drop it. One that could not be written is set aside."""
        with self._lock:
            writer, self._writer = self._writer, None
        running = self._folder / _RUNNING
        if index is None:
            if writer is not None:
                with suppress(OSError):  # what cannot be written is not missed
                    writer.abort()
            shutil.rmtree(running, ignore_errors=True)
            return
        try:
            if writer is not None:
                writer.close()
        except OSError as error:
            logger.error("the raw log of episode %d cannot be finished: %s", index, error)
            writer = None
        if writer is None:
            self._set_aside()
            return
        name = f"episode_{index:06d}"
        shutil.rmtree(self._folder / name, ignore_errors=True)  # of an episode that its dataset has not got
        (running / f"{_RUNNING}.mcap").rename(running / f"{name}.mcap")
        metadata = running / "metadata.yaml"
        metadata.write_text(metadata.read_text().replace(f"{_RUNNING}.mcap", f"{name}.mcap"))
        running.rename(self._folder / name)

    def close(self) -> None:
        self.end(None)
        for _, subscription in self._heard:
            self._node.destroy_subscription(subscription)

    def _hear(self, node: Node, group, name: str, kind: type, profile: QoSProfile):
        latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        stamped = next(iter(kind.get_fields_and_field_types()), "") == "header"
        heard = _Heard(node.resolve_topic_name(name), kind, latched, stamped)
        return heard, node.create_subscription(
            kind, name, lambda payload: self._take(heard, payload), profile, raw=True, callback_group=group
        )

    def _take(self, heard: _Heard, payload: bytes) -> None:
        with self._lock:
            if heard.stamped:
                seconds, nanoseconds = struct.unpack_from("<iI", payload, 4)  # after the four octets of CDR's own header
                self._stamp_ns = max(self._stamp_ns, seconds * 1_000_000_000 + nanoseconds)
            if heard.latched:
                heard.last.append(payload)
            if self._writer is not None:
                try:
                    self._writer.write(heard.connection, self._now_ns(), payload)
                except OSError as error:  # the dataset goes on without it
                    logger.error("the raw log of this episode ends here: %s; make room", error)
                    self._writer = None

    def _now_ns(self) -> int:
        return self._stamp_ns if self._simulated else time.time_ns()

    def _set_aside(self) -> None:
        left, number = self._folder / _RUNNING, 0
        if left.exists():
            while (aside := self._folder / f"interrupted_{number:03d}").exists():
                number += 1
            left.rename(aside)
            logger.warning("the raw log of an interrupted episode is in %s", aside)


def _ros_name(kind: type) -> str:
    package, _, _ = kind.__module__.partition(".")
    return f"{package}/msg/{kind.__name__}"
