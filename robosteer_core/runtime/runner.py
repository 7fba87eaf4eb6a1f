"""The loop of a running policy: observation -> actions -> timed chunk, at the policy's rate."""

from __future__ import annotations

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

    Policy times are wall milliseconds of computation, whatever robot time is charged.
    """

    ticks: int = 0
    late_ticks: int = 0
    policy_ms: list[float] = field(default_factory=list)


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
        self.statistics = RunStatistics()

    def run(
        self, instruction: str, seconds: float, finished: Callable[[], bool], watch: Callable[[Observation], None]
    ) -> RunStatistics:
        """Run until `finished()`, asked at every tick, or for `seconds`; `watch` sees every tick's observation.

        `statistics` are up to date also when the arm refuses a chunk and this raises.
        """
        hz = self._rig.rates.policy_hz
        statistics = self.statistics
        start_ns = self._clock.now_ns()
        ticks = int(seconds * hz)
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
            if finished():
                break
            observation = self._observe(now_ns, instruction)
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
        self._arm.send(integrate_deltas(observation.arm.commanded, actions, first_ns, period_ns))
