"""When a hand that can only open and close does so."""

from __future__ import annotations

#: How often per second of the rig's clock the wanted opening is looked at, and the width is read.
RATE_HZ = 20.0
#: Openings above the middle mean open. To change its mind the hand wants to be that far past the middle, so that a
#: policy's noise around 0.5 does not make it chatter.
HYSTERESIS = 0.1


class GripperSwitch:
    """Decides between open and closed from a stream of openings in [0, 1]."""

    def __init__(self, closed: bool | None) -> None:
        self._closed = closed

    @staticmethod
    def at(opening: float) -> GripperSwitch:
        """The switch of a hand at this opening: what it is doing already, where its width tells."""
        if opening > 0.9:
            return GripperSwitch(False)
        return GripperSwitch(True if opening < 0.05 else None)

    def decide(self, opening: float) -> bool | None:
        """True to open now, False to close now, None when nothing changes."""
        if self._closed is None:
            wanted_closed = opening <= 0.5
        elif self._closed:
            wanted_closed = opening <= 0.5 + HYSTERESIS
        else:
            wanted_closed = opening < 0.5 - HYSTERESIS
        if wanted_closed == self._closed:
            return None
        self._closed = wanted_closed
        return not wanted_closed
