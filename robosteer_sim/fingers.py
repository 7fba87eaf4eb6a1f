"""When the hand's fingers have come to rest, by which its commands end."""

from __future__ import annotations

#: A command has ended when the width has not changed for this long.
STILL_MS, STILL_M = 60, 2e-5


class FingersStill:
    """Watches the width from the start of a command; `watch` is called after every step of one millisecond."""

    def __init__(self) -> None:
        self._width_m, self._ms = -1.0, 0

    def watch(self, width_m: float) -> bool:
        """Whether the fingers are at rest at this width."""
        # Measured from where it last moved on, not from the step before: the slowest moves make 10 um in a step.
        if abs(width_m - self._width_m) >= STILL_M:
            self._width_m, self._ms = width_m, 0
        else:
            self._ms += 1
        return self._ms >= STILL_MS
