"""How fast a command may go so that it can still stop in time: velocities that change by a limited acceleration."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np


@dataclass(frozen=True)
class Braking:
    """Of a command that is given anew at ticks, `shortest_s` to `longest_s` apart, and brakes by `deceleration` [1/s^2 times
    metres or radians] at most."""

    deceleration: float
    shortest_s: float
    longest_s: float

    def speed(self, distance: float, elapsed_s: float) -> float:
        """The largest speed for the next `elapsed_s` from which the command comes to rest within `distance`.

        Slower than one tick's braking it may go the whole way and stop at the next tick. Else what follows the tick is the
        sum of a decreasing series, bounded by v^2 / 2b + v h / 2 + b h^2 / 8 with the longest tick h.
        """
        slow = min(distance / elapsed_s, self.deceleration * self.shortest_s)
        half_ticks_s = elapsed_s + self.longest_s / 2
        left = 2 * (distance / self.deceleration - self.longest_s**2 / 8)
        fast = self.deceleration * (sqrt(half_ticks_s**2 + left) - half_ticks_s) if left > 0.0 else 0.0
        return max(slow, fast, 0.0)

    def follow(self, change: np.ndarray, target_velocity: np.ndarray, elapsed_s: float) -> np.ndarray:
        """The velocity with which to make up for `change`, the way to a target that moves by `target_velocity` (3,) and is to
        be met without overshoot if it goes on as it does: all of it at once where the lag is small."""
        lag = change - target_velocity * elapsed_s
        size = float(np.linalg.norm(lag))
        speed = self.speed(size, elapsed_s)
        if size <= speed * elapsed_s:
            return change / elapsed_s
        return target_velocity + lag * (speed / size)

    def steer(self, wish: np.ndarray, velocity: np.ndarray, caps: np.ndarray | None, elapsed_s: float) -> np.ndarray:
        """The velocity (3,) on the way to `wish` that differs from the last one, `velocity`, by no more than `deceleration`
        allows. `caps` (2, 3), where given, are the least and the largest velocity of each axis, which `wish` obeys; they hold
        as well: they come from walls, and a command that has obeyed them so far can brake in time on every axis at once."""
        largest = self.deceleration * elapsed_s
        safe = velocity if caps is None else np.clip(velocity, *caps)
        return safe + _share(safe - velocity, wish - safe, largest) * (wish - safe)


def _share(start: np.ndarray, way: np.ndarray, radius: float) -> float:
    """The largest t in [0, 1] with |start + t way| <= radius; 0 where start itself lies outside."""
    a, b, c = float(way @ way), float(start @ way), float(start @ start) - radius * radius
    if c > 0.0:
        return 0.0
    if a + 2 * b + c <= 0.0:
        return 1.0
    return (sqrt(max(0.0, b * b - a * c)) - b) / a
