"""The one thread of control of the arm's node: idle, tracking, coming to rest; and what other threads may ask of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.clock import Clock
from robosteer_core.runtime.executor import SetPoint
from robosteer_core.runtime.limits import Limits, Refusal, malformation
from robosteer_core.runtime.runner import last_tick, tick_ns
from robosteer_core.runtime.session import LoopStatistics, TrackingSession
from robosteer_ros.hardware.arm.driver import ArmDriver, ArmFault, Reading, error_names
from robosteer_ros.hardware.arm.journal import Journal, Report
from robosteer_ros.hardware.arm.requests import Request, Requests
from robosteer_ros.hardware.gripper import GripperDriver

logger = logging.getLogger(__name__)

IDLE_PERIOD_S = 0.005
FAULT_PERIOD_S = 0.1
LOST_AFTER_READS = 3
REST_PERIOD_S = 0.005
#: Why a motion ends that somebody has ended.
ASKED = "asked to stop"
#: With no set-points sent, a state is told so often at most, s of wall time.
REST_STATE_PERIOD_S = 0.02


class ArmController:
    """Owns the driver. `run` is the thread of control; every other method may be called from any thread.

    Modes: `idle`, `tracking`, `holding`, `stopped` (the watchdog stopped the arm), `fault`. Out of `stopped` and
    `fault` nothing moves before someone calls `start` or `home`, out of `fault` only after `recover`.

    `open_clock` joins the rig's clock for as long as set-points are sent: with no motion running, the lab's time must
    not wait for this process, which may be waiting for the robot. `now_ns` reads the clock without joining. `tell` gets a
    report at every set-point, every `REST_STATE_PERIOD_S` else, and when the mode changes; it must not wait. `rig_of` gives the rig
    with the limits that hold for a commander.
    """

    def __init__(
        self, rig: Rig, driver: ArmDriver, gripper: GripperDriver, open_clock: Callable[[], Clock], now_ns: Callable[[], int],
        tell: Callable[[Report], None] = lambda report: None, rig_of: Callable[[str], Rig] | None = None,
    ) -> None:  # fmt: skip
        self._rig_of = rig_of or (lambda commander: rig)
        self._rig, self._driver, self._gripper, self._open_clock = rig, driver, gripper, open_clock
        self._requests = Requests()
        self._journal = Journal(tell, now_ns, self._requests)
        self._closing = False
        self._session: TrackingSession | None = None
        self._statistics = LoopStatistics()
        self._last_chunk_ns: int | None = None
        self._unread = 0
        self._set_reading(self._first_reading())
        self._journal.enter("idle", "connected")
        if rig.limits.off_nothing_protects_the_arm:
            logger.warning("THE LIMITS ARE OFF (off_nothing_protects_the_arm in rig %s): nothing keeps a command from the arm", rig.name)

    # What other threads call.

    def request(self, name: str, commander: str | None) -> None:
        """Carry out `start`, `release`, `home`, `guide` or `recover` for `commander`. Raises UserError saying why not.

        `start` and `home` return once begun, `guide` and `recover` when they are done. `release` returns once it is certain
        that the next tick of the loop begins to stop: it must not wait for robot time, which the caller may be holding.
        """
        if name == "release":
            self._requests.release()
        else:
            self._requests.ask(name, commander)

    def stop(self) -> None:
        """Stop, whoever commands; as `release` certain at once. Until a `recover` nothing may start."""
        self._requests.stop()
        self._journal.tell()

    def look(self) -> None:
        """Tell the state of now, too, beside those of the set-points; where nothing tracks, states come by themselves."""
        if self._session is not None:
            try:
                reading = self._driver.read()
            except ArmFault:
                # The motion has ended, which the loop finds out at its next tick; the asker may be holding that back.
                reading = self._reading
            self._tell_state(reading, self._journal.time_ns())

    def submit(
        self, chunk: ActionChunk | None, commander: str, refused: Callable[[str], None] = lambda words: None,
        moves_gripper: bool = True,
    ) -> str | None:  # fmt: skip
        """Hand a chunk (or with None the assertion of the last one) to the next tick.

        Returns why it is refused, or None; what depends on time is judged at the tick and counted, and `refused` hears of it.
        """
        try:
            session = self.require_commander(commander)
        except UserError as error:
            return str(error)
        if chunk is None:
            session.keep()
            return None
        reason = malformation(chunk)
        if reason is not None:
            return self.refuse(reason)
        session.submit(chunk, refused, moves_gripper)
        return None

    def require_commander(self, commander: str) -> TrackingSession:
        """What `commander` moves the arm by. Raises UserError where nothing tracks, or another one commands."""
        session = self._session
        if session is None:
            why = self._journal.why
            raise UserError(f"the arm is {self._journal.mode}{f' ({why})' if why else ''}: start it first")
        if commander != self._journal.commander:
            raise UserError(f"another process commands the arm ({self._journal.commander})")
        return session

    def refuse(self, refusal: Refusal) -> str:
        """Count a command that comes no further; its words."""
        self._statistics.interventions[refusal.limit] += 1
        return refusal.words

    @property
    def setpoint(self) -> SetPoint:
        """The last set-point that went to the arm. Raises UserError where nothing tracks."""
        return self.require_commander(self._journal.commander).setpoint

    def move_gripper(self, opening: float) -> None:
        """Begin to open or to close the hand while nobody tracks. Raises UserError where somebody does, or it cannot."""
        if self._session is not None:
            raise UserError("the arm tracks: who commands it commands the hand, too")
        self._gripper.move_alone(opening)

    def status(self) -> dict:
        """Mode, error, loop statistics, limit interventions, gripper and the log of mode changes; plain types."""
        statistics, session = self._statistics, self._session
        return {
            "mode": self._journal.mode,
            "motion": self._requests.motion,
            "latched": self._requests.latched,
            "last_error": self._journal.error,
            "robot_mode": self._reading.robot_mode,
            "success_rate": self._reading.success_rate,
            "setpoints": statistics.setpoints,
            "chunks": statistics.chunks,
            "late_ticks": statistics.late_ticks,
            "latest_ms": statistics.latest_ns / 1e6,
            "command_age_ms": statistics.command_age_ns / 1e6,
            "oldest_command_ms": statistics.oldest_command_ns / 1e6,
            "interventions": dict(statistics.interventions),
            "last_chunk_ns": session.last_chunk_ns if session else self._last_chunk_ns,
            "gripper": self._gripper.status(),
            "modes": list(self._journal.modes),
        }

    def close(self) -> None:
        """Let `run` bring the arm to rest and return. May be called by a signal handler: takes no lock."""
        self._closing = True
        self._requests.stop_asked = True

    # The thread of control.

    def run(self) -> None:
        """Serve until `close`. Leaves the arm at rest, also when it raises."""
        while not self._closing:
            self._idle()

    def _first_reading(self) -> Reading:
        for _ in range(LOST_AFTER_READS):
            try:
                return self._driver.read()
            except ArmFault as fault:
                silence = fault
        raise UserError(f"the robot at {self._rig.arm.address} is connected but sends no state: {silence}")

    def _idle(self) -> None:
        request = self._requests.next(IDLE_PERIOD_S)
        if request is not None:
            self._carry_out(request)
        try:
            reading = self._driver.read()
            self._set_reading(reading)
            self._unread = 0
            if reading.robot_mode == "Reflex":
                self._journal.fault(ArmFault(f"{reading.errors}: the robot has stopped with this error while nothing moved"))
        except ArmFault as fault:
            # A robot at rest that falls silent for a second is no danger yet; one that stays silent is lost.
            self._unread += 1
            if self._unread == 1:
                logger.warning("no state of the robot: %s", fault)
            if self._unread >= LOST_AFTER_READS:
                self._journal.fault(fault)
            time.sleep(FAULT_PERIOD_S)

    def _carry_out(self, request: Request) -> None:
        """Do what is asked, to its end; the request is answered when it has begun, or cannot begin."""
        try:
            if request.abandoned:
                return
            if request.name == "recover":
                self._driver.recover()
                self._journal.error, self._requests.latched = None, False
                self._journal.enter("idle", "recovered")
            elif self._journal.mode == "fault":
                raise UserError(
                    f"the arm is in fault ({self._journal.error}): look why, then recover it before it may {request.name}: "
                    f"`robosteer arm recover --rig {self._rig.given}`"
                )
            elif request.name == "start":
                self._track(request)
            elif request.name == "home":
                self._go_home(request)
            elif request.name == "guide":
                self._driver.free_for_guiding()
            else:
                raise UserError(f"unknown request {request.name!r}; known are start, release, home, guide, recover")
        except (UserError, ArmFault) as error:
            if request.done.is_set():
                self._journal.fault(error)
            request.error = str(error)
        finally:
            if request.done.is_set() or self._driver.moving:
                request.done.set()
                self._come_to_rest()
            else:
                # Nothing moves: the answer comes last, because who gets it may ask for the next motion at once.
                self._come_to_rest()
                request.done.set()

    def _go_home(self, request: Request) -> None:
        self._requests.begin("home")
        self._driver.begin_home()
        self._journal.enter("idle", "going home")
        request.done.set()

    def _track(self, request: Request) -> None:
        """Begin tracking, answer the request, and send set-points until a stop, a fault or the watchdog."""
        reading = self._driver.read()
        if reading.robot_mode not in ("Idle", "Move"):
            raise UserError(f"the robot is in mode {reading.robot_mode}, not Idle; release it, or recover from its errors")
        limits = Limits(self._rig)
        overload = limits.overload(reading)
        if overload is not None:
            raise UserError(f"the arm may not start: {overload.words}")
        if not limits.inside(reading.end_effector) and not self._rig.limits.off_nothing_protects_the_arm:
            place = ", ".join(f"{value:.3f}" for value in reading.end_effector.position)
            raise UserError(f"the end effector is at ({place}) m, outside the rig's workspace; guide it inside, or go home")
        self._requests.begin("track")
        self._driver.begin_tracking(reading.end_effector)
        try:
            # Only now: to begin, the binding reads a new state of the robot, and none comes while we hold lab time.
            clock = self._open_clock()
        except UserError:
            self._driver.begin_stop()
            raise
        with ExitStack() as ending:
            # From the last to the first: the arm has been told to stop before time may run on without us.
            ending.callback(clock.close)
            ending.callback(self._driver.begin_stop)
            ending.callback(self._gripper.end)
            ending.callback(self._forget_session)
            now_ns, opening = clock.now_ns(), self._gripper.begin()
            self._journal.commander = request.commander
            self._session = TrackingSession(
                self._rig_of(request.commander), self._driver, self._gripper, reading, opening, now_ns, self._statistics
            )
            self._journal.enter("tracking", "started", now_ns)
            self._tell_state(reading, now_ns)
            request.done.set()
            self._send_setpoints(clock, self._session)

    def _send_setpoints(self, clock: Clock, session: TrackingSession) -> None:
        now_ns = clock.now_ns()
        while True:
            due_ns = next_tick_ns(now_ns, self._rig.rates.setpoint_hz)
            now_ns = clock.sleep_until_ns(due_ns)
            if self._requests.stop_asked:
                session.end(ASKED)
            self._reading = reading = session.tick(now_ns, due_ns)
            asked = session.ending == ASKED and session.mode == "stopped"
            mode = "idle" if asked else session.mode
            if mode != self._journal.mode:
                age_ms = (now_ns - session.fresh_ns) / 1e6
                silent = "fresh set-points" if mode == "tracking" else f"no set-point for {age_ms:.0f} ms"
                self._journal.enter(mode, session.ending or silent, now_ns)
            self._tell_state(reading, now_ns)
            if session.mode == "stopped":
                return

    def _forget_session(self) -> None:
        self._last_chunk_ns = self._session.last_chunk_ns if self._session else None
        self._session, self._journal.commander = None, None

    def _come_to_rest(self) -> None:
        """Wait until no motion runs; a stop that is asked for ends the way home, too."""
        try:
            while self._driver.moving:
                if self._requests.stop_asked and self._requests.motion == "home":
                    self._requests.motion = "stop"
                    self._driver.begin_stop()
                with suppress(ArmFault):  # Why a motion ended is told by raise_fault.
                    self._set_reading(self._driver.read())
                time.sleep(REST_PERIOD_S)
            self._driver.raise_fault()
        except ArmFault as fault:
            self._journal.explain_fault(self._named(fault))
        finally:
            self._requests.at_rest()
            self._journal.tell()

    def _named(self, fault: ArmFault) -> ArmFault:
        """libfranka names no error where a reflex ends a motion that was just beginning; the robot's state does."""
        if "aborted by reflex" in str(fault) and not error_names(str(fault)):  # of a robot that is lost a state would be waited for
            with suppress(ArmFault):
                errors = self._driver.read().errors
                return ArmFault(f"{errors}: {fault}") if errors else fault
        return fault

    def _set_reading(self, reading: Reading) -> None:
        self._reading = reading
        if self._journal.since_state_s >= REST_STATE_PERIOD_S:
            self._tell_state(reading, self._journal.time_ns())

    def _tell_state(self, reading: Reading, stamp_ns: int) -> None:
        session = self._session
        commanded = session.commanded if session else reading.end_effector
        self._journal.tell_state(reading, commanded, self._gripper.opening, stamp_ns)


def next_tick_ns(now_ns: int, hz: float) -> int:
    """The first tick of the periodic grid of `tick_ns` after `now_ns`."""
    return tick_ns(0, last_tick(0, now_ns, hz) + 1, hz)
