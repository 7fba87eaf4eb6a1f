"""The robot's side of the FCI: requests on TCP 1337, one state out and one command in per millisecond on UDP."""

from __future__ import annotations

import logging
import math
import struct
import time
from collections.abc import Callable, Sequence
from enum import Enum, IntEnum

import numpy as np

from robosteer_core.errors import UserError
from robosteer_sim.fci import wire
from robosteer_sim.fci.checks import CYCLE_S
from robosteer_sim.fci.firmware import Firmware
from robosteer_sim.fci.link_faults import LinkFaults
from robosteer_sim.fci.port import FciPort
from robosteer_sim.fci.requests import answer
from robosteer_sim.fci.wire import Controller, Generator, Mode, MoveStatus, RobotError, Status
from robosteer_sim.panda.model_library import library_path
from robosteer_sim.poller import Poller
from robosteer_sim.world import World

logger = logging.getLogger(__name__)

#: A starting motion's states: the second follows the first after this long, each further one after twice its
#: predecessor's wait, at least and at most so long, seconds.
_SECOND_STATE_S, _LEAST_START_WAIT_S, _MOST_START_WAIT_S = 0.005, 0.05, 0.4
#: Between motions a state goes out this often, seconds of wall time: the robot's own 1 ms would cost without use.
_IDLE_S = 0.002
#: The last state is repeated after this long, seconds: libfranka gives up when it hears nothing for one second.
_REPEAT_S = 0.25
#: A client that leaves a motion without a command for this long is given up, seconds.
_SILENCE_S = 30.0

#: Parts of the command packet that are looked at before it is taken; they lie at the same place in every version.
_MESSAGE_ID, _MOTION, _TORQUES = struct.Struct("<Q"), struct.Struct("<38d"), struct.Struct("<7d")
_TORQUES_AT = wire.CONTROL.fields["tau_J_d"][1]


class Phase(Enum):
    IDLE = "idle"  # no motion runs
    STARTING = "starting"  # a motion is granted; its client has not commanded yet
    REHEARSING = "rehearsing"  # its first command is there; the second one will be the first to be carried out
    WAITING = "waiting"  # the client owes the command for the last state
    ANSWERED = "answered"  # the command is there: the step may be made
    MISSED = "missed"  # the command does not come: the step is made without it


_READY = (Phase.IDLE, Phase.ANSWERED, Phase.MISSED)


class RobotServer:
    """Speaks for `world`'s arm; `motion_asked()` is called when a Move request has been granted.

    How a motion starts: libfranka takes two states, the second newer than the first and read separately, before it
    commands, and nothing tells when it reads. So new states go out at a slow pace, while the arm stands still, until the
    first command has come. That one may answer an earlier state than the last; the second command never does, and is
    the same function of the same states however the machine is loaded. It is the first to be carried out.
    """

    def __init__(self, world: World, host: str, poller: Poller, motion_asked: Callable[[], None]) -> None:
        self._world, self._motion_asked = world, motion_asked
        if world.arm_model == "panda":
            library_path()  # said now, not when a client asks for it
        self.firmware = Firmware(world)
        self._version = version = self.firmware.version
        self._motion_finished = version.control.fields["motion_finished"][1]
        # In a version that has no flag of its own for torques, the same one once more.
        self._torque_finished = version.control.fields.get("torque_finished", (None, self._motion_finished))[1]
        self.phase = Phase.IDLE
        self.motions = self.lost_cycles = self.missed_cycles = self.uneven_starts = 0
        self._message_id = self._sent_id = self._begin_id = 0
        self._motion_id: int | None = None
        self._command = np.zeros((), version.control)
        self._cycle_s = CYCLE_S
        self._packet: bytes | None = None
        self._faults: LinkFaults | None = None
        self._sent_at = self._asked_at = self._granted_at = time.perf_counter()
        self._port = FciPort(
            host, wire.ROBOT_PORT, version.number, wire.ROBOT_HEADER, "<B", poller,
            self._handle, self._receive, self._client_lost,
        )  # fmt: skip

    def reset(self) -> None:
        """Take over a new scene. Between motions only."""
        self.firmware.reset()

    def close(self) -> None:
        self._port.close()

    @property
    def moving(self) -> bool:
        return self.phase is not Phase.IDLE

    @property
    def motion(self) -> str:
        """What the running motion commands, e.g. `cartesian position`; `torques`; `none` between motions."""
        return self.firmware.motion

    @property
    def ready(self) -> bool:
        """Whether the arm's side has nothing against a step."""
        return self.phase in _READY

    # --- faults -----------------------------------------------------------------------------------------------------

    def upset(self, **counts: int) -> None:
        """Let packets of running motions go wrong, or the robot's clock jump: attributes of LinkFaults, added to them."""
        self._faults = self._faults or LinkFaults()
        for name, count in counts.items():
            setattr(self._faults, name, getattr(self._faults, name) + count)

    def freeze(self) -> None:
        """Fall silent and hear nothing until `thaw`. A motion goes on without commands, for as long as it may."""
        if not self.frozen:
            self.upset(frozen=1)
            self._port.silence()
            if not self.ready:
                self.phase = Phase.MISSED

    def thaw(self) -> None:
        if self.frozen:
            self._faults.frozen = 0
            self._port.resume()

    @property
    def frozen(self) -> bool:
        return self._faults is not None and self._faults.frozen > 0

    def link_faults(self) -> list[dict]:
        """What is still to go wrong with packets, as plain types."""
        return [] if self._faults is None else self._faults.describe()

    def clear_link_faults(self, kind: str | None = None) -> None:
        """Let nothing more go wrong with packets and the clock, with `kind` nothing in this way."""
        if self._faults is not None:
            self._faults.clear(kind)

    def _packets_go_right(self) -> None:
        if self._faults is not None:
            self._faults.motion_over()

    def disconnect(self) -> None:
        """Close the connections of the client. Raises UserError when there is none."""
        if not self._port.connected:
            raise UserError("no client is connected to the robot")
        self._port.drop_client()

    # --- the loop's turns -------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Carry out the command of this cycle: step the world by one millisecond, and report."""
        command, cycle_s, self._cycle_s = self._command, self._cycle_s, CYCLE_S
        self.missed_cycles += self.phase is Phase.MISSED
        error = self.firmware.follow(command if self.phase is Phase.ANSWERED else None, cycle_s)
        if error is not None:
            self.reflex(error)
        self._world.step(self.firmware.torque())
        self._message_id += 1
        if self._faults is not None:
            self._message_id += self._faults.take_jump_ms()
        error = self.firmware.after_step()
        if error is not None:
            self.reflex(error)
        if self.moving:
            self.phase = Phase.WAITING
            self._send_state()

    def miss_command(self) -> None:
        """Make the next step without the command that the client owes; what comes for it later counts as lost."""
        if self.phase is Phase.WAITING:
            self.phase = Phase.MISSED

    def patience_s(self, now: float) -> float:
        """What is left of the cycle of wall time that a client has for the command that it owes; infinite if it owes none.

        `now` is time.perf_counter().
        """
        return self._asked_at + CYCLE_S - now if self.phase is Phase.WAITING else math.inf

    def attend(self, now: float) -> float:
        """Send what is due while no step is made (`now` is time.perf_counter()); returns seconds until the next."""
        if not self._port.connected or self.frozen:
            return _REPEAT_S
        since = now - self._sent_at
        if self.phase is Phase.IDLE:
            # Who reads a state waits for a new one: its time goes on with the wall's, even where lab time is held.
            if since >= _IDLE_S:
                self._message_id = max(self._message_id, self._sent_id + int(since * 1000))
                self._send_state()
                since = 0.0
            return _IDLE_S - since
        silent = now - (self._granted_at if self.phase is Phase.STARTING else self._asked_at)
        if self.phase is not Phase.ANSWERED and silent > _SILENCE_S:
            logger.warning("no command for %.0f s in the middle of a motion: the client is given up", _SILENCE_S)
            self.reflex(RobotError.COMMUNICATION_CONSTRAINTS_VIOLATION)
            self._port.drop_client()
            return _REPEAT_S
        if self.phase is Phase.STARTING:
            if since >= self._start_wait_s:
                self._start_wait_s = min(max(2 * self._start_wait_s, _LEAST_START_WAIT_S), _MOST_START_WAIT_S)
                self._send_state()
                since = 0.0
            return self._start_wait_s - since
        if since >= _REPEAT_S:
            self.repeat_state()
            since = 0.0
        return _REPEAT_S - since

    def repeat_state(self) -> None:
        """Send the last packet once more: it keeps a waiting client from giving up, and means nothing else."""
        if self._port.connected and self._packet is not None and not self.frozen:
            self._sent_at = time.perf_counter()
            self._port.send_state(self._packet)

    def _send_state(self) -> None:
        if not self._port.connected:
            return
        self._message_id = max(self._message_id, self._sent_id + 1)
        self.firmware.fill_state()
        self.firmware.state["message_id"] = self._message_id
        packet, self._sent_id = self.firmware.state.tobytes(), self._message_id
        self._sent_at = self._asked_at = time.perf_counter()
        if self._faults is None:
            self._packet = packet
            self._port.send_state(packet)
        else:
            self._send_through_faults(packet)

    def _send_through_faults(self, packet: bytes) -> None:
        running = self.phase is Phase.WAITING
        if self._faults.outgoing(packet, running, self._port.send_state):
            self._packet = packet
        elif running:
            self.miss_command()
        if self._faults.spent:
            self._faults = None

    # --- commands ---------------------------------------------------------------------------------------------------

    def _receive(self, packet: bytes) -> None:
        if self._faults is None:
            self._take(packet)
            return
        arrivals = self._faults.arrivals() if self.phase is Phase.WAITING else 1
        for _ in range(arrivals):
            self._take(packet)
        if not arrivals:
            self.miss_command()

    def _take(self, packet: bytes) -> None:
        if len(packet) != self._version.control.itemsize or not self.moving:
            return
        (answered,) = _MESSAGE_ID.unpack_from(packet)
        if answered < self._begin_id:
            return  # A late one of the motion before.
        if packet[self._motion_finished] or packet[self._torque_finished]:
            error = self.firmware.finish()
            if error is None:
                self._end(MoveStatus.SUCCESS)
            else:
                self.reflex(error)
        elif self.phase is Phase.STARTING:
            self._first_command(answered)
        elif answered != self._message_id:
            self.lost_cycles += self.phase is Phase.WAITING
        elif not _finite(packet):
            logger.warning("a command that is not finite ends the motion")
            self._end(MoveStatus.INPUT_ERROR_ABORTED)
        else:
            # The first command that is carried out comes two cycles after the state that the motion started from; more, where
            # its client was slow to start and has counted them.
            rehearsed = self.phase is Phase.REHEARSING
            self._cycle_s = (answered - self._first_answered + 1) * CYCLE_S if rehearsed else CYCLE_S
            self._command, self.phase = np.frombuffer(packet, self._version.control)[0], Phase.ANSWERED

    def _first_command(self, answered: int) -> None:
        self.phase, self._first_answered = Phase.REHEARSING, answered
        if answered == self._message_id:
            self._send_state()
        elif answered < self._message_id - 1:
            self.uneven_starts += 1

    def _end(self, status: MoveStatus) -> None:
        """The motion is over: the states say so first, then the Move request gets its second answer."""
        if self.firmware.mode == Mode.MOVE:
            self.firmware.end()
        motion, self._motion_id, self.phase = self._motion_id, None, Phase.IDLE
        self._packets_go_right()
        self._send_state()
        self._reply("MOVE", motion, status)

    def reflex(self, error: RobotError) -> None:
        """Stop with an error, whatever the robot does."""
        self.firmware.reflex(error)
        if self.moving:
            self._end(MoveStatus.REFLEX_ABORTED)

    def user_stop(self, pressed: bool) -> None:
        """Press or release the user stop; pressed, it ends a motion and refuses others."""
        self.firmware.user_stop(pressed)
        if self.moving:
            self._end(MoveStatus.EMERGENCY_ABORTED)
        else:
            self._send_state()

    def guide(self, active: bool, force: Sequence[float] = (0.0, 0.0, 0.0)) -> None:
        """Press or release the buttons by which somebody leads the arm, pulling at the hand with `force` (3,) N, base frame,
        until the next call. Raises UserError unless the arm is at rest or guided already."""
        if not (active and self.firmware.mode == Mode.GUIDING):
            self.firmware.guide(active)
        self._world.pull(force if active else (0.0, 0.0, 0.0))
        self._send_state()

    def _client_lost(self) -> None:
        if self.moving:
            logger.warning("the client has gone in the middle of a motion: the arm stops and holds")
            self.firmware.end()
            self._motion_id, self.phase = None, Phase.IDLE
            self._packets_go_right()

    # --- requests ---------------------------------------------------------------------------------------------------

    def _handle(self, command: int, command_id: int, payload: bytes) -> None:
        known = command in self._version.commands._value2member_map_
        name = self._version.commands(command).name if known else f"number {command}"
        try:
            if name == "MOVE":
                self._move(command_id, payload)
                return
            found = (Status.SUCCESS,) if name == "STOP_MOVE" else answer(self.firmware, name, payload)
        except struct.error:
            logger.warning("request %s has a payload of %d bytes and is refused", name.lower(), len(payload))
            found = (MoveStatus.INVALID_ARGUMENT if name == "MOVE" else Status.INVALID_ARGUMENT,)
        if found is None:
            logger.warning("request %s is not supported and is refused", name.lower())
            self._port.reply(command, command_id, Status.NOT_POSSIBLE)
            return
        if not self.moving:
            # Whoever asks whether it has worked must find it in the next state.
            self._send_state()
        self._reply(name, command_id, *found)
        if name == "STOP_MOVE" and self.moving:
            self._end(MoveStatus.PREEMPTED)

    def _reply(self, name: str, command_id: int, status: IntEnum, body: bytes = b"") -> None:
        self._port.reply(self._version.commands[name], command_id, self._version.code(status), body)

    def _move(self, command_id: int, payload: bytes) -> None:
        status = self._granted(*self._version.move_request.unpack(payload))
        if status == MoveStatus.MOTION_STARTED:
            self._motion_id, self.phase, self._start_wait_s = command_id, Phase.STARTING, _SECOND_STATE_S
            self._granted_at = time.perf_counter()
            self.motions += 1
        self._reply("MOVE", command_id, status)
        if status == MoveStatus.MOTION_STARTED:
            self._send_state()
            self._begin_id = self._message_id
            self._motion_asked()

    def _granted(self, controller: int, generator: int, *others: float) -> MoveStatus:
        """Begin the motion that is asked for, where it is possible."""
        if controller > Controller.EXTERNAL or generator + 1 > self._version.last_generator:
            return MoveStatus.INVALID_ARGUMENT
        if any(others[6:7]):
            logger.warning("a motion with the asynchronous motion generator is not supported and is refused")
            return MoveStatus.NOT_POSSIBLE
        # Torques come with a motion generator or without one; without torques there has to be one.
        nothing = controller != Controller.EXTERNAL and generator + 1 == Generator.NONE
        if self.firmware.mode != Mode.IDLE or nothing:
            return MoveStatus.NOT_POSSIBLE
        self.firmware.begin(Controller(controller), Generator(generator + 1))
        return MoveStatus.MOTION_STARTED


def _finite(packet: bytes) -> bool:
    """Whether every number of a command is finite: the sum of finite numbers of a robot's size is."""
    return math.isfinite(sum(_MOTION.unpack_from(packet, 8)) + sum(_TORQUES.unpack_from(packet, _TORQUES_AT)))
