"""Teleoperation: the operator's hand moves the arm at the policy's rate, and every tick of it is told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import integrate_deltas
from robosteer_core.runtime.clock import Clock
from robosteer_core.runtime.runner import ArmLink, last_tick, tick_ns
from robosteer_ros.hardware.teleop.device import TeleopCommand, TeleopDevice
from robosteer_ros.steering import RecordingStatus, Steering

logger = logging.getLogger(__name__)

#: A recorder that writes an episode's end may take as long as its disk does.
SETTLE_TIMEOUT_S = 120.0
LOCKSTEP_TIMEOUT_S = 30.0
#: On a real arm a recorder that says nothing to so many seconds of commands is taken for lost; DDS itself takes 10 s to notice.
SILENT_S = 2.0
_STILL = np.zeros(6)


class Arm(ArmLink, Protocol):
    def status(self) -> dict: ...
    def start(self) -> None: ...
    def release(self) -> None: ...
    def home(self) -> None: ...
    def recover(self) -> None: ...
    def rest(self) -> None: ...


class Recording:
    """What is known of the recorder: its last status, None while there is none. Set by one thread, waited for by another."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._status: RecordingStatus | None = None
        self._heard_s = 0.0

    @property
    def status(self) -> RecordingStatus | None:
        with self._news:
            return self._status

    def update(self, status: RecordingStatus | None) -> None:
        with self._news:
            self._status, self._heard_s = status, time.monotonic()
            self._news.notify_all()

    @property
    def running(self) -> bool:
        status = self.status
        return status is not None and status.stage == "recording"

    @property
    def silent_s(self) -> float:
        """For how long nothing has been heard."""
        with self._news:
            return time.monotonic() - self._heard_s

    def wait(self, reached: Callable[[RecordingStatus], bool], timeout_s: float) -> bool:
        """Until `reached`, or until there is no recorder; whether one of them came in time."""
        with self._news:
            return self._news.wait_for(lambda: self._status is None or reached(self._status), timeout_s)


@dataclass(frozen=True)
class _Tick:
    """One tick of the loop: when it is, was due and the next one will be; what the device says."""

    now_ns: int
    due_ns: int
    next_ns: int
    command: TeleopCommand


class Teleoperation:
    """Moves the arm while an episode is being recorded, or after `drive` until `rest`; else the device is only listened to.

    While the operator's enabling switch is released the action is zero and the arm stands. Where the arm stops or refuses,
    the episode is discarded; after a fault the operator's `recover` is waited for. With a device that `guides`, the arm is not
    commanded: somebody leads it by the buttons at its hand, and how it moves is recorded as the command. Each tick is handed to `tell`; in the
    lab the loop goes on when the recorder has dealt with it, so that a recording comes out twice the same. On a real arm
    nobody is waited for.
    """

    def __init__(
        self, rig: Rig, arm: Arm, device: TeleopDevice, open_clock: Callable[[], Clock], now_ns: Callable[[], int],
        tell: Callable[[Steering], None], recording: Recording,
    ) -> None:  # fmt: skip
        require_deltas(rig)
        self._rig, self._arm, self._device, self._open_clock = rig, arm, device, open_clock
        self._now_ns, self._tell, self._recording = now_ns, tell, recording
        self._closing, self._asked = threading.Event(), threading.Event()
        self._fault = False
        self.ticks = self.late_ticks = 0

    # What other threads call.

    def drive(self) -> None:
        """Move the arm also while nothing is recorded."""
        self._asked.set()

    def rest(self) -> None:
        """End what `drive` began."""
        self._asked.clear()

    def close(self) -> None:
        """Let `run` bring the arm to rest and return."""
        self._closing.set()

    @property
    def stage(self) -> str:
        """What the device is told: waiting (there is no recorder), fault, driving, or a stage of the recording."""
        status = self._recording.status
        if self._fault:
            return "fault"
        if self._asked.is_set() and (status is None or status.stage != "recording"):
            return "driving"
        return "waiting" if status is None or status.stage == "idle" else status.stage

    def run(self) -> None:
        """Serve until `close`. Leaves the arm at rest."""
        while not self._closing.is_set():
            try:
                if self._wanted():
                    self._drive()
                else:
                    self._listen()
            except UserError as error:
                logger.error("%s", error)
                self._asked.clear()
                self._fault = self._at_fault()
                self._discard()

    def _wanted(self) -> bool:
        return not self._closing.is_set() and (self._asked.is_set() or self._recording.running)

    # Between episodes.

    def _listen(self) -> None:
        self._announce(self.stage)
        command = self._device.read()
        self._tell(self._steering(self._now_ns(), command, driven=False))
        for event in command.events:
            if event == "home":
                self._go_home()
            elif event == "recover":
                self._arm.recover()
                self._fault = False
            elif event == "start" and self.stage != "ready":
                logger.warning("no episode can start: %s", self._why_not())
        self._closing.wait(1 / self._rig.rates.policy_hz)

    def _why_not(self) -> str:
        status = self._recording.status
        if self._fault:
            return "the arm is at fault, recover it first"
        if status is None:
            return "there is no recorder; `robosteer record` starts one, the service teleop/drive moves the arm without"
        return f"the recorder is {status.stage}{f' ({status.problem})' if status.problem else ''}"

    def _go_home(self) -> None:
        """Move home for as long as the operator holds the enabling switch. Events that come meanwhile count for nothing."""
        self._arm.home()
        try:
            while self._arm.status()["motion"] is not None:
                time.sleep(1 / self._rig.rates.policy_hz)
                if not self._device.read().deadman:
                    logger.warning("the way home was stopped: the enabling switch is released")
                    break
        finally:
            self._arm.release()
        self._arm.rest()

    # While the arm is moved.

    def _drive(self) -> None:
        with ExitStack() as ending:
            # From the last to the first: the arm is let go before time may run on without us, and nothing is ready before it rests.
            ending.callback(self._arm.rest)
            ending.callback(self._announce, "saving")
            clock = self._open_clock()
            ending.callback(clock.close)
            if not self._device.guides:
                self._arm.start()
                ending.callback(self._arm.release)
            self._announce(self.stage)
            (self._lead if self._device.guides else self._follow)(clock)
        if not self._recording.wait(lambda status: status.stage not in ("recording", "saving"), SETTLE_TIMEOUT_S):
            raise UserError(f"the recorder has not ended the episode within {SETTLE_TIMEOUT_S:.0f} s; look at its log")

    def _ticks(self, clock: Clock) -> Iterator[_Tick]:
        """Until the operator or the recorder ends the episode, or `rest` is asked for."""
        hz, start_ns, tick = self._rig.rates.policy_hz, clock.now_ns(), 0
        while self._wanted():
            now_ns = clock.sleep_until_ns(tick_ns(start_ns, tick + 1, hz))
            if not self._wanted():
                return
            # Ticks that have passed meanwhile are left out: what the operator commands now is executed after now.
            missed = last_tick(start_ns, now_ns, hz) - (tick + 1)
            tick += 1 + missed
            due_ns = tick_ns(start_ns, tick, hz)
            self.ticks += 1
            self.late_ticks += missed + (now_ns - due_ns > 0.5e9 / hz)
            command = self._device.read()
            if not set(command.events) & {"keep", "discard", "finish"}:
                yield _Tick(now_ns, due_ns, tick_ns(start_ns, tick + 1, hz), command)
                continue
            self._tell(self._steering(now_ns, command, driven=False))
            if not self._asked.is_set():
                return

    def _follow(self, clock: Clock) -> None:
        """The arm does what the device says, until the last tick or until it stops by itself."""
        gripper = self._arm.state().gripper
        self._device.begin(gripper)
        for tick in self._ticks(clock):
            arm, command = self._arm.state(), tick.command
            if arm.mode in ("stopped", "fault"):
                raise UserError(f"the arm is {arm.mode}; an episode that runs is discarded")
            # With the enabling switch released the hand keeps what it was told last.
            gripper = command.gripper if command.deadman else gripper
            steering = self._steering(tick.now_ns, command, driven=True, gripper=gripper)
            period_ns = tick.next_ns - tick.due_ns
            actions = steering.action[None].astype(float)
            self._arm.send(integrate_deltas(arm.commanded, actions, tick.next_ns, period_ns))
            self._tell(steering)
            self._stay_with_recorder(tick.now_ns)

    def _lead(self, clock: Clock) -> None:
        """The operator's hand leads the arm itself by its buttons: each tick is told, and the recorder sees where it is."""
        for tick in self._ticks(clock):
            status = self._arm.status()
            if status["mode"] == "fault":
                raise UserError(f"the arm is at fault ({status['last_error']}); an episode that runs is discarded")
            led = Steering(tick.now_ns, np.zeros(7, np.float32), tick.now_ns, status["robot_mode"] == "Guiding", driven=False, guided=True)
            self._tell(led)
            self._stay_with_recorder(tick.now_ns)

    def _stay_with_recorder(self, told_ns: int) -> None:
        """In the lab until it has dealt with what was told, or the episode is over. Raises UserError where it says nothing any more."""
        if not self._recording.running:
            return
        if self._rig.lab is not None:
            heard = self._recording.wait(lambda status: status.stage != "recording" or status.stamp_ns >= told_ns, LOCKSTEP_TIMEOUT_S)
        else:
            heard = self._recording.silent_s < SILENT_S
        if not heard:
            self._recording.update(None)
            raise UserError("the recorder says nothing any more, and its episode is lost; look at its log")

    def _steering(self, now_ns: int, command: TeleopCommand, driven: bool, gripper: float | None = None) -> Steering:
        action = np.append(command.delta, command.gripper if gripper is None else gripper).astype(np.float32)
        return Steering(now_ns, action, command.stamp_ns or now_ns, command.deadman, driven, events=command.events)

    def _discard(self) -> None:
        """End the episode that runs, where one does."""
        if self._recording.running:
            self._tell(self._steering(self._now_ns(), TeleopCommand(_STILL, 1.0, False, 0, ("discard",)), driven=False))
            self._recording.wait(lambda status: status.stage not in ("recording", "saving"), SETTLE_TIMEOUT_S)

    def _at_fault(self) -> bool:
        """Whether the arm needs somebody to look; one that does not answer does."""
        try:
            return self._arm.status()["mode"] == "fault"
        except UserError:
            return True

    def _announce(self, stage: str) -> None:
        status = self._recording.status
        self._device.announce(stage, status.kept if status else 0)


def require_deltas(rig: Rig) -> None:
    """Raises UserError for a rig whose actions no hand can give."""
    if rig.action_space.kind != "cartesian_delta" or not rig.action_space.gripper:
        raise UserError(
            f"teleoperation commands Cartesian deltas and a gripper; the rig's action space is {rig.action_space.kind} "
            f"with{'' if rig.action_space.gripper else 'out'} a gripper"
        )
