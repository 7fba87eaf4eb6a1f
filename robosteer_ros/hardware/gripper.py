"""The Franka Hand, in threads of its own: its calls block for as long as the fingers move."""

from __future__ import annotations

import builtins
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack

from robosteer_core import rig
from robosteer_core.errors import UserError
from robosteer_core.runtime.clock import Clock
from robosteer_core.runtime.gripper_switch import RATE_HZ, GripperSwitch
from robosteer_core.runtime.runner import tick_ns
from robosteer_ros.hardware.arm.bindings import Hand, open_hand

logger = logging.getLogger(__name__)

#: The slowest way of the fingers takes less; who does not answer by then is lost.
CLOSE_TIMEOUT_S = 5.0


class GripperDriver:
    """Opens and grasps; knows the latest width. `begin` and `end` bracket the time in which commands may come.

    In between a thread reads the width and looks at the wanted opening `RATE_HZ` times per second of the rig's clock;
    what it decides, another thread carries out, telling the clock that it waits for the gripper. Both join the clock
    through `open_clock`. A missing or failing hand does not stop the arm: `status` tells. A hand whose connection is lost
    is left alone until the next `begin`: libfranka waits a second for every state of it, and a minute for every answer.
    """

    def __init__(self, arm: rig.Arm, config: rig.Gripper, open_clock: Callable[[], Clock]) -> None:
        self._arm, self._config, self._open_clock = arm, config, open_clock
        self._gripper: Hand | None = None
        self._width_m = 0.0
        self._grasped = False
        self._wanted: float | None = None
        self._end = threading.Event()
        self._end.set()
        self._busy = threading.Event()
        self._command: threading.Thread | None = None
        self.commands = 0
        self.error: str | None = None
        self._connect()

    @property
    def opening(self) -> float:
        """The latest width as a share of the widest, in [0, 1]; 1 is open."""
        return min(max(self._width_m / self._config.max_width_m, 0.0), 1.0)

    def status(self) -> dict:
        """Width [m], whether something is held, commands given, whether one is running, and the last one's failure."""
        return {
            "width_m": self._width_m, "grasped": self._grasped, "commands": self.commands, "busy": self._busy.is_set(),
            "error": self.error,
        }  # fmt: skip

    def command(self, opening: float) -> None:
        """The opening wanted from now on, in [0, 1]. Never waits; the next look of the thread acts on it."""
        self._wanted = opening

    def begin(self) -> float:
        """Start watching; returns the measured opening in [0, 1]."""
        # What was between sessions is nobody's failure: the hand may have been opened by others.
        self.error, self._grasped = None, False
        if self._gripper is None or not self._read():
            self._connect()
        self._wanted = None
        if self._gripper is not None:
            self._clock = self._open_clock()
            self._end = threading.Event()
            arguments = (self._clock, self._end, GripperSwitch.at(self.opening))
            threading.Thread(target=self._watch, args=arguments, name="gripper", daemon=True).start()
        return self.opening

    def move_alone(self, opening: float) -> None:
        """Open or grasp between sessions, as `opening` above or below the middle asks for. Returns when it has begun; raises
        UserError where there is no hand, or it is busy."""
        if self._busy.is_set():
            raise UserError("the hand is moving already")
        if self._gripper is None:
            self._connect()
        if self._gripper is None:
            raise UserError(self.error)
        self._carry_out(opening > 0.5)

    def end(self) -> None:
        """Stop watching. Fingers that are moving finish their way: a grasped object is not let go."""
        if not self._end.is_set():
            self._end.set()
            self._clock.close()

    def close(self) -> None:
        """Let a running command end: a thread inside the library while the interpreter ends would abort the process."""
        self.end()
        if self._command is not None:
            self._command.join(CLOSE_TIMEOUT_S)

    def _connect(self) -> None:
        self._gripper, self.error = None, None
        # A command that still waits for the answer of a lost hand keeps its own.
        self._busy, self._grasped = threading.Event(), False
        try:
            gripper = open_hand(self._arm)
            self._width_m = float(gripper.state.width)
            self._gripper = gripper
        except builtins.Exception as error:
            self._fail(f"no gripper at {self._arm.address}: {error}")

    def _watch(self, clock: Clock, end: threading.Event, switch: GripperSwitch) -> None:
        try:
            tick, start_ns = 0, clock.now_ns()
            while not end.is_set():
                tick += 1
                clock.sleep_until_ns(tick_ns(start_ns, tick, RATE_HZ))
                if end.is_set() or not self._read():
                    return
                wanted = self._wanted
                if wanted is None or self._busy.is_set():
                    continue
                change = switch.decide(wanted)
                if change is not None:
                    self._carry_out(change)
        except UserError as error:
            # Closing the clock is how `end` wakes this thread; anything else is the clock's failure.
            if not end.is_set():
                self._fail(f"gripper thread ended: {error}")
        finally:
            clock.close()

    def _carry_out(self, open_it: bool) -> None:
        """Begin to open or to grasp, in a thread of its own, so that the width stays fresh meanwhile."""
        self.commands += 1
        with ExitStack() as stack:
            clock = self._open_clock()
            stack.callback(clock.close)
            # Entered before this thread lets the lab go on: the lab then waits for the command at this very instant.
            stack.enter_context(clock.external("gripper"))
            running = stack.pop_all()
        gripper, busy = self._gripper, self._busy
        self._grasped = False
        busy.set()

        def block() -> None:
            with running:
                failure = self._move(gripper, open_it)
                busy.clear()
                if gripper is self._gripper:
                    self.error = None
                    if self._end.is_set():  # between sessions nobody else looks at the width
                        self._read()
                    if failure is not None:
                        self._fail(failure)

        self._command = threading.Thread(target=block, name="gripper command", daemon=True)
        self._command.start()

    def _move(self, gripper: Hand, open_it: bool) -> str | None:
        """Do it; returns why it has failed, or None."""
        config = self._config
        what = "open" if open_it else "grasp"
        try:
            if open_it:
                done = gripper.move(config.max_width_m, config.speed_m_per_s)
            else:
                # Any width counts as grasped: what lies between the fingers, or nothing, is for the policy to see.
                tolerance_m = config.max_width_m
                done = gripper.grasp(0.0, config.speed_m_per_s, config.force_n, tolerance_m, tolerance_m)
        except builtins.Exception as error:
            return f"gripper did not {what}: {error}"
        if done:
            return None
        return f"gripper did not {what}: the hand reports failure at a width of {self._width_m:.3f} m; are its fingers free?"

    def _read(self) -> bool:
        try:
            state = self._gripper.state
        except builtins.Exception as error:
            self._gripper = None
            self._fail(f"the gripper at {self._arm.address} is lost: {error}; the next start of the arm connects to it anew")
            return False
        self._width_m = float(state.width)
        held, self._grasped = self._grasped, bool(state.is_grasped)
        if held and not self._grasped and not self._busy.is_set():
            self._fail("the gripper has lost what it held")
        return True

    def _fail(self, message: str) -> None:
        self.error = message
        logger.error("%s", message)
