"""The loop of a running policy: observation -> actions -> timed chunk, at the policy's rate."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk, integrate_deltas
from robosteer_core.runtime.observation import ArmState, Observation

#: Of each chunk this many actions are executed before the policy is asked again.
EXECUTED = 3
#: The command stands at once; the arm follows it with a lag of some tens of milliseconds.
HOLD_TICKS = 2
#: A tick that comes later than this after its time is called late in `summary`.
LATE_MS = 10.0


class Clock(Protocol):
    def now_ns(self) -> int: ...
    def sleep_until_ns(self, stamp_ns: int) -> int: ...


class ArmLink(Protocol):
    def state(self) -> ArmState: ...
    def send(self, chunk: ActionChunk) -> None: ...
    def keep(self) -> None: ...


def tick_ns(start_ns: int, tick: int, hz: float) -> int:
    """Time of a periodic tick: on whole milliseconds, so that 15, 30 and 100 Hz meet where they should."""
    return start_ns + -int(-tick * 1000 // hz) * 1_000_000


def last_tick(start_ns: int, now_ns: int, hz: float) -> int:
    """The number of the last tick of `tick_ns` at or before `now_ns`."""
    tick = int((now_ns - start_ns) * hz // 1_000_000_000) + 1
    while tick_ns(start_ns, tick, hz) > now_ns:
        tick -= 1
    return tick


@dataclass
class RunStatistics:
    """How the loop kept time; `late_ticks` are those that it missed.

    Policy times are wall milliseconds of computation, whatever robot time is charged. All else is milliseconds of the rig's
    clock: `lateness_ms` of each tick behind its time, `skew_ms` between the first and the last capture of each observation,
    `frame_age_ms` since the capture of the oldest frame that a chunk answers to, when it is sent.
    """

    ticks: int = 0
    late_ticks: int = 0
    policy_ms: list[float] = field(default_factory=list)
    lateness_ms: list[float] = field(default_factory=list)
    skew_ms: list[float] = field(default_factory=list)
    frame_age_ms: list[float] = field(default_factory=list)
    began_ns: int = 0
    last_tick_ns: int = 0

    def summary(self) -> dict[str, float]:
        """In numbers: rate and its misses; of each list the median and the largest."""
        seconds = (self.last_tick_ns - self.began_ns) / 1e9
        told = {
            "rate_hz": (self.ticks - 1) / seconds if seconds > 0 else 0.0, "ticks": self.ticks, "missed_ticks": self.late_ticks,
            "late_ticks_percent": 100 * sum(ms > LATE_MS for ms in list(self.lateness_ms)) / max(self.ticks, 1),
        }  # fmt: skip
        for name in ("lateness_ms", "skew_ms", "frame_age_ms", "policy_ms"):
            # A copy: the run may go on meanwhile.
            if values := list(getattr(self, name)):
                told |= {f"{name}_median": float(np.median(values)), f"{name}_largest": max(values)}
        return told


class PolicyRunner:
    """Runs a policy in closed loop.

    `observe(stamp_ns, instruction)` gives the observation of an instant; `act(observation)` the actions (chunk, 7) in
    the rig's Cartesian delta space. Actions start one tick after the observation; what inference takes is covered by
    the chunk that is still running. Where robot time is simulated, the rig's `inference_delay_ms` is charged for it,
    unless `charged` says that there is no inference (a scripted operator). Of each chunk `executed` actions are executed
    before `act` is asked again.
    """

    def __init__(
        self,
        rig: Rig,
        clock: Clock,
        arm: ArmLink,
        observe: Callable[[int, str], Observation],
        act: Callable[[Observation], np.ndarray],
        executed: int = EXECUTED,
        charged: bool = True,
    ) -> None:
        if rig.action_space.kind != "cartesian_delta":
            raise UserError(f"the runner integrates Cartesian deltas; the rig's action space is {rig.action_space.kind}")
        self._rig, self._clock, self._arm, self._observe, self._act = rig, clock, arm, observe, act
        self._executed = executed
        self._delay_ns = int(rig.rates.inference_delay_ms * 1e6) if rig.lab and charged else 0
        self._sent: ActionChunk | None = None
        self.statistics = RunStatistics()

    def run(
        self, instruction: str, seconds: float, finished: Callable[[], bool], watch: Callable[[Observation], None] = lambda observation: None
    ) -> RunStatistics:
        """Run until `finished()`, asked at every tick, or for `seconds`, which may be infinite; `watch` sees every tick's observation.

        `statistics` are up to date also when the arm refuses a chunk and this raises.
        """
        hz = self._rig.rates.policy_hz
        statistics = self.statistics
        start_ns = statistics.began_ns = self._clock.now_ns()
        ticks = int(seconds * hz) if math.isfinite(seconds) else sys.maxsize
        tick = decide_at = 0
        while tick < ticks:
            due_ns = tick_ns(start_ns, tick, hz)
            now_ns = self._clock.sleep_until_ns(due_ns)
            # Ticks that have passed meanwhile are left out: what was to be done at them would come too late.
            missed = min(last_tick(start_ns, now_ns, hz), ticks) - tick
            tick += missed
            statistics.late_ticks += missed
            if tick == ticks:
                break
            statistics.ticks += 1
            statistics.last_tick_ns = now_ns
            statistics.lateness_ms.append((now_ns - tick_ns(start_ns, tick, hz)) / 1e6)
            if finished():
                break
            observation = self._observe(now_ns, instruction)
            statistics.skew_ms.append(observation.skew_ns / 1e6)
            watch(observation)
            if tick >= decide_at:
                self._decide(observation, tick_ns(start_ns, tick + 1, hz), int(1e9 / hz), statistics)
                decide_at = tick + self._executed
            else:
                # The watchdog holds the arm after as long as one chunk is executed: say that this loop is alive.
                self._arm.keep()
            tick += 1
        return statistics

    def _decide(self, observation: Observation, first_ns: int, period_ns: int, statistics: RunStatistics) -> None:
        began = time.perf_counter()
        actions = self._act(observation)
        statistics.policy_ms.append(1e3 * (time.perf_counter() - began))
        if self._delay_ns:
            self._clock.sleep_until_ns(observation.stamp_ns + self._delay_ns)
        chunk = integrate_deltas(observation.arm.commanded, actions, first_ns, period_ns)
        self._arm.send(chunk)
        self._sent = chunk
        if observation.frames:
            captured_ns = min(frame.stamp_ns for frame in observation.frames.values())
            statistics.frame_age_ms.append((self._clock.now_ns() - captured_ns) / 1e6)

    def hold(self) -> None:
        """After `run`: let the hand stand where it is commanded to be, and stay until it does. What is left of the last chunk
        is not played; the gripper keeps what it was told."""
        if self._sent is None:
            return
        now_ns, period_ns = self._clock.now_ns(), int(1e9 / self._rig.rates.policy_hz)
        playing = min(int(np.searchsorted(self._sent.stamps_ns, now_ns)), len(self._sent) - 1)
        still = np.tile([0.0] * 6 + [self._sent.gripper[playing]], (HOLD_TICKS, 1))
        self._arm.send(integrate_deltas(self._arm.state().commanded, still, now_ns + period_ns, period_ns))
        for tick in range(1, HOLD_TICKS + 1):
            self._clock.sleep_until_ns(now_ns + tick * period_ns)
            self._arm.keep()
