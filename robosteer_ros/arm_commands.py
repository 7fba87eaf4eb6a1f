"""What a source of commands says to the arm, as chunks: poses and twists on their way, chunks in two messages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.executor import SetPoint
from robosteer_core.runtime.limits import MAX_LEAD_NS, Refusal
from robosteer_core.runtime.pose import Pose
from robosteer_core.runtime.quaternion import turn, turned
from robosteer_ros.graph.messages import base_frame, pose_of
from robosteer_ros.ros import geometry_msgs, std_msgs

#: So many halves of chunks wait for their other half.
PENDING = 32
#: A turn of more than this is none, rad.
MOST_RAD = 100.0


class ChunkJoiner:
    """Puts poses and widths of one chunk together, whichever comes first; an assertion of the last chunk, which has no points,
    comes alone. `take(poses, widths)` gets each chunk, `alone(poses)` one whose widths have not come with the `PENDING` next."""

    def __init__(self, take: Callable[[object, object], None], alone: Callable[[object], None]) -> None:
        self._take, self._alone = take, alone
        self._poses: dict[tuple, object] = {}
        self._widths: dict[tuple, object] = {}

    def take_poses(self, poses) -> None:
        if not poses.points:
            self._take(poses, None)
            return
        key = _key(poses)
        widths = self._widths.pop(key, None)
        if widths is not None:
            self._take(poses, widths)
            return
        superseded = self._poses.pop(key, None)
        self._poses[key] = poses
        if superseded is None and len(self._poses) > PENDING:
            superseded = self._poses.pop(next(iter(self._poses)))
        if superseded is not None:
            self._alone(superseded)

    def take_widths(self, widths) -> None:
        poses = self._poses.pop(_key(widths), None)
        if poses is not None:
            self._take(poses, widths)
            return
        self._widths[_key(widths)] = widths
        if len(self._widths) > PENDING:
            del self._widths[next(iter(self._widths))]


def _key(message) -> tuple:
    return message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id


class SteadyCommands:
    """Poses and twists of one source, each of its header's instant: what a stick, a script or `ros2 topic pub` sends. They
    come in order, not older than the rig's `hold_after_s`; each says where the command goes until then, from where it is."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._latest_ns = rig, -1

    def refusal(self, stamp_ns: int, now_ns: int) -> Refusal | None:
        """Why a command of `stamp_ns` comes too late, too early or out of order; None, and it is the latest."""
        age_s, most_s = (now_ns - stamp_ns) / 1e9, self._rig.limits.hold_after_s
        if age_s > most_s:
            return Refusal("stale", f"stale: the command is {age_s:.3f} s old, and hold_after_s is {most_s:g}; is its stamp that of now?")
        if stamp_ns < self._latest_ns:
            older_s = (self._latest_ns - stamp_ns) / 1e9
            return Refusal("reordered", f"reordered: the command is {older_s:.3f} s older than the one before it")
        if -age_s > MAX_LEAD_NS / 1e9:
            lead_s = MAX_LEAD_NS / 1e9
            return Refusal("future", f"future: the command is of {-age_s:.3f} s from now, and {lead_s:g} s is the most: another clock?")
        self._latest_ns = stamp_ns
        return None

    def to_pose(self, message: geometry_msgs.msg.PoseStamped, stamp_ns: int, start: SetPoint) -> ActionChunk:
        """The straight way to a pose at the speeds of the limits, at least one tick of the policy long. Raises UserError for
        another frame; values are judged by the limits."""
        self._require_frame(message.header)
        end, limits = pose_of(message.pose), self._rig.limits
        with np.errstate(all="ignore"):
            way = np.concatenate([end.position - start.pose.position, turn(start.pose.quaternion, end.quaternion)])
            times = [
                float(np.linalg.norm(way[:3])) / limits.max_speed_m_per_s,
                float(np.linalg.norm(way[3:])) / limits.max_angular_speed_rad_per_s, 1 / self._rig.rates.policy_hz,
            ]  # fmt: skip
        # What is no number, or too far, takes no time: it is refused as it is.
        longest_s = max(times) if max(times) < limits.stop_after_s else limits.hold_after_s
        return self._chunk(stamp_ns, start, way, [longest_s], end)

    def by_twist(self, message: geometry_msgs.msg.TwistStamped, stamp_ns: int, start: SetPoint) -> ActionChunk:
        """The way of a twist for `hold_after_s`, after which the command stands. Raises as `to_pose`."""
        self._require_frame(message.header)
        v, w, hold_s = message.twist.linear, message.twist.angular, self._rig.limits.hold_after_s
        twist = np.array([v.x, v.y, v.z, w.x, w.y, w.z])
        period_s = 1 / self._rig.rates.policy_hz
        times = [*np.arange(period_s, hold_s - period_s / 2, period_s), hold_s]
        with np.errstate(all="ignore"):
            return self._chunk(stamp_ns, start, twist * hold_s, times)

    def _chunk(self, stamp_ns: int, start: SetPoint, way: np.ndarray, times_s: list[float], end: Pose | None = None) -> ActionChunk:
        """Evenly along `way` (6,) [m, rad], reached at the last of the times. The first pose lies just beyond the next tick, so
        that chunks follow each other in the order of their stamps, and none is skipped over."""
        times_s = [1.1 / self._rig.rates.setpoint_hz, *times_s]
        poses = [_moved(start.pose, way * (time_s / times_s[-1])) for time_s in times_s]
        if end is not None:
            poses[-1] = end
        return ActionChunk(
            stamps_ns=stamp_ns + (np.array(times_s) * 1e9).astype(np.int64),
            positions=np.array([pose.position for pose in poses]), quaternions=np.array([pose.quaternion for pose in poses]),
            gripper=np.full(len(poses), start.gripper),
        )  # fmt: skip

    def _require_frame(self, header: std_msgs.msg.Header) -> None:
        if header.frame_id != base_frame(self._rig):
            raise UserError(f"a command is given in {base_frame(self._rig)}, found frame {header.frame_id!r}")


def _moved(pose: Pose, way: np.ndarray) -> Pose:
    # What is no rotation is the limits' to refuse.
    turning = turned(pose.quaternion, way[3:]) if np.abs(way[3:]).max() < MOST_RAD else way[[3, 4, 5, 5]]
    return Pose(pose.position + way[:3], turning)
