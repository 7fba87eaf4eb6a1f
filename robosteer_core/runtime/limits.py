"""The last stage before the arm: what no command gets past, whoever sent it. Software limits, not safety-rated."""

from __future__ import annotations

from collections import Counter

import numpy as np

from robosteer_core import rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.executor import SetPoint
from robosteer_core.runtime.pose import Pose
from robosteer_core.runtime.quaternion import turn, turned

#: A first pose farther ahead than this comes from a sender with another clock.
MAX_LEAD_NS = 5_000_000_000
#: A loop that was held up may catch up this much of the allowed speed, not the whole of the lost time.
MAX_CATCH_UP_PERIODS = 2


class Limits:
    """Applies the rig's limits; `interventions` counts by name how often each one acted.

    Whole chunks are refused when they are `malformed`, `non_finite`, `reordered`, `stale`, `future` or contain a `step`.
    Single set-points are changed by `distance`, `workspace`, `speed` and `angular_speed`; one that is not finite is
    replaced by the one before.
    """

    def __init__(self, config: rig.Limits, period_s: float) -> None:
        self._config = config
        self._longest_s = MAX_CATCH_UP_PERIODS * period_s
        self._low, self._high = np.array(config.workspace.low_m), np.array(config.workspace.high_m)
        self._latest_start_ns: int | None = None
        self.interventions: Counter[str] = Counter()

    def inside(self, pose: Pose) -> bool:
        """Whether a pose lies in the workspace."""
        return bool(np.all(pose.position >= self._low) and np.all(pose.position <= self._high))

    def refusal(self, chunk: ActionChunk, now_ns: int, commanded: Pose) -> str | None:
        """Why a chunk that arrives at `now_ns` must not be played, or None; `commanded` is the running command."""
        reason = malformation(chunk) or self._untimely(chunk, now_ns) or self._step(chunk, now_ns, commanded)
        if reason is None:
            self._latest_start_ns = int(chunk.stamps_ns[0])
        else:
            self.interventions[reason] += 1
        return reason

    def apply(self, wanted: SetPoint, measured: Pose, previous: Pose, elapsed_s: float) -> SetPoint:
        """The set-point that may go to the arm, `elapsed_s` after `previous` went.

        Its twist is the one that its poses imply. The speeds come last, so that the command never jumps: a hand that
        is pushed away takes its command along no faster than the arm itself may move.
        """
        elapsed_s = min(elapsed_s, self._longest_s)
        values = np.concatenate([wanted.pose.position, wanted.pose.quaternion, measured.position])
        if not np.isfinite(values).all():
            self.interventions["non_finite"] += 1
            return SetPoint(previous, np.zeros(6), wanted.gripper)
        position = self._near(wanted.pose.position, measured.position)
        position = self._in_workspace(position)
        step = self._slow(position - previous.position, self._config.max_speed_m_per_s * elapsed_s, "speed")
        rotation = turn(previous.quaternion, wanted.pose.quaternion)
        rotation = self._slow(rotation, self._config.max_angular_speed_rad_per_s * elapsed_s, "angular_speed")
        pose = Pose(previous.position + step, turned(previous.quaternion, rotation))
        return SetPoint(pose, np.concatenate([step, rotation]) / elapsed_s, wanted.gripper)

    def _near(self, position: np.ndarray, measured: np.ndarray) -> np.ndarray:
        lead = position - measured
        distance = np.linalg.norm(lead)
        if distance <= self._config.max_distance_m:
            return position
        self.interventions["distance"] += 1
        return measured + lead * (self._config.max_distance_m / distance)

    def _in_workspace(self, position: np.ndarray) -> np.ndarray:
        clamped = np.clip(position, self._low, self._high)
        if not np.array_equal(clamped, position):
            self.interventions["workspace"] += 1
        return clamped

    def _slow(self, change: np.ndarray, largest: float, name: str) -> np.ndarray:
        size = np.linalg.norm(change)
        # A hair of tolerance: rounding is no intervention.
        if size <= largest * (1 + 1e-9):
            return change
        self.interventions[name] += 1
        return change * (largest / size)

    def _untimely(self, chunk: ActionChunk, now_ns: int) -> str | None:
        if self._latest_start_ns is not None and chunk.stamps_ns[0] < self._latest_start_ns:
            return "reordered"
        if chunk.stamps_ns[-1] <= now_ns:
            return "stale"
        if chunk.stamps_ns[0] > now_ns + MAX_LEAD_NS:
            return "future"
        return None

    def _step(self, chunk: ActionChunk, now_ns: int, commanded: Pose) -> str | None:
        # Poses that have passed are skipped, so the first one played may lie that many steps away.
        skipped = int(np.searchsorted(chunk.stamps_ns, now_ns, side="right"))
        allowed = np.ones(len(chunk) - skipped)
        allowed[0] += skipped
        positions = np.vstack([commanded.position, chunk.positions[skipped:]])
        quaternions = np.vstack([commanded.quaternion, chunk.quaternions[skipped:]])
        steps_m = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        cosines = np.abs(np.sum(quaternions[1:] * quaternions[:-1], axis=1))
        steps_rad = 2 * np.arccos(np.minimum(cosines, 1.0))
        far = (steps_m > allowed * self._config.max_step_m) | (steps_rad > allowed * self._config.max_step_rad)
        return "step" if np.any(far) else None


def malformation(chunk: ActionChunk) -> str | None:
    """`malformed`, `non_finite` or `reordered` where the chunk is none in itself, at any time; None where it is one."""
    count = len(chunk.stamps_ns)
    shapes = [np.shape(a) for a in (chunk.stamps_ns, chunk.positions, chunk.quaternions, chunk.gripper)]
    if count == 0 or shapes != [(count,), (count, 3), (count, 4), (count,)]:
        return "malformed"
    if not all(np.all(np.isfinite(a)) for a in (chunk.positions, chunk.quaternions, chunk.gripper)):
        return "non_finite"
    if np.any(np.abs(np.linalg.norm(chunk.quaternions, axis=1) - 1) > 1e-3):
        return "malformed"
    if np.any(np.diff(chunk.stamps_ns) <= 0):
        return "reordered"
    return None
