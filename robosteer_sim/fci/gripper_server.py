"""The Franka Hand's side: requests on TCP 1338, its width on UDP."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from robosteer_core.errors import UserError
from robosteer_sim.fci import wire
from robosteer_sim.fci.port import FciPort
from robosteer_sim.fci.wire import GripperCommand, GripperStatus
from robosteer_sim.fingers import FingersStill
from robosteer_sim.poller import Poller
from robosteer_sim.world import MAX_WIDTH_M, World

logger = logging.getLogger(__name__)

#: Franka Hand (datasheet): fastest closing of both fingers together [m/s], greatest force [N].
MAX_SPEED_M_PER_S, MAX_FORCE_N = 0.1, 70.0
#: Force with which the fingers are moved where the request names none.
MOVE_FORCE_N = 40.0
TEMPERATURE_C = 25
#: How far from the width asked for a Move may end.
_REACHED_M = 0.003
#: A grasp is one for as long as the fingers stay this close to the width at which they were stopped.
_HELD_M = 0.002
#: Wall time between two states, and while nothing changes. Who reads the width waits for the next state.
_STATE_S, _STILL_STATE_S, _STATES_UNTIL_STILL = 0.002, 0.010, 20


@dataclass
class _Job:
    command: GripperCommand
    command_id: int
    width_m: float
    inner_m: float = 0.0
    outer_m: float = 0.0
    jammed: bool = False
    still: FingersStill = field(default_factory=FingersStill)


class GripperServer:
    """Speaks for `world`'s gripper. `arrived(id)` is called when a command has come, `answered(id)` when its answer has
    been sent: never, where its client has gone, whose library may take a minute to notice."""

    def __init__(
        self, world: World, host: str, poller: Poller, arrived: Callable[[int], None], answered: Callable[[int], None]
    ) -> None:  # fmt: skip
        self._world, self._arrived, self._answered = world, arrived, answered
        self._message_id = 0
        self._job: _Job | None = None
        self._grasping = self._jammed = False
        self._grasped_m = 0.0
        self._sent_at, self._sent_since_step = 0.0, 0
        self._port = FciPort(
            host, wire.GRIPPER_PORT, wire.GRIPPER_VERSION, wire.GRIPPER_HEADER, "<H", poller,
            self._handle, lambda packet: None, self._client_lost,
        )  # fmt: skip

    def reset(self) -> None:
        """Take over a new scene."""
        if self._job is not None:
            self._end(GripperStatus.ABORTED)
        self._grasping = False

    def close(self) -> None:
        self._port.close()

    @property
    def moving(self) -> bool:
        return self._job is not None

    # --- faults -----------------------------------------------------------------------------------------------------

    def jam(self, jammed: bool) -> None:
        """The fingers stay where they are, whatever they are told, or move again at the next command."""
        self._jammed = jammed
        if jammed and self._job is not None:
            self._job.jammed = True
            self._world.gripper_move(self._world.gripper_width(), MAX_SPEED_M_PER_S, MOVE_FORCE_N)

    def lose_object(self) -> None:
        """Take all force from the fingers until the next command. Raises UserError when nothing has been grasped."""
        if not self._grasping:
            raise UserError("the hand holds nothing that it could lose: nothing has been grasped, or it has been let go since")
        self._world.gripper_move(self._world.gripper_width(), MAX_SPEED_M_PER_S, 0.0)
        self._grasping = False

    def disconnect(self) -> None:
        """Close the connections of the client. Raises UserError when there is none."""
        if not self._port.connected:
            raise UserError("no client is connected to the gripper")
        self._port.drop_client()

    # --- the loop's turns -------------------------------------------------------------------------------------------

    def attend(self, now: float) -> float:
        """Send a state if one is due at `now` (time.perf_counter()); returns seconds until the next."""
        if not self._port.connected:
            return _STILL_STATE_S
        period = _STATE_S if self._sent_since_step < _STATES_UNTIL_STILL else _STILL_STATE_S
        since = now - self._sent_at
        if since >= period:
            self._message_id += 1
            self._sent_at, since = now, 0.0
            self._sent_since_step += 1
            width = self._world.gripper_width()
            state = wire.GRIPPER_STATE.pack(self._message_id, width, MAX_WIDTH_M, self._grasping, TEMPERATURE_C)
            self._port.send_state(state)
        return period - since

    def after_step(self) -> None:
        """Watch the running command for one millisecond."""
        self._sent_since_step = 0
        job = self._job
        if job is None:
            if self._grasping and abs(self._world.gripper_width() - self._grasped_m) > _HELD_M:
                self._grasping = False
            return
        width = self._world.gripper_width()
        if not job.still.watch(width):
            return
        if job.jammed:
            reached = False
        elif job.command == GripperCommand.GRASP:
            # Something is held when the fingers were stopped within the tolerance of the width asked for.
            self._grasping = job.width_m - job.inner_m <= width <= job.width_m + job.outer_m
            reached, self._grasped_m = self._grasping, width
        else:
            reached = abs(width - job.width_m) < _REACHED_M
        self._end(GripperStatus.SUCCESS if reached else GripperStatus.UNSUCCESSFUL)

    def _handle(self, command: int, command_id: int, payload: bytes) -> None:
        try:
            if command == GripperCommand.STOP:
                self._stop(command_id)
                return
            job, speed_m_s, force_n = _job(command, command_id, payload)
        except (struct.error, ValueError) as error:
            logger.warning("gripper request %d fails: %s", command, error)
            self._port.reply(command, command_id, GripperStatus.FAIL)
            # Whoever has announced it waits for no more than this answer.
            self._arrived(command_id)
            self._answered(command_id)
            return
        if self._job is not None:
            self._end(GripperStatus.ABORTED)
        self._arrived(command_id)
        self._job, job.jammed = job, self._jammed
        if self._jammed:
            return
        self._grasping = False
        # A grasp closes until something stops the fingers, whatever the width that is expected.
        closes = job.command == GripperCommand.GRASP and job.width_m < self._world.gripper_width()
        self._world.gripper_move(0.0 if closes else job.width_m, speed_m_s, force_n)

    def _stop(self, command_id: int) -> None:
        self._grasping = False
        self._world.gripper_move(self._world.gripper_width(), MAX_SPEED_M_PER_S, MOVE_FORCE_N)
        if self._job is not None:
            self._end(GripperStatus.ABORTED)
        self._port.reply(GripperCommand.STOP, command_id, GripperStatus.SUCCESS)

    def _end(self, status: GripperStatus) -> None:
        job, self._job = self._job, None
        self._port.reply(job.command, job.command_id, status)
        self._answered(job.command_id)

    def _client_lost(self) -> None:
        self._job = None


def _job(command: int, command_id: int, payload: bytes) -> tuple[_Job, float, float]:
    """(job, speed [m/s], force [N]) of a request. Raises ValueError and struct.error for what the hand cannot do."""
    if command == GripperCommand.HOMING:
        return _Job(GripperCommand.HOMING, command_id, MAX_WIDTH_M), MAX_SPEED_M_PER_S, MOVE_FORCE_N
    if command == GripperCommand.MOVE:
        (width, speed), force, tolerances = wire.MOVE_GRIPPER_REQUEST.unpack(payload), MOVE_FORCE_N, ()
    elif command == GripperCommand.GRASP:
        width, *tolerances, speed, force = wire.GRASP_REQUEST.unpack(payload)
    else:
        raise ValueError("it is not supported")
    numbers = (width, speed, force, *tolerances)
    if not all(map(math.isfinite, numbers)) or not 0.0 <= width <= MAX_WIDTH_M + 1e-6 or speed <= 0.0 or force < 0.0:
        raise ValueError(f"expected a width in [0, {MAX_WIDTH_M}] m, a speed above and a force of at least 0, found {numbers}")
    job = _Job(GripperCommand(command), command_id, width, *tolerances)
    return job, min(speed, MAX_SPEED_M_PER_S), min(force, MAX_FORCE_N)
