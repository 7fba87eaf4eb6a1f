"""A span of time with the names of rclpy.duration."""

from __future__ import annotations

from functools import total_ordering

from robosteer_ros.ros.dds.messages import message_class

S_TO_NS = 1_000_000_000


def total_ns(seconds: float, nanoseconds: int) -> int:
    """Nanoseconds of seconds and nanoseconds; whole seconds stay exact."""
    whole = int(seconds)
    return whole * S_TO_NS + round((seconds - whole) * S_TO_NS) + int(nanoseconds)


@total_ordering
class Duration:
    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0) -> None:
        self._nanoseconds = total_ns(seconds, nanoseconds)

    @property
    def nanoseconds(self) -> int:
        return self._nanoseconds

    def to_msg(self):
        seconds, nanoseconds = divmod(self._nanoseconds, S_TO_NS)
        return message_class("builtin_interfaces/msg/Duration")(sec=seconds, nanosec=nanoseconds)

    @classmethod
    def from_msg(cls, message) -> Duration:
        return cls(nanoseconds=message.sec * S_TO_NS + message.nanosec)

    def __eq__(self, other: object) -> bool:
        return self._nanoseconds == other._nanoseconds if isinstance(other, Duration) else NotImplemented

    def __lt__(self, other: Duration) -> bool:
        return self._nanoseconds < other._nanoseconds if isinstance(other, Duration) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._nanoseconds)

    def __repr__(self) -> str:
        return f"Duration(nanoseconds={self._nanoseconds})"
