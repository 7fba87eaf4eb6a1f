"""The one clock that a process lives by: monotonic on a real arm, robot time in the lab."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from robosteer_core.rig import Rig
from robosteer_core.runtime.lab_link import LabLink

#: Order in which participants act within one instant of lab time.
RANKS = {"cameras": 0, "operator": 1, "policy": 2, "setpoints": 3, "gripper": 4}


class Clock(ABC):
    """Integer nanoseconds."""

    @abstractmethod
    def now_ns(self) -> int: ...

    @abstractmethod
    def sleep_until_ns(self, stamp_ns: int) -> int:
        """Return at `stamp_ns`, or at once when it has passed; gives the time reached."""

    @contextmanager
    def external(self, event: str) -> Iterator[None]:
        """Around a blocking call that another machine answers (`gripper`)."""
        yield

    @contextmanager
    def away(self) -> Iterator[None]:
        """Around something that takes the rig's time, and needs it to run meanwhile."""
        yield

    def close(self) -> None:
        """Take no part any longer."""


class MonotonicClock(Clock):
    """`time.monotonic_ns`, for real hardware."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, stamp_ns: int) -> int:
        while (now := time.monotonic_ns()) < stamp_ns:
            time.sleep((stamp_ns - now) / 1e9)
        return now


class LabClock(Clock):
    """Lab time. While the owner is not in `sleep_until_ns`, the lab's time stands still.

    `now_ns` is the time at which it stands for the owner.
    """

    def __init__(self, address: str, name: str, rank: int) -> None:
        self._link = LabLink(address, name, rank)
        self._now_ns = self._link.joined_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until_ns(self, stamp_ns: int) -> int:
        self._now_ns = self._link.wait(stamp_ns).now_ns
        return self._now_ns

    @contextmanager
    def external(self, event: str) -> Iterator[None]:
        self._link.external(event)
        try:
            yield
        finally:
            self.sleep_until_ns(0)

    @contextmanager
    def away(self) -> Iterator[None]:
        self._link.leave()
        try:
            yield
        finally:
            self.sleep_until_ns(0)

    def close(self) -> None:
        self._link.close()


def rig_clock(rig: Rig, role: str) -> Clock:
    """The clock of a rig for a process in one of the roles of `RANKS`."""
    return LabClock(rig.lab.control, role, RANKS[role]) if rig.lab else MonotonicClock()


def clock_reader(rig: Rig) -> Callable[[], int]:
    """A function that reads the rig's clock without joining it; from any thread."""
    return LabLink(rig.lab.control, "reader").now_ns if rig.lab else time.monotonic_ns
