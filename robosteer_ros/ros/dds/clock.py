"""Clocks with the names of rclpy.clock: system, steady, and ROS time, which is simulated when told so."""

from __future__ import annotations

import threading
import time

from robosteer_ros.ros.dds.duration import Duration
from robosteer_ros.ros.dds.time import ClockType, Time

__all__ = ["Clock", "ClockType", "ROSClock"]


class Clock:
    """A clock of one kind; ROS_TIME gives a ROSClock."""

    def __new__(cls, *, clock_type: ClockType = ClockType.SYSTEM_TIME):
        if not isinstance(clock_type, ClockType):
            raise TypeError("Clock type must be a ClockType enum")
        return super().__new__(ROSClock if clock_type is ClockType.ROS_TIME else cls)

    def __init__(self, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        self._clock_type = clock_type

    @property
    def clock_type(self) -> ClockType:
        return self._clock_type

    def now(self) -> Time:
        return Time(nanoseconds=self.now_ns(), clock_type=self._clock_type)

    def now_ns(self) -> int:
        return time.monotonic_ns() if self._clock_type is ClockType.STEADY_TIME else time.time_ns()

    def wait_ns(self, until_ns: int) -> int | None:
        """Nanoseconds of real time until the clock shows `until_ns`; None where only a message can tell."""
        return max(0, until_ns - self.now_ns())

    def sleep_until(self, until: Time, context=None) -> bool:
        """Wait for a time of this clock. Whether it was reached; False: the context ended first."""
        from robosteer_ros.ros.dds.context import get_default_context

        context = context or get_default_context()
        while context.ok() and (left_ns := self.wait_ns(until.nanoseconds)) != 0:
            self._pause(0.1 if left_ns is None else min(left_ns / 1e9, 0.1))
            if left_ns is None and self.now_ns() >= until.nanoseconds:
                break
        return self.now_ns() >= until.nanoseconds

    def sleep_for(self, duration: Duration, context=None) -> bool:
        return self.sleep_until(self.now() + duration, context)

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)


class ROSClock(Clock):
    """System time; simulated time once it is made active."""

    def __new__(cls):
        return object.__new__(cls)

    def __init__(self, **kind) -> None:
        super().__init__(clock_type=ClockType.ROS_TIME)
        self._changed = threading.Condition()
        self._simulated_ns: int | None = None

    @property
    def ros_time_is_active(self) -> bool:
        return self._simulated_ns is not None

    def _set_ros_time_is_active(self, active: bool) -> None:
        self._set(0 if active and self._simulated_ns is None else self._simulated_ns if active else None)

    def set_ros_time_override(self, now: Time) -> None:
        if self.ros_time_is_active:
            self._set(now.nanoseconds)

    def _set(self, nanoseconds: int | None) -> None:
        with self._changed:
            self._simulated_ns = nanoseconds
            self._changed.notify_all()

    def now_ns(self) -> int:
        simulated_ns = self._simulated_ns
        return time.time_ns() if simulated_ns is None else simulated_ns

    def wait_ns(self, until_ns: int) -> int | None:
        left_ns = max(0, until_ns - self.now_ns())
        return None if left_ns and self.ros_time_is_active else left_ns

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait(seconds)
