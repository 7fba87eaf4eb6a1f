"""A device heard on a socket: any device's own process, on this machine or another, or the lab's scripted operator."""

from __future__ import annotations

import threading

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.json_lines import LineServer
from robosteer_core.runtime.teleop_link import EVENTS
from robosteer_ros.hardware.teleop.device import TeleopCommand, TeleopDevice

#: After so many reads without a new command (0.2 s at 15 Hz) the device counts as silent.
PATIENCE_READS = 3
FIELDS = {"delta", "gripper", "deadman", "stamp_ns", "events"}


class RemoteDevice(TeleopDevice):
    """Listens at the rig's `teleop_address` for one device at a time; the wire is that of `TeleopLink`.

    The answer to a command says that the next `read` returns it. Raises UserError when the address is taken.
    """

    def __init__(self, rig: Rig) -> None:
        self._lock = threading.Lock()
        self._command = TeleopCommand(np.zeros(6), gripper=1.0, deadman=False, stamp_ns=0)
        self._unread: list[str] = []
        self._silent_reads = PATIENCE_READS
        self._device: object | None = None
        self._session = {"session": "ready", "episodes": 0}
        self._server = LineServer(rig.teleop_address, self._answer, self._gone, "recorder")

    def read(self) -> TeleopCommand:
        with self._lock:
            self._silent_reads += 1
            command, events = self._command, tuple(self._unread)
            self._unread.clear()
            held = command.deadman and self._device is not None and self._silent_reads <= PATIENCE_READS
        delta = command.delta if held else np.zeros(6)
        return TeleopCommand(delta, command.gripper, held, command.stamp_ns, events)

    @property
    def connected(self) -> bool:
        """Whether a device is connected that has sent a command."""
        with self._lock:
            return self._device is not None

    def announce(self, stage: str, episodes: int) -> None:
        with self._lock:
            self._session = {"session": stage, "episodes": episodes}

    def close(self) -> None:
        self._server.close()

    def _answer(self, message: dict, peer: object) -> dict:
        if message == {"request": "session"}:
            with self._lock:
                return self._session
        command = _parse(message)
        with self._lock:
            if self._device not in (None, peer):
                raise UserError("another teleoperation device is connected; end it first")
            self._device = peer
            self._command = command
            self._unread.extend(command.events)
            self._silent_reads = 0
            return self._session

    def _gone(self, peer: object) -> None:
        with self._lock:
            if self._device is peer:
                self._device = None


def _parse(message: dict) -> TeleopCommand:
    """Raises UserError naming the field that is missing, unknown or out of range."""
    if set(message) != FIELDS:
        raise UserError(f"a command has the fields {', '.join(sorted(FIELDS))}; found {', '.join(sorted(message)) or 'none'}")
    try:
        delta = np.array(message["delta"], dtype=float)
        gripper, stamp_ns = float(message["gripper"]), int(message["stamp_ns"])
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"delta, gripper and stamp_ns of a command are numbers: {error}") from None
    if delta.shape != (6,) or not np.all(np.isfinite(delta)):
        raise UserError(f"delta: expected 6 finite numbers, found {message['delta']!r:.80}")
    if not 0 <= gripper <= 1:
        raise UserError(f"gripper: expected an opening in [0, 1], found {gripper}")
    if not isinstance(message["deadman"], bool):
        raise UserError(f"deadman: expected true or false, found {message['deadman']!r:.40}")
    events = message["events"]
    unknown = [event for event in events if event not in EVENTS] if isinstance(events, list) else [events]
    if unknown:
        raise UserError(f"events: expected a list out of {', '.join(EVENTS)}; found {unknown!r:.80}")
    return TeleopCommand(delta, gripper, message["deadman"], stamp_ns, tuple(events))
