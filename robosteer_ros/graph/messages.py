"""Between what the runtime holds and standard ROS messages; stamps, frames and units on the wire.

On the wire stamps are ROS time: in the simulated lab its robot time (as `/clock` tells it), on a real arm the system's, which
machines share. The runtime lives by `rig_clock`: robot time, or this machine's monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.pose import Pose
from robosteer_ros.ros import builtin_interfaces, diagnostic_msgs, geometry_msgs, std_msgs, trajectory_msgs

Stamp = builtin_interfaces.msg.Time
_SECOND_NS = 1_000_000_000


class Stamps:
    """Stamps of a rig's clock [ns] as ROS stamps, and back."""

    def __init__(self, rig: Rig) -> None:
        self._simulated = rig.lab is not None

    def message(self, stamp_ns: int) -> Stamp:
        seconds, nanoseconds = divmod(int(stamp_ns) + self._ahead_ns(), _SECOND_NS)
        return Stamp(sec=seconds, nanosec=nanoseconds)

    def ns(self, stamp: Stamp) -> int:
        return stamp.sec * _SECOND_NS + stamp.nanosec - self._ahead_ns()

    def _ahead_ns(self) -> int:
        """How far system time is ahead of the monotonic clock: read anew each time, because system time is slewed."""
        return 0 if self._simulated else time.time_ns() - time.monotonic_ns()


def base_frame(rig: Rig) -> str:
    """As in franka_description."""
    return f"{rig.arm.model}_link0"


def hand_frame(rig: Rig) -> str:
    """The tool centre point of the Franka Hand, as in franka_description."""
    return f"{rig.arm.model}_hand_tcp"


def pose_message(pose: Pose) -> geometry_msgs.msg.Pose:
    x, y, z = map(float, pose.position)
    qx, qy, qz, qw = map(float, pose.quaternion)
    return geometry_msgs.msg.Pose(
        position=geometry_msgs.msg.Point(x=x, y=y, z=z), orientation=geometry_msgs.msg.Quaternion(x=qx, y=qy, z=qz, w=qw)
    )


def pose_of(message: geometry_msgs.msg.Pose) -> Pose:
    p, q = message.position, message.orientation
    return Pose(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))


def chunk_messages(
    rig: Rig, chunk: ActionChunk, header: std_msgs.msg.Header
) -> tuple[trajectory_msgs.msg.MultiDOFJointTrajectory, trajectory_msgs.msg.JointTrajectory]:
    """A chunk as poses of the hand and, under the same header, widths of the gripper [m].

    `header` has the base frame and, as its stamp, that of the chunk's first pose. Raises UserError for a chunk without poses.
    """
    if len(chunk) == 0:
        raise UserError("a chunk without poses says nothing")
    poses = trajectory_msgs.msg.MultiDOFJointTrajectory(header=header, joint_names=[hand_frame(rig)])
    widths = trajectory_msgs.msg.JointTrajectory(header=header, joint_names=["gripper_width"])
    for index, since_ns in enumerate((chunk.stamps_ns - chunk.stamps_ns[0]).tolist()):
        placed = pose_message(chunk.pose(index))
        transform = geometry_msgs.msg.Transform(
            translation=geometry_msgs.msg.Vector3(x=placed.position.x, y=placed.position.y, z=placed.position.z),
            rotation=placed.orientation,
        )
        point = trajectory_msgs.msg.MultiDOFJointTrajectoryPoint(transforms=[transform], time_from_start=_duration(since_ns))
        poses.points.append(point)
        width = float(chunk.gripper[index]) * rig.gripper.max_width_m
        widths.points.append(trajectory_msgs.msg.JointTrajectoryPoint(positions=[width], time_from_start=_duration(since_ns)))
    return poses, widths


def chunk_of(
    rig: Rig, poses: trajectory_msgs.msg.MultiDOFJointTrajectory, widths: trajectory_msgs.msg.JointTrajectory, first_ns: int
) -> ActionChunk:
    """The chunk that both tell; its first stamp would be `first_ns` at `time_from_start` 0. Values are judged by the limits.

    Raises UserError where the two do not belong together or are of another frame.
    """
    if poses.header.frame_id != base_frame(rig):
        raise UserError(f"a chunk is given in {base_frame(rig)}, found frame {poses.header.frame_id!r}")
    if list(poses.joint_names) != [hand_frame(rig)] or any(len(point.transforms) != 1 for point in poses.points):
        raise UserError(f"a chunk moves {hand_frame(rig)} alone, found {', '.join(poses.joint_names) or 'nothing'}")
    since_ns = [_duration_ns(point.time_from_start) for point in poses.points]
    if since_ns != [_duration_ns(point.time_from_start) for point in widths.points]:
        raise UserError(f"a chunk has one gripper width per pose at the same times, found {len(widths.points)} for {len(since_ns)}")
    if any(len(point.positions) != 1 for point in widths.points):
        raise UserError("a point of the gripper has one width")
    transforms = [point.transforms[0] for point in poses.points]
    return ActionChunk(
        stamps_ns=first_ns + np.array(since_ns, np.int64),
        positions=np.array([[t.translation.x, t.translation.y, t.translation.z] for t in transforms]).reshape(-1, 3),
        quaternions=np.array([[t.rotation.x, t.rotation.y, t.rotation.z, t.rotation.w] for t in transforms]).reshape(-1, 4),
        gripper=np.array([point.positions[0] for point in widths.points]) / rig.gripper.max_width_m,
    )


def report(
    stamp: Stamp, name: str, message: str, values: Mapping[str, object] = {}, level: bytes = diagnostic_msgs.msg.DiagnosticStatus.OK
) -> diagnostic_msgs.msg.DiagnosticArray:
    """What `name` says of itself, with values as texts: for `/diagnostics` and the status topics of nodes."""
    told = [diagnostic_msgs.msg.KeyValue(key=key, value=value if isinstance(value, str) else f"{value:g}") for key, value in values.items()]
    status = diagnostic_msgs.msg.DiagnosticStatus(level=level, name=name, message=message, values=told)
    return diagnostic_msgs.msg.DiagnosticArray(header=std_msgs.msg.Header(stamp=stamp), status=[status])


def values_of(message: diagnostic_msgs.msg.DiagnosticArray) -> dict[str, str]:
    """The values of a report."""
    return {value.key: value.value for status in message.status for value in status.values}


def _duration(ns: int) -> builtin_interfaces.msg.Duration:
    seconds, nanoseconds = divmod(ns, _SECOND_NS)
    return builtin_interfaces.msg.Duration(sec=seconds, nanosec=nanoseconds)


def _duration_ns(duration: builtin_interfaces.msg.Duration) -> int:
    return duration.sec * _SECOND_NS + duration.nanosec
