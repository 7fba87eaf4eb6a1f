"""A process of the graph and the nodes in it: started, configured, activated, watched, and started again when it falls."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from robosteer_core.runtime.lab_processes import end, start
from robosteer_ros.ros import Future, lifecycle_msgs

START_TIMEOUT_S = 120.0
"""A node is on the graph after this time, or its process is ended and started again."""
SILENT_S = 20.0
"""A node that works answers within this time, or its process is ended and started again."""
TRIES, PROVEN_S = 5, 60.0
"""So many falls in a row are too many; who has been active for the second counts as well again."""
LONGEST_PAUSE_S = 8.0
ANSWER_S = 0.5
LOOK_S, POLL_S = 1.0, 0.05
END_TRANSITION_S = 5.0

_State, _Transition = lifecycle_msgs.msg.State, lifecycle_msgs.msg.Transition
UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = (
    _State.PRIMARY_STATE_UNCONFIGURED, _State.PRIMARY_STATE_INACTIVE, _State.PRIMARY_STATE_ACTIVE, _State.PRIMARY_STATE_FINALIZED,
)  # fmt: skip
_PRIMARY = (UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED)
#: Transition and the states in which there is nothing left of it to do.
_STEPS = {
    "configure": (_Transition.TRANSITION_CONFIGURE, (INACTIVE, ACTIVE)),
    "activate": (_Transition.TRANSITION_ACTIVATE, (ACTIVE,)),
    "deactivate": (_Transition.TRANSITION_DEACTIVATE, (UNCONFIGURED, INACTIVE, FINALIZED)),
}
_AT_WORK = {"configure": "configuring", "activate": "activating", "deactivate": "deactivating"}


@dataclass(frozen=True)
class NodeProcess:
    """What is started: `nodes` are the lifecycle nodes in it, in the order in which they are configured and activated.

    What is in a later `stage` is activated when all of the earlier ones are active, or one of their nodes has refused. Nodes
    that need nothing of the robot to be configured are configured `early`, while the lab starts.
    """

    name: str
    command: tuple[str, ...]
    nodes: tuple[str, ...]
    stage: int = 0
    early: bool = False


class Graph(Protocol):
    """What a watched process asks of the node that watches it; from any thread."""

    def is_there(self, node: str) -> bool:
        """Whether a request reaches the node; before it is on the graph they are lost."""

    def get_state(self, node: str) -> Future: ...

    def change_state(self, node: str, transition: int) -> Future: ...

    def last_error(self, node: str, since_ns: int) -> str:
        """What the node said last, since a system time, as an error; "" for nothing."""


class _Fell(Exception):
    """The process has ended, or has to be."""


class _Refused(Exception):
    """A node refused a transition."""


class _Ends(Exception):
    """The graph is being brought down."""


class WatchedProcess:
    """The life of one NodeProcess, in a thread of its own, until `end`.

    With `logs` None others own the process (a launch file): its nodes alone are brought up, again whenever they have come
    back. `state` is one of waiting, starting, configuring, activating, active, inactive (by somebody's hand), silent, paused
    (before the next try), given up, deactivating, ended; `words` say why it is not active.

    Args:
        gate: opens when the robot is there: nodes may be activated, and configured where that is not done early.
        before: what has to be active, or have been tried, before the nodes are activated.
        changed: called with every change of what is told here, from the thread.
    """

    def __init__(
        self, process: NodeProcess, graph: Graph, gate: threading.Event, before: list[WatchedProcess], logs: Path | None,
        changed: Callable[[WatchedProcess], None],
    ) -> None:  # fmt: skip
        self.process = process
        self.state, self.words = "waiting", ""
        self.starts, self.falls = 0, 0
        self.since_s = time.monotonic()
        self.tried, self.at_rest = threading.Event(), threading.Event()
        self._graph, self._gate, self._before, self._changed = graph, gate, before, changed
        self._logs = logs
        self._ending, self._hurry = threading.Event(), threading.Event()
        self._child: subprocess.Popen | None = None
        self._began_ns = time.time_ns()
        self._thread: threading.Thread | None = None

    @property
    def restarts(self) -> int:
        """How often the process was started again, or its nodes brought up again where others own it."""
        return max(0, self.starts - 1)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def begin(self) -> None:
        """Start the process, and bring its nodes up once the gate is open. Again after it has been given up."""
        if self._thread is None or not self._thread.is_alive():
            self.falls = 0
            self.at_rest.clear()
            # Linux ends the process together with the thread that has started it, whatever ends that.
            self._thread = threading.Thread(target=self._live, name=self.process.name, daemon=True)
            self._thread.start()

    @property
    def begun(self) -> bool:
        return self._thread is not None

    def end(self, hurry: bool = False) -> None:
        """Deactivate the nodes and end the process; in a hurry without the first. Does not wait: `at_rest` is set after the first,
        and `join` waits for both."""
        self._ending.set()
        if hurry:
            self._hurry.set()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _live(self) -> None:
        try:
            while True:
                try:
                    self._start()
                    self._bring_up()
                    self._watch()
                except (_Refused, _Fell) as fall:
                    if isinstance(fall, _Fell):
                        self._end_process()
                    self.falls += 1
                    if self.falls == TRIES:
                        self._end_process()
                        self._tell("given up", f"after {TRIES} tries: {fall}")
                        self.tried.set()
                        return
                    self._pause(str(fall))
        except _Ends:
            self._deactivate()
        finally:
            self.at_rest.set()
            self._end_process()
            if self.state != "given up":
                self._tell("ended")

    def _tell(self, state: str, words: str = "") -> None:
        if (state, words) != (self.state, self.words):
            self.state, self.words, self.since_s = state, words, time.monotonic()
            self._changed(self)

    def _start(self) -> None:
        self._check_ending()
        if self._logs is not None and self._child is None:
            self._began_ns = time.time_ns()
            self._child = start(self.process.name, self.process.command, self._logs, "a" if self.starts else "w")
            self.starts += 1
        self._tell("starting")

    def _pause(self, words: str) -> None:
        """Before the next try, longer each time; the first one follows at once."""
        self._tell("paused", words)
        self.tried.set()  # what comes later need not wait for the next tries as well
        if self.falls > 1 and self._ending.wait(min(LONGEST_PAUSE_S, 0.5 * 2 ** (self.falls - 1))):
            raise _Ends

    def _bring_up(self) -> None:
        if not self.process.early:
            self._wait(self._gate)
        for node in self.process.nodes:
            self._go(node, "configure")
        self._wait(self._gate)
        for other in self._before:
            self._wait(other.tried)
        for node in self.process.nodes:
            self._go(node, "activate")
        if self._logs is None:
            self.starts += 1
        self._tell("active")
        self.tried.set()

    def _watch(self) -> None:
        """Until something has to be done; the nodes are active."""
        active_s = answered_s = time.monotonic()
        while True:
            self._rest(LOOK_S)
            states = [self._state_of(node) for node in self.process.nodes]
            now_s = time.monotonic()
            if None not in states:
                answered_s = now_s
            if UNCONFIGURED in states or FINALIZED in states:
                raise (_Fell if FINALIZED in states else _Refused)(self._said("no longer configured", self._began_ns))
            if now_s - answered_s > SILENT_S and self._logs is not None:
                raise _Fell(f"no answer for {SILENT_S:g} s")
            if None in states:
                self._tell("silent", "no answer") if now_s - answered_s > 2 * LOOK_S else None
            else:
                self._tell("active" if all(state == ACTIVE for state in states) else "inactive")
            if now_s - active_s > PROVEN_S:
                self.falls = 0

    def _go(self, node: str, step: str, deadline_s: float = float("inf")) -> None:
        """Through a transition. A request may be lost: one to a process that is gone is taken for one to its successor until
        DDS has noticed. Raises _Refused in the node's words."""
        transition, done = _STEPS[step]
        last_s = time.monotonic()
        while (state := self._state_of(node)) not in done:
            now_s = time.monotonic()
            if now_s > deadline_s:
                return
            if state == FINALIZED:
                raise _Fell("finalized")
            if state not in _PRIMARY:  # None, or on its way
                if state is not None:
                    last_s = now_s
                elif now_s - last_s > START_TIMEOUT_S and self._logs is not None:
                    raise _Fell(f"not on the graph after {START_TIMEOUT_S:g} s")
                self._rest(POLL_S)
                continue
            self._tell(_AT_WORK[step])
            last_s, began_ns = now_s, time.time_ns()
            answer = self._graph.change_state(node, transition)
            # While the node is at work it does not answer, or says that it is; who answers as before has not got the request.
            while not self._answered(answer, LOOK_S) and time.monotonic() < deadline_s and self._state_of(node) != state:
                pass
            if answer.done() and not answer.result().success and self._state_of(node) not in done:
                raise _Refused(self._said(f"{step} refused", began_ns))

    def _state_of(self, node: str) -> int | None:
        patience_s = ANSWER_S if self._graph.is_there(node) else POLL_S
        answer = self._graph.get_state(node)
        if self._answered(answer, patience_s):
            return answer.result().current_state.id
        answer.cancel()
        return None

    def _answered(self, future: Future, timeout_s: float) -> bool:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        return self._wait(done, timeout_s)

    def _rest(self, seconds: float) -> None:
        self._wait(threading.Event(), seconds)

    def _wait(self, event: threading.Event, timeout_s: float = float("inf")) -> bool:
        """Whether `event` comes in time. Raises _Ends or _Fell when one of those comes first."""
        deadline_s = time.monotonic() + timeout_s
        while not event.wait(min(POLL_S, max(0.0, deadline_s - time.monotonic()))):
            self._check_ending()
            if self._child is not None and (code := self._child.poll()) is not None:
                raise _Fell(f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}: {self._last_line()}")
            if time.monotonic() >= deadline_s:
                return False
        return True

    def _check_ending(self) -> None:
        if self._ending.is_set() and self.state != "deactivating" or self._hurry.is_set():
            raise _Ends

    def _said(self, what: str, since_ns: int) -> str:
        """`what` happened, with the last error of a node behind it."""
        errors = (self._graph.last_error(node, since_ns) for node in self.process.nodes)
        return ": ".join((what, *filter(None, errors)))

    def _last_line(self) -> str:
        lines = (self._logs / f"{self.process.name}.log").read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no output")

    def _deactivate(self) -> None:
        if self._hurry.is_set() or self.state not in ("active", "silent"):
            return
        self._tell("deactivating")
        try:
            for node in reversed(self.process.nodes):
                self._go(node, "deactivate", time.monotonic() + END_TRANSITION_S)
        except (_Fell, _Refused, _Ends):
            pass

    def _end_process(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            end(child)
