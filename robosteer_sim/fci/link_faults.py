"""What goes wrong on the way between the robot and its client: packets lost, late or doubled; silence; a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable


class LinkFaults:
    """The faults of the robot's link that are still to come. There is none of these while the link is sound.

    Counted packets are those of one motion, the running one or the next: `outgoing` is told which packets are.
    """

    def __init__(self) -> None:
        self.drop_states = self.drop_commands = self.duplicate_states = self.duplicate_commands = 0
        self.delay_cycles = self.jump_ms = self.frozen = 0
        self._held: list[bytes] = []

    @property
    def spent(self) -> bool:
        """Whether everything asked for has happened."""
        return not (self.frozen or self.jump_ms or self._held or any(self._counts().values()))

    def outgoing(self, packet: bytes, of_motion: bool, send: Callable[[bytes], None]) -> bool:
        """A state is to go out by `send`; whether it does so now."""
        if self.frozen:
            return False
        if not of_motion:
            self._held.clear()  # Nobody needs what was late for a motion that is over.
            send(packet)
            return True
        if self.drop_states:
            self.drop_states -= 1
            return False
        if self.delay_cycles:
            self.delay_cycles -= 1
            self._held.append(packet)
            return False
        for late in self._held:
            send(late)
        self._held.clear()
        send(packet)
        if self.duplicate_states:
            self.duplicate_states -= 1
            send(packet)
        return True

    def arrivals(self) -> int:
        """How often a command that comes in is heard: 0 when it is lost, 2 when it is doubled."""
        if self.drop_commands:
            self.drop_commands -= 1
            return 0
        if self.duplicate_commands:
            self.duplicate_commands -= 1
            return 2
        return 1

    def take_jump_ms(self) -> int:
        """By how much the robot's clock jumps now."""
        jump_ms, self.jump_ms = self.jump_ms, 0
        return jump_ms

    def describe(self) -> list[dict]:
        """What is still to come."""
        named: dict[str, dict] = {}
        for name, count in self._counts().items():
            if count:
                kind, what = name.split("_")
                named.setdefault(kind, {"kind": kind})[what] = count
        if self.jump_ms:
            named["clock_jump"] = {"kind": "clock_jump", "milliseconds": self.jump_ms}
        return list(named.values())

    def clear(self, kind: str | None = None) -> None:
        """Forget what is still to come, with `kind` of that kind; what is held back goes out with the next state."""
        self.motion_over(kind)
        if kind in (None, "clock_jump"):
            self.jump_ms = 0

    def motion_over(self, kind: str | None = None) -> None:
        """Forget the packets that were still to go wrong: they are counted within a motion."""
        for name in self._counts():
            if kind in (None, name.split("_")[0]):
                setattr(self, name, 0)

    def _counts(self) -> dict[str, int]:
        names = ("drop_states", "drop_commands", "delay_cycles", "duplicate_states", "duplicate_commands")
        return {name: getattr(self, name) for name in names}
