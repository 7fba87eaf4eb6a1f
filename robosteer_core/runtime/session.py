"""One session of set-point tracking: from `start` until a stop or a fault."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.executor import ChunkExecutor, SetPoint
from robosteer_core.runtime.limits import Limits
from robosteer_core.runtime.pose import Pose
from robosteer_core.runtime.reading import ArmFault, Reading


class TrackingArm(Protocol):
    """What a session wants from the arm; see `ArmDriver` in `robosteer_ros`."""

    @property
    def moving(self) -> bool: ...
    def read(self) -> Reading: ...
    def track(self, pose: Pose, twist: np.ndarray) -> None: ...
    def raise_fault(self) -> None: ...


logger = logging.getLogger(__name__)

#: A robot whose state stays the same for so many ticks has fallen silent. libfranka itself waits a second of wall time.
_SILENT_TICKS = 20
#: Between two ticks the robot's clock runs with ours but for less than this; by more it has jumped.
_JUMP_NS = 100_000_000
#: A command that moves by less than this, m/s and rad/s, rests.
_AT_REST = 1e-6


@dataclass(frozen=True)
class _Arrival:
    """A chunk, or with None the assertion of the last one; `refused` is told in words where the tick refuses it."""

    chunk: ActionChunk | None
    refused: Callable[[str], None] = lambda words: None
    moves_gripper: bool = True


class GripperCommand(Protocol):
    """What a session wants from the gripper: never waits."""

    def command(self, opening: float) -> None: ...


@dataclass
class LoopStatistics:
    """Since the arm's node was configured. `interventions` of the limits by name, ages and lateness in nanoseconds."""

    setpoints: int = 0
    chunks: int = 0
    late_ticks: int = 0
    latest_ns: int = 0
    command_age_ns: int = 0
    oldest_command_ns: int = 0
    interventions: Counter[str] = field(default_factory=Counter)


class TrackingSession:
    """Turns the chunks that arrive into limited set-points, one per `tick`, and watches that they keep arriving.

    `mode` is `tracking`; `holding` when nothing fresh has come for the rig's `hold_after_s` (the last pose stands,
    the command brakes; a fresh chunk resumes); `stopped` after `stop_after_s`, when the owner has to end the session.
    After `end`, and when the limits find the arm overloaded, it holds and is `stopped` as soon as the command rests; `ending`
    says why. `submit` and `keep` may be called from any thread; what they bring is seen by the next tick.
    """

    def __init__(
        self, rig: Rig, driver: TrackingArm, gripper: GripperCommand, start: Reading, opening: float, now_ns: int,
        statistics: LoopStatistics,
    ) -> None:  # fmt: skip
        self._driver, self._gripper, self._statistics = driver, gripper, statistics
        self._period_ns = round(1e9 / rig.rates.setpoint_hz)
        self._hold_ns, self._stop_ns = int(rig.limits.hold_after_s * 1e9), int(rig.limits.stop_after_s * 1e9)
        self._limits = Limits(rig)
        self._limits.interventions = statistics.interventions
        self._executor = ChunkExecutor(start.end_effector, opening, now_ns, blend_ns=int(1e9 / rig.rates.policy_hz))
        self._inbox: list[_Arrival] = []
        self._lock = threading.Lock()
        self._setpoint = SetPoint(start.end_effector, np.zeros(6), opening)
        self._last_tick_ns, self._last_robot_ns, self._silent_ticks = now_ns, start.robot_time_ns, 0
        self._commanded_gripper = False
        self.fresh_ns = now_ns
        self.last_chunk_ns: int | None = None
        self.mode = "tracking"
        self.ending: str | None = None

    @property
    def commanded(self) -> Pose:
        """Where the command is."""
        return self._setpoint.pose

    @property
    def setpoint(self) -> SetPoint:
        """The last set-point that went to the arm."""
        return self._setpoint

    def submit(self, chunk: ActionChunk, refused: Callable[[str], None] = lambda words: None, moves_gripper: bool = True) -> None:
        """Let the next tick play `chunk`, unless the limits refuse it: `refused` is then told why, by the tick's thread."""
        with self._lock:
            self._inbox.append(_Arrival(chunk, refused, moves_gripper))

    def keep(self) -> None:
        """The sender is alive and stands by what is left of its last chunk."""
        with self._lock:
            self._inbox.append(_Arrival(None))

    def end(self, reason: str) -> None:
        """Hold from the next tick on, and be `stopped` when the command rests. From the thread of the ticks."""
        if self.ending is None:
            self.ending, self._ending_ns = reason, self._last_tick_ns

    def tick(self, now_ns: int, due_ns: int) -> Reading:
        """One period of the loop, due at `due_ns`; returns the state it saw. Raises ArmFault when the motion has ended, and
        when the robot has fallen silent."""
        if not self._driver.moving:
            self._driver.raise_fault()
            raise ArmFault("the robot ended the motion without giving an error")
        self._count_lateness(now_ns - due_ns)
        reading = self._driver.read()
        self._watch_robot(reading, now_ns)
        overload = self._limits.overload(reading)
        if overload is not None and self.ending is None:
            self._statistics.interventions[overload.limit] += 1
            self.end(overload.words)
        self._take_inbox(now_ns)
        self._watch(now_ns)
        self._send(now_ns, reading)
        self._last_tick_ns = now_ns
        return reading

    def _watch_robot(self, reading: Reading, now_ns: int) -> None:
        since_ns = reading.robot_time_ns - self._last_robot_ns
        self._silent_ticks = 0 if since_ns else self._silent_ticks + 1
        if self._silent_ticks >= _SILENT_TICKS:
            silent_ms = self._silent_ticks * self._period_ns / 1e6
            raise ArmFault(f"no new state of the robot for {silent_ms:.0f} ms: its network connection or the robot is down")
        if since_ns - (now_ns - self._last_tick_ns) > _JUMP_NS:
            logger.warning("the robot's clock has jumped forward by %.0f ms", (since_ns - (now_ns - self._last_tick_ns)) / 1e6)
        self._last_robot_ns = reading.robot_time_ns

    def _take_inbox(self, now_ns: int) -> None:
        with self._lock:
            arrived, self._inbox = self._inbox, []
        for arrival in arrived:
            chunk = arrival.chunk
            if self.ending is not None:
                arrival.refused(f"the arm comes to rest: {self.ending}")
                continue
            if chunk is not None:
                refusal = self._limits.refusal(chunk, now_ns, self.commanded)
                if refusal is not None:
                    arrival.refused(refusal.words)
                    continue
                self._executor.accept(chunk, now_ns, self.commanded)
                self._statistics.chunks += 1
                self.last_chunk_ns = now_ns
                self._commanded_gripper = arrival.moves_gripper
            elif self.mode == "holding":
                # A sender that fell silent does not resume by asserting an old chunk.
                continue
            self.fresh_ns = now_ns
            self.mode = "tracking"

    def _watch(self, now_ns: int) -> None:
        age_ns = now_ns - self.fresh_ns
        self._statistics.command_age_ns = age_ns
        self._statistics.oldest_command_ns = max(self._statistics.oldest_command_ns, age_ns)
        if self.ending is not None:
            # A hand that somebody pushes takes the command along: it need not come to rest by itself.
            rests = np.abs(self._setpoint.twist).max() < _AT_REST or now_ns - self._ending_ns >= self._hold_ns
            self.mode = "stopped" if rests else "holding"
        elif age_ns >= self._stop_ns:
            self.mode = "stopped"
        elif age_ns >= self._hold_ns:
            self.mode = "holding"

    def _send(self, now_ns: int, reading: Reading) -> None:
        if self.mode == "tracking":
            # A set-point stands until the next one: it is where the command should be by then.
            wanted = self._executor.at(now_ns + self._period_ns)
        else:
            wanted = SetPoint(self._setpoint.pose, np.zeros(6), self._setpoint.gripper)
        elapsed_s = (now_ns - self._last_tick_ns) / 1e9
        self._setpoint = self._limits.apply(wanted, reading.end_effector, self._setpoint, elapsed_s)
        self._driver.track(self._setpoint.pose, self._setpoint.twist)
        self._statistics.setpoints += 1
        if self._commanded_gripper and self.mode == "tracking":
            self._gripper.command(self._setpoint.gripper)

    def _count_lateness(self, late_ns: int) -> None:
        self._statistics.latest_ns = max(self._statistics.latest_ns, late_ns)
        if late_ns > self._period_ns // 2:
            self._statistics.late_ticks += 1
