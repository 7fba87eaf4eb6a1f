"""The raw log: what is on the graph, byte by byte, as a ROS 2 bag in MCAP."""

from __future__ import annotations

import logging
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
from robosteer_ros.graph import arm_messages as wire
from robosteer_ros.graph.qos import DIAGNOSTICS, EVERY_LATCHED, STATES
from robosteer_ros.ros import (
    DurabilityPolicy,
    MutuallyExclusiveCallbackGroup,
    Node,
    QoSProfile,
    ReliabilityPolicy,
    diagnostic_msgs,
    geometry_msgs,
    rcl_interfaces,
    sensor_msgs,
    std_msgs,
    tf2_msgs,
    trajectory_msgs,
)

logger = logging.getLogger(__name__)

#: Sources of commands that the arm's node has by default.
SOURCES = ("policy", "teleop", "user")
_DEFINITIONS = get_typestore(Stores.ROS2_JAZZY)
#: Images come best effort; the depth is ours alone, for the moments in which Python is busy.
_IMAGES = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
_ROSOUT = QoSProfile(depth=1000)


def topics(rig: Rig) -> dict[str, tuple[type, QoSProfile]]:
    """What is logged, each with its type and how it is heard. Images are logged as compressed ones, depth is not."""
    listed = {topic: (kind, STATES) for topic, kind in wire.STATE_TOPICS.items()}
    listed |= {
        wire.STATUS: (diagnostic_msgs.msg.DiagnosticArray, STATES),
        wire.ANSWERS: (diagnostic_msgs.msg.DiagnosticArray, STATES),
        wire.WIDTH: (std_msgs.msg.Float64, STATES),
        "gripper/command": (std_msgs.msg.Float64, STATES),
        "teleop/command": (sensor_msgs.msg.Joy, STATES),
        "recorder/status": (diagnostic_msgs.msg.DiagnosticArray, STATES),
        "policy/status": (diagnostic_msgs.msg.DiagnosticArray, STATES),
        "policy/instruction": (std_msgs.msg.String, STATES),
        "policy/instruction_in_use": (std_msgs.msg.String, STATES),
        wire.DIAGNOSTICS: (diagnostic_msgs.msg.DiagnosticArray, DIAGNOSTICS),
        "/rosout": (rcl_interfaces.msg.Log, _ROSOUT),
        wire.TRANSFORMS: (tf2_msgs.msg.TFMessage, STATES),
        "/tf_static": (tf2_msgs.msg.TFMessage, EVERY_LATCHED),
    }
    for source in SOURCES:
        listed |= {
            f"arm/{source}/chunk": (trajectory_msgs.msg.MultiDOFJointTrajectory, STATES),
            f"arm/{source}/gripper_chunk": (trajectory_msgs.msg.JointTrajectory, STATES),
            f"arm/{source}/pose": (geometry_msgs.msg.PoseStamped, STATES),
            f"arm/{source}/twist": (geometry_msgs.msg.TwistStamped, STATES),
        }
    for camera in rig.cameras:
        listed[f"{camera.name}/color/image_raw/compressed"] = (sensor_msgs.msg.CompressedImage, _IMAGES)
        listed[f"{camera.name}/color/camera_info"] = (sensor_msgs.msg.CameraInfo, _IMAGES)
    return listed


@dataclass
class _Heard:
    """One topic. `last` is kept where it is latched: a log begins after it has been said. `timed`: its stamps are robot time."""

    name: str
    kind: type
    latched: bool
    timed: bool
    last: list[bytes] = field(default_factory=list)
    connection: Connection | None = None


class RawLog:
    """Listens to `topics` as long as `close` has not been called, and writes what it hears between `begin` and `end` into a bag,
    which `ros2 bag`, `mcap` and Foxglove open. `messages` counts by topic what is in it.

    Log times are ROS time: in the lab the newest stamp of the arm's states and of the cameras. A bag whose process was killed, or
    whose disk is full, has no index: `mcap recover` makes one.
    """

    def __init__(self, node: Node, rig: Rig) -> None:
        self._lock = threading.Lock()
        self._writer: Writer | None = None
        self._simulated, self._stamp_ns = rig.lab is not None, 0
        self.messages: dict[str, int] = {}
        group = MutuallyExclusiveCallbackGroup()
        self._heard = [self._hear(node, group, name, *what) for name, what in topics(rig).items()]
        self._node = node

    def begin(self, folder: Path) -> None:
        """A bag in `folder`, which is made. Raises UserError where the log cannot be written."""
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
            writer.open()
            with self._lock:
                self._writer, self.messages = writer, {}
                for heard, _ in self._heard:
                    heard.connection = None
                    for payload in heard.last:
                        self._write(heard, payload)
        except OSError as error:
            self.drop()
            raise UserError(f"cannot write the raw log {folder}: {error.strerror}; make room, or choose another folder") from error

    def end(self) -> bool:
        """Finish the bag; False where it could not be written to its end, which has been said."""
        with self._lock:
            writer, self._writer = self._writer, None
        try:
            if writer is not None:
                writer.close()
                return True
        except OSError as error:
            logger.error("the raw log cannot be finished: %s", error)
        return False

    def drop(self) -> None:
        """End the bag without finishing it."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):  # what cannot be written is not missed
                writer.abort()

    def close(self) -> None:
        self.drop()
        for _, subscription in self._heard:
            self._node.destroy_subscription(subscription)

    def publishers(self) -> dict[str, set[str]]:
        """By topic, the nodes that publish it now, with their namespaces."""
        found = {heard.name: self._node.get_publishers_info_by_topic(heard.name) for heard, _ in self._heard}
        return {name: {f"{each.node_namespace.rstrip('/')}/{each.node_name}" for each in infos} for name, infos in found.items() if infos}

    def _hear(self, node: Node, group, name: str, kind: type, profile: QoSProfile):
        latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        timed = name in wire.STATE_TOPICS or kind is sensor_msgs.msg.CompressedImage
        heard = _Heard(node.resolve_topic_name(name), kind, latched, timed)
        return heard, node.create_subscription(
            kind, name, lambda payload: self._take(heard, payload), profile, raw=True, callback_group=group
        )

    def _take(self, heard: _Heard, payload: bytes) -> None:
        with self._lock:
            if heard.timed:
                seconds, nanoseconds = struct.unpack_from("<iI", payload, 4)  # after the four octets of CDR's own header
                self._stamp_ns = max(self._stamp_ns, seconds * 1_000_000_000 + nanoseconds)
            if heard.latched:
                heard.last.append(payload)
            if self._writer is not None:
                try:
                    self._write(heard, payload)
                except OSError as error:  # what is logged goes on without it
                    logger.error("the raw log ends here: %s; make room", error)
                    self._writer = None

    def _write(self, heard: _Heard, payload: bytes) -> None:
        if heard.connection is None:
            heard.connection = self._writer.add_connection(heard.name, ros_name(heard.kind), typestore=_DEFINITIONS)
        self._writer.write(heard.connection, self._stamp_ns if self._simulated else time.time_ns(), payload)
        self.messages[heard.name] = self.messages.get(heard.name, 0) + 1


def ros_name(kind: type) -> str:
    """The name of a message's type, as ROS says it: package/msg/Name."""
    package, _, _ = kind.__module__.partition(".")
    return f"{package}/msg/{kind.__name__}"
