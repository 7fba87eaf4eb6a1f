"""From chunks of actions to timed set-points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.pose import Pose
from robosteer_core.runtime.quaternion import turn, turned

STILL = np.zeros(6)


@dataclass(frozen=True)
class SetPoint:
    """What the arm is asked for at one instant.

    `pose` and `twist` (6,): linear [m/s] and angular [rad/s] velocity of the end effector, both in the base frame;
    `gripper` opening in [0, 1], 1 is open.
    """

    pose: Pose
    twist: np.ndarray
    gripper: float


class ChunkExecutor:
    """Plays chunks: straight lines in position and great circles in orientation between the stamped poses.

    A chunk that arrives takes over from where the command is. If it starts in the future, the command runs from there
    to its first pose. If its first stamps have passed already (inference took that long), they are skipped, and the
    distance between the command and the new path fades out within `blend_ns`: nothing jumps. After the last stamp the
    last pose stands.
    """

    def __init__(self, start: Pose, gripper: float, now_ns: int, blend_ns: int) -> None:
        self._blend_ns = blend_ns
        self._set_path(np.array([now_ns]), start.position[None], start.quaternion[None], np.array([gripper]))
        self._blend_from(now_ns, STILL)

    def accept(self, chunk: ActionChunk, now_ns: int, commanded: Pose) -> None:
        """Let `chunk` replace what is left of the running one; `commanded` is where the command stands at `now_ns`.

        The last stamp must lie in the future (`ValueError`): `Limits.refusal` turns others away.
        """
        ahead = int(np.searchsorted(chunk.stamps_ns, now_ns, side="right"))
        if ahead == len(chunk):
            raise ValueError(f"every stamp of the chunk has passed: the last is {chunk.stamps_ns[-1]}, now is {now_ns}")
        if ahead == 0:
            self._set_path(
                np.concatenate([[now_ns], chunk.stamps_ns]),
                np.vstack([commanded.position, chunk.positions]),
                np.vstack([commanded.quaternion, chunk.quaternions]),
                np.concatenate([chunk.gripper[:1], chunk.gripper]),
            )
            self._blend_from(now_ns, STILL)
        else:
            running = slice(ahead - 1, None)
            self._set_path(
                chunk.stamps_ns[running], chunk.positions[running], chunk.quaternions[running], chunk.gripper[running]
            )
            self._blend_from(now_ns, STILL)
            path = self.at(now_ns).pose
            offset = [commanded.position - path.position, turn(path.quaternion, commanded.quaternion)]
            self._blend_from(now_ns, np.concatenate(offset))

    def at(self, stamp_ns: int) -> SetPoint:
        """The set-point of any instant since the last chunk was accepted."""
        segment = int(np.searchsorted(self._stamps_ns, stamp_ns, side="left")) - 1
        if 0 <= segment < len(self._motions):
            start_ns, end_ns = int(self._stamps_ns[segment]), int(self._stamps_ns[segment + 1])
            motion = self._motions[segment] * ((stamp_ns - start_ns) / (end_ns - start_ns))
            twist = self._motions[segment] * (1e9 / (end_ns - start_ns))
            # The gripper's command belongs to the way to a pose, not to the arrival there.
            corner, gripper = segment, self._gripper[segment + 1]
        else:
            corner = 0 if segment < 0 else -1
            motion, twist, gripper = STILL, STILL, self._gripper[corner]
        position = self._positions[corner] + motion[:3]
        quaternion = turned(self._quaternions[corner], motion[3:])
        rest = 1.0 - (stamp_ns - self._blend_start_ns) / self._blend_ns
        if rest > 0.0 and self._offset is not STILL:
            position = position + rest * self._offset[:3]
            quaternion = turned(quaternion, rest * self._offset[3:])
            twist = twist - self._offset * (1e9 / self._blend_ns)
        return SetPoint(Pose(position, quaternion), twist, float(gripper))

    def _set_path(
        self, stamps_ns: np.ndarray, positions: np.ndarray, quaternions: np.ndarray, gripper: np.ndarray
    ) -> None:
        self._stamps_ns, self._positions, self._quaternions, self._gripper = stamps_ns, positions, quaternions, gripper
        turns = [turn(start, end) for start, end in zip(quaternions, quaternions[1:])]
        self._motions = [np.concatenate(motion) for motion in zip(np.diff(positions, axis=0), turns)]

    def _blend_from(self, now_ns: int, offset: np.ndarray) -> None:
        self._blend_start_ns, self._offset = now_ns, offset
