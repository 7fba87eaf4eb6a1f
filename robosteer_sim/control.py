"""The lab's control socket: who takes part in lab time, and when time may go on.

JSON lines over TCP, `{"op": name, ...}`. One connection is one participant or observer:

join {name, rank, state}   takes part: time stands still from now until this participant waits
wait {until_ns}            answered when lab time is there; time then stands still until it waits again
leave {}                   no longer holds time, until its next wait; so does closing the connection
external {event}           it is about to block on the gripper: time stands until the gripper's command has arrived,
                           runs while the gripper works, and stands again from its answer to the next wait
now, status, truth, reset {task, seed, variation, hold}
guide {active, force}      presses or releases the buttons at the hand by which somebody leads the arm at rest, and pulls at
                           the hand with `force` [x, y, z] in N, base frame; `active` once more changes the force
fault {kind, ...}          lets something go wrong; the kinds and their parameters are those of `robosteer_sim.faults`
faults, clear {kind}       tell the faults there are, and end those of a kind, or all of them

An answer with `error` says what is wrong with the request.
"""

from __future__ import annotations

import itertools
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from robosteer_core.errors import UserError
from robosteer_sim.poller import Poller

logger = logging.getLogger(__name__)

_LONGEST_LINE = 100_000
_REPLY_TIMEOUT_S = 1.0


class Holding(Enum):
    BUSY = "busy"  # time stands still for it
    WAITING = "waiting"  # until a time
    ARMED = "armed"  # time stands still until its gripper command is there
    EXTERNAL = "external"  # the gripper works for it
    AWAY = "away"  # an observer, or one that has left


@dataclass(eq=False)
class Participant:
    connection: socket.socket
    number: int
    name: str | None = None
    rank: int = 0
    wants_state: bool = False
    holding: Holding = Holding.AWAY
    until_ns: int = 0
    gripper_command: int | None = None
    buffer: bytearray = field(default_factory=bytearray)

    @property
    def order(self) -> tuple[int, str, int]:
        """In which participants act within one instant."""
        return (self.rank, self.name or "", self.number)


class ControlServer:
    """Keeps the participants. `answer(op, message)` of the owner deals with everything that is not about time;
    `now_ns()` tells lab time, `scene(with_state)` what a participant gets to know of it. Raises UserError when the
    address is taken."""

    def __init__(
        self, address: str, poller: Poller, answer: Callable[[str, dict], dict], now_ns: Callable[[], int],
        scene: Callable[[bool], dict],
    ) -> None:  # fmt: skip
        self._poller, self._answer, self._now_ns, self._scene = poller, answer, now_ns, scene
        self._participants: list[Participant] = []
        self._numbers = itertools.count()
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise UserError(f"the address for lab control is host:port; found {address!r}")
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((host, int(port)))
            self._listener.listen(32)
        except OSError as error:
            self._listener.close()
            raise UserError(
                f"cannot listen on {address} for lab control: {error.strerror}; another lab may be running there: stop it, "
                "or choose another address with --control"
            ) from error
        self._listener.setblocking(False)
        poller.register(self._listener, self._accept)

    @property
    def address(self) -> str:
        """Where it listens: with port 0 asked for, the port that was given."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        for participant in list(self._participants):
            self._drop(participant)
        self._poller.close(self._listener)

    # --- time -------------------------------------------------------------------------------------------------------

    def release(self) -> bool:
        """Let the next participant whose time has come act, in rank order; True when nobody holds time.

        Time stands while anybody is busy. One whose time has come acts once those before it in the order have done so:
        those after it do not keep it waiting, so that the cameras draw a new scene for a policy that looks at it.
        """
        if not self._participants:
            return True
        busy = [p for p in self._participants if p.holding in (Holding.BUSY, Holding.ARMED)]
        now = self._now_ns()
        due = [p for p in self._participants if p.holding is Holding.WAITING and p.until_ns <= now]
        if due:
            first = min(due, key=lambda p: p.order)
            if not any(p.order < first.order for p in busy):
                first.holding = Holding.BUSY
                self._reply(first, {"now_ns": now, **self._scene(first.wants_state)})
            return False
        return not busy

    @property
    def driven(self) -> bool:
        """Whether somebody takes part for whom time should go as fast as it can; cameras only look on."""
        return any(p.holding is not Holding.AWAY and not p.wants_state for p in self._participants)

    def gripper_arrived(self, command_id: int) -> None:
        """A gripper command has come: it is that of the first participant who has announced one."""
        armed = [p for p in self._participants if p.holding is Holding.ARMED]
        if armed:
            first = min(armed, key=lambda p: p.order)
            first.holding, first.gripper_command = Holding.EXTERNAL, command_id

    def gripper_answered(self, command_id: int) -> None:
        for participant in self._participants:
            if participant.holding is Holding.EXTERNAL and participant.gripper_command == command_id:
                participant.holding, participant.gripper_command = Holding.BUSY, None

    def describe(self) -> list[dict]:
        """Who takes part, in the order in which they act."""
        joined = sorted((p for p in self._participants if p.name is not None), key=lambda p: p.order)
        return [{"name": p.name, "rank": p.rank, "holding": p.holding.value, "until_ns": p.until_ns} for p in joined]

    # --- sockets ----------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # It has gone again.
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        participant = Participant(connection, next(self._numbers))
        self._participants.append(participant)
        self._poller.register(connection, lambda: self._receive(participant))

    def _receive(self, participant: Participant) -> None:
        try:
            data = participant.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        participant.buffer += data
        if not data or len(participant.buffer) > _LONGEST_LINE:
            self._drop(participant)
            return
        while participant in self._participants and (end := participant.buffer.find(b"\n")) >= 0:
            line = bytes(participant.buffer[:end])
            del participant.buffer[: end + 1]
            self._line(participant, line)

    def _line(self, participant: Participant, line: bytes) -> None:
        try:
            reply = self._request(participant, json.loads(line))
        except UserError as error:
            reply = {"error": str(error)}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            reply = {"error": f"not a request that this lab knows: {line[:200]!r} ({type(error).__name__}: {error})"}
        if reply is not None:
            self._reply(participant, reply)

    def _request(self, participant: Participant, message: dict) -> dict | None:
        op = message["op"]
        if op == "join":
            if participant.name is not None:
                raise UserError(f"this connection has joined already, as {participant.name!r}")
            name, rank = str(message["name"]), int(message["rank"])
            participant.name, participant.rank, participant.wants_state = name, rank, bool(message.get("state", False))
            participant.holding = Holding.BUSY
        elif op == "wait":
            self._demand_joined(participant, op)
            participant.until_ns = int(message["until_ns"])
            participant.holding = Holding.WAITING
            return None
        elif op == "leave":
            participant.holding = Holding.AWAY
        elif op == "external":
            self._demand_joined(participant, op)
            if message["event"] != "gripper":
                raise UserError(f"no external event {message['event']!r}; there is: gripper")
            participant.holding = Holding.ARMED
        else:
            return self._answer(op, message)
        return {"now_ns": self._now_ns()}

    @staticmethod
    def _demand_joined(participant: Participant, op: str) -> None:
        if participant.name is None:
            raise UserError(f"only a participant can {op}: this connection has not joined")

    def _reply(self, participant: Participant, reply: dict) -> None:
        try:
            participant.connection.settimeout(_REPLY_TIMEOUT_S)
            participant.connection.sendall(json.dumps(reply).encode() + b"\n")
            participant.connection.setblocking(False)
        except OSError:
            logger.warning("%s takes no answer and is dropped", participant.name or "an observer")
            self._drop(participant)

    def _drop(self, participant: Participant) -> None:
        if participant in self._participants:
            self._participants.remove(participant)
            self._poller.close(participant.connection)
