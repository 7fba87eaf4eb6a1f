"""Timers and rates with the names of rclpy.timer."""

from __future__ import annotations

import threading
from collections.abc import Callable

from robosteer_ros.ros.dds.clock import Clock
from robosteer_ros.ros.dds.entity import Entity


class Timer(Entity):
    """Calls back every period of its clock. Ticks that were missed are left out, and the rhythm is kept."""

    def __init__(self, node, callback: Callable | None, period_ns: int, clock: Clock, callback_group) -> None:
        super().__init__(node, callback, callback_group)
        if period_ns < 0:
            raise ValueError(f"a timer's period is at least 0, found {period_ns} ns")
        self.timer_period_ns = int(period_ns)
        self.clock = clock
        self._canceled = False
        self._called_ns = clock.now_ns()
        self._next_ns = self._called_ns + self.timer_period_ns

    def is_ready(self) -> bool:
        if self._canceled:
            return False
        # Simulated time starts at any number, also below the one that the system clock showed before.
        if self._next_ns - self.clock.now_ns() > self.timer_period_ns:
            self._next_ns = self.clock.now_ns() + self.timer_period_ns
        return self.clock.now_ns() >= self._next_ns

    def wait_ns(self) -> int | None:
        """Nanoseconds of real time until it is ready, None where that cannot be told."""
        return None if self._canceled else self.clock.wait_ns(self._next_ns)

    def take(self) -> tuple | None:
        if not self.is_ready():
            return None
        now_ns, period_ns = self.clock.now_ns(), self.timer_period_ns
        self._called_ns = now_ns
        self._next_ns += period_ns
        if self._next_ns < now_ns:
            self._next_ns += -(-(now_ns - self._next_ns) // period_ns) * period_ns if period_ns else now_ns - self._next_ns
        return ()

    def cancel(self) -> None:
        self._canceled = True

    def is_canceled(self) -> bool:
        return self._canceled

    def reset(self) -> None:
        """Begin a new period now; a canceled timer runs again."""
        self._canceled = False
        self._next_ns = self.clock.now_ns() + self.timer_period_ns
        self._node._wake_executor()

    def time_since_last_call(self) -> int:
        return self.clock.now_ns() - self._called_ns

    def time_until_next_call(self) -> int | None:
        return None if self._canceled else self._next_ns - self.clock.now_ns()


class Rate:
    """Sleeps to a rhythm, in a thread other than the one that spins."""

    def __init__(self, timer: Timer, context) -> None:
        self._timer, self._ticked, self._ended = timer, threading.Condition(), False
        timer.callback = self._tick
        context.on_shutdown(self._end)

    def _tick(self) -> None:
        with self._ticked:
            self._ticked.notify_all()

    def _end(self) -> None:
        with self._ticked:
            self._ended = True
            self._ticked.notify_all()

    def sleep(self) -> None:
        """Wait for the next tick. Raises RuntimeError when the context ends meanwhile."""
        with self._ticked:
            if not self._ended:
                self._ticked.wait()
            if self._ended:
                raise RuntimeError("the context was shut down, or the rate destroyed, while it slept")

    def destroy(self) -> None:
        self._end()
        self._timer.destroy()
