"""The last stage before the arm: what no command gets past, whoever sent it. Software limits, not safety-rated."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from robosteer_core.rig import JOINT_LIMITS_RAD, Rig
from robosteer_core.runtime.braking import Braking
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.executor import SetPoint
from robosteer_core.runtime.pose import Pose
from robosteer_core.runtime.quaternion import turn, turned
from robosteer_core.runtime.reading import Reading

#: A first pose farther ahead than this comes from a sender with another clock.
MAX_LEAD_NS = 5_000_000_000
#: Poses of a chunk; the longest of a policy has 64. More would keep the loop from its next tick.
MAX_POSES = 500
#: A loop that was held up may catch up this much of the allowed speed, not the whole of the lost time.
MAX_CATCH_UP_PERIODS = 2
#: Two ticks are no nearer to each other than this share of a period.
MIN_PERIODS = 0.5
UNIT_TOLERANCE = 1e-3


class Refusal(NamedTuple):
    """Why a command is not carried out: the limit's name, and words with the limit, its value and the command's."""

    limit: str
    words: str


class Limits:
    """Applies the limits of a rig; `interventions` counts by name how often each one acted.

    Whole chunks are refused when they are `malformed`, `non_finite`, `reordered`, `stale`, `future` or contain a `step`.
    Single set-points are changed by `distance`, `workspace`, `speed`, `angular_speed`, `acceleration` and
    `angular_acceleration`; one that is not finite is replaced by braking. `overload` tells why the arm must not be commanded
    any further: `joint_margin`, `force`, `moment`. Where the rig sets `off_nothing_protects_the_arm`, chunks must still be
    sound and timely, and set-points finite; nothing else is looked at.
    """

    def __init__(self, rig: Rig) -> None:
        config = self._config = rig.limits
        period_s = 1.0 / rig.rates.setpoint_hz
        self._shortest_s, self._longest_s = MIN_PERIODS * period_s, MAX_CATCH_UP_PERIODS * period_s
        ticks = (self._shortest_s, self._longest_s)
        self._linear = Braking(config.max_acceleration_m_per_s2, *ticks)
        self._angular = Braking(config.max_angular_acceleration_rad_per_s2, *ticks)
        # Towards walls on all three axes at once.
        self._to_wall = Braking(config.max_acceleration_m_per_s2 / np.sqrt(3), *ticks)
        self._low, self._high = np.array(config.workspace.low_m), np.array(config.workspace.high_m)
        self._joints_low, self._joints_high = np.array(JOINT_LIMITS_RAD[rig.arm.model])
        self._latest_start_ns: int | None = None
        self.interventions: Counter[str] = Counter()

    def inside(self, pose: Pose) -> bool:
        """Whether a pose lies in the workspace."""
        return bool(np.all(pose.position >= self._low) and np.all(pose.position <= self._high))

    def overload(self, reading: Reading) -> Refusal | None:
        """Why an arm in this state must come to rest and stay so, or None."""
        if self._config.off_nothing_protects_the_arm:
            return None
        q, margin = reading.joint_positions, self._config.joint_margin_rad
        near = np.minimum(q - self._joints_low, self._joints_high - q)
        if not np.all(near >= margin):
            joint = int(np.argmin(near))
            return Refusal(
                "joint_margin",
                f"joint_margin: joint {joint + 1} at {q[joint]:.3f} rad is {near[joint]:.3f} rad from the end of its range, and "
                f"joint_margin_rad is {margin:g}: guide the arm away, or let it go home",
            )
        for name, unit, value, largest in (
            ("force", "N", reading.wrench[:3], self._config.max_force_n),
            ("moment", "Nm", reading.wrench[3:], self._config.max_moment_nm),
        ):
            size = float(np.linalg.norm(value))
            if not size <= largest:
                return Refusal(name, f"{name}: {size:.0f} {unit} on the hand, and max_{name}_{unit.lower()} is {largest:g}")
        return None

    def refusal(self, chunk: ActionChunk, now_ns: int, commanded: Pose) -> Refusal | None:
        """Why a chunk that arrives at `now_ns` must not be played, or None; `commanded` is the running command."""
        found = malformation(chunk) or self._untimely(chunk, now_ns) or self._step(chunk, now_ns, commanded)
        if found is None:
            self._latest_start_ns = int(chunk.stamps_ns[0])
        else:
            self.interventions[found.limit] += 1
        return found

    def apply(self, wanted: SetPoint, measured: Pose, previous: SetPoint, elapsed_s: float) -> SetPoint:
        """The set-point that may go to the arm, `elapsed_s` after `previous` went.

        Its twist is the one that its poses imply. Speed, acceleration and workspace hold always; the distance from the
        measured pose gives way to them: a hand that is pushed away takes its command along no faster than the arm itself may
        move. `previous` obeys the limits, and has come from set-points that did.
        """
        elapsed_s = min(max(elapsed_s, self._shortest_s), self._longest_s)
        values = np.concatenate([wanted.pose.position, wanted.pose.quaternion, wanted.twist, measured.position])
        if not np.isfinite(values).all():
            self.interventions["non_finite"] += 1
            wanted = SetPoint(previous.pose, np.zeros(6), previous.gripper if not np.isfinite(wanted.gripper) else wanted.gripper)
            measured = previous.pose
        start = previous.pose
        if self._config.off_nothing_protects_the_arm:
            change = np.concatenate([wanted.pose.position - start.position, turn(start.quaternion, wanted.pose.quaternion)])
            return SetPoint(wanted.pose, change / elapsed_s, wanted.gripper)
        position = self._near(wanted.pose.position, measured.position)
        clamped = np.clip(position, self._low, self._high)
        inside = clamped == position
        wish = self._linear.follow(clamped - start.position, wanted.twist[:3] * inside, elapsed_s)
        wish = self._slow(wish, self._config.max_speed_m_per_s, "speed")
        walls = np.array([
            [-self._to_wall.speed(d, elapsed_s) for d in start.position - self._low],
            [self._to_wall.speed(d, elapsed_s) for d in self._high - start.position],
        ])  # fmt: skip
        within = np.clip(wish, *walls)
        self._count("workspace", not inside.all() or _differ(within, wish))
        velocity = self._linear.steer(within, previous.twist[:3], walls, elapsed_s)
        self._count("acceleration", _differ(velocity, within))
        rotation = turn(start.quaternion, wanted.pose.quaternion)
        wish = self._angular.follow(rotation, wanted.twist[3:], elapsed_s)
        wish = self._slow(wish, self._config.max_angular_speed_rad_per_s, "angular_speed")
        turning = self._angular.steer(wish, previous.twist[3:], None, elapsed_s)
        self._count("angular_acceleration", _differ(turning, wish))
        # Rounding must not carry the command past a wall.
        position = np.clip(start.position + velocity * elapsed_s, self._low, self._high)
        pose = Pose(position, turned(start.quaternion, turning * elapsed_s))
        return SetPoint(pose, np.concatenate([velocity, turning]), wanted.gripper)

    def _count(self, name: str, acted: bool) -> None:
        if acted:
            self.interventions[name] += 1

    def _near(self, position: np.ndarray, measured: np.ndarray) -> np.ndarray:
        lead = position - measured
        distance = np.linalg.norm(lead)
        if distance <= self._config.max_distance_m:
            return position
        self.interventions["distance"] += 1
        return measured + lead * (self._config.max_distance_m / distance)

    def _slow(self, velocity: np.ndarray, largest: float, name: str) -> np.ndarray:
        size = np.linalg.norm(velocity)
        # A hair of tolerance: rounding is no intervention.
        if size <= largest * (1 + 1e-9):
            return velocity
        self.interventions[name] += 1
        return velocity * (largest / size)

    def _untimely(self, chunk: ActionChunk, now_ns: int) -> Refusal | None:
        first_s, last_s = (float(chunk.stamps_ns[end] - now_ns) / 1e9 for end in (0, -1))
        if last_s <= 0:
            return Refusal("stale", f"stale: the chunk's last pose was due {-last_s:.3f} s ago")
        if self._latest_start_ns is not None and chunk.stamps_ns[0] < self._latest_start_ns:
            before_s = (self._latest_start_ns - int(chunk.stamps_ns[0])) / 1e9
            return Refusal("reordered", f"reordered: the chunk begins {before_s:.3f} s before the one that came before it")
        if first_s > MAX_LEAD_NS / 1e9:
            most_s = MAX_LEAD_NS / 1e9
            return Refusal("future", f"future: the chunk begins in {first_s:.3f} s, and {most_s:g} s is the most: another clock?")
        return None

    def _step(self, chunk: ActionChunk, now_ns: int, commanded: Pose) -> Refusal | None:
        config = self._config
        if config.off_nothing_protects_the_arm:
            return None
        # Poses that have passed are skipped, so the first one played may lie that many steps away.
        skipped = int(np.searchsorted(chunk.stamps_ns, now_ns, side="right"))
        allowed = np.ones(len(chunk) - skipped)
        allowed[0] += skipped
        positions = np.vstack([commanded.position, chunk.positions[skipped:]])
        quaternions = np.vstack([commanded.quaternion, chunk.quaternions[skipped:]])
        steps_m = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        cosines = np.abs(np.sum(quaternions[1:] * quaternions[:-1], axis=1))
        steps_rad = 2 * np.arccos(np.minimum(cosines, 1.0))
        far = ~((steps_m <= allowed * config.max_step_m) & (steps_rad <= allowed * config.max_step_rad))
        if not np.any(far):
            return None
        first = int(np.argmax(far))
        from_what = "the running command" if first == 0 else "the one before it"
        return Refusal(
            "step",
            f"step: pose {skipped + first + 1} of {len(chunk)} is {steps_m[first]:.3f} m and {steps_rad[first]:.3f} rad from {from_what}; "
            f"max_step_m is {config.max_step_m:g}, max_step_rad {config.max_step_rad:g}",
        )


def malformation(chunk: ActionChunk) -> Refusal | None:
    """`malformed`, `non_finite` or `reordered` where the chunk is none in itself, at any time; None where it is one."""
    count = len(chunk.stamps_ns)
    shapes = [np.shape(a) for a in (chunk.stamps_ns, chunk.positions, chunk.quaternions, chunk.gripper)]
    if not 0 < count <= MAX_POSES or shapes != [(count,), (count, 3), (count, 4), (count,)]:
        wanted = f"expected 1 to {MAX_POSES} stamps, as many positions (3), quaternions (4) and openings"
        return Refusal("malformed", f"malformed: {wanted}, found shapes {', '.join(map(str, shapes))}")
    values = np.column_stack([chunk.positions, chunk.quaternions, chunk.gripper])
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        return Refusal("non_finite", f"non_finite: pose {row + 1} of {count} is {np.array2string(values[row], precision=3)}")
    lengths = np.linalg.norm(chunk.quaternions, axis=1)
    if np.any(off := ~(np.abs(lengths - 1) <= UNIT_TOLERANCE)):
        row = int(np.argmax(off))
        return Refusal("malformed", f"malformed: quaternion {row + 1} of {count} has length {lengths[row]:.4g}, expected 1")
    if np.any(np.diff(chunk.stamps_ns) <= 0):
        row = int(np.argmax(np.diff(chunk.stamps_ns) <= 0))
        return Refusal("reordered", f"reordered: pose {row + 2} of {count} is due no later than the one before it")
    return None


def _differ(left: np.ndarray, right: np.ndarray) -> bool:
    """By more than rounding."""
    return float(np.abs(left - right).max()) > 1e-9
