"""A point in time with the names of rclpy.time."""

from __future__ import annotations

from enum import IntEnum

from robosteer_ros.ros.dds.duration import S_TO_NS, Duration, total_ns
from robosteer_ros.ros.dds.messages import message_class


class ClockType(IntEnum):
    """Which clock a time was read from; rclpy has it in rclpy.clock."""

    ROS_TIME = 1
    SYSTEM_TIME = 2
    STEADY_TIME = 3


class Time:
    """Nanoseconds of one kind of clock. Times of different kinds do not compare: TypeError."""

    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        if seconds < 0 or nanoseconds < 0:
            raise ValueError("times are at least 0")
        self._nanoseconds, self._clock_type = total_ns(seconds, nanoseconds), clock_type

    @property
    def nanoseconds(self) -> int:
        return self._nanoseconds

    @property
    def clock_type(self) -> ClockType:
        return self._clock_type

    def seconds_nanoseconds(self) -> tuple[int, int]:
        return divmod(self._nanoseconds, S_TO_NS)

    def to_msg(self):
        seconds, nanoseconds = self.seconds_nanoseconds()
        return message_class("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)

    @classmethod
    def from_msg(cls, message, clock_type: ClockType = ClockType.ROS_TIME) -> Time:
        return cls(nanoseconds=message.sec * S_TO_NS + message.nanosec, clock_type=clock_type)

    def _other(self, other: Time) -> int:
        if self._clock_type != other._clock_type:
            raise TypeError("Can't compare times with different clock types")
        return other._nanoseconds

    def __add__(self, other: Duration) -> Time:
        if not isinstance(other, Duration):
            return NotImplemented
        return Time(nanoseconds=self._nanoseconds + other.nanoseconds, clock_type=self._clock_type)

    __radd__ = __add__

    def __sub__(self, other: Time | Duration) -> Time | Duration:
        if isinstance(other, Time):
            return Duration(nanoseconds=self._nanoseconds - self._other(other))
        if isinstance(other, Duration):
            return Time(nanoseconds=self._nanoseconds - other.nanoseconds, clock_type=self._clock_type)
        return NotImplemented

    def __eq__(self, other: object) -> bool:
        return self._nanoseconds == self._other(other) if isinstance(other, Time) else NotImplemented

    def __lt__(self, other: Time) -> bool:
        return self._nanoseconds < self._other(other) if isinstance(other, Time) else NotImplemented

    def __le__(self, other: Time) -> bool:
        return self._nanoseconds <= self._other(other) if isinstance(other, Time) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._nanoseconds, self._clock_type))

    def __repr__(self) -> str:
        return f"Time(nanoseconds={self._nanoseconds}, clock_type={self._clock_type.name})"
