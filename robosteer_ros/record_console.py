"""`robosteer record`: the operator's console of the recorder, and the nodes that it needs."""

from __future__ import annotations

import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import typer
from rich.console import Console as Terminal
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from robosteer_core.camera_calibration import rig_calibrations
from robosteer_core.episodes.writer import require_recordable
from robosteer_core.errors import UserError, settings
from robosteer_core.files import require_writable
from robosteer_core.rig import Rig, load_rig
from robosteer_ros import ros
from robosteer_ros.bringup import GraphSettings
from robosteer_ros.graph.messages import Stamps
from robosteer_ros.graph.participant import call, parameters, require_rig, spinning, trigger
from robosteer_ros.graph.qos import EVERY_LATCHED
from robosteer_ros.hardware.teleop.devices import open_device, require_device
from robosteer_ros.hardware.teleop.keys import Keys
from robosteer_ros.interrupts import SIGNALS, signals_to
from robosteer_ros.nodes.rig_node import THREADS
from robosteer_ros.ros import Parameter, diagnostic_msgs, rcl_interfaces, std_srvs
from robosteer_ros.steering import RecordingStatus
from robosteer_ros.up import RunningGraph, bring_up

SERVICE_TIMEOUT_S, FINISH_TIMEOUT_S = 150.0, 10.0
DISCOVERY_TIMEOUT_S = 10.0
#: A recorder that has opened the session tells of it within this time.
HEARD_WITHIN_S = 30.0
POLL_S = 0.1
KEYS = {"s": "start", "k": "keep", "d": "discard", "v": "review", "f": "finish"}
HELP = "keys: s start, k keep, d discard and do again, v video of the last episode, f finish; or the device's buttons"


class Console:
    """What one sees of a recorder on the graph, and what one may ask of it. Another thread spins `node`, which is the owner of the
    session that is opened here: its name is nobody else's, before or after."""

    def __init__(self, node: ros.Node, rig: Rig) -> None:
        self._stamps, self._name = Stamps(rig), node.get_fully_qualified_name()
        self._statuses: queue.SimpleQueue[RecordingStatus] = queue.SimpleQueue()
        self._heard = node.create_subscription(diagnostic_msgs.msg.DiagnosticArray, "recorder/status", self._hear, EVERY_LATCHED)
        self._services = {name: node.create_client(std_srvs.srv.Trigger, f"recorder/{name}") for name in KEYS.values()}
        self._parameters = node.create_client(rcl_interfaces.srv.SetParametersAtomically, "recorder/set_parameters_atomically")

    def _hear(self, message: diagnostic_msgs.msg.DiagnosticArray) -> None:
        self._statuses.put(RecordingStatus.of(message, self._stamps))

    def open(self, **session: str | int) -> None:
        """Set the recorder's session. Raises UserError in its words."""
        for client in (self._parameters, *self._services.values()):
            if not client.wait_for_service(DISCOVERY_TIMEOUT_S):
                raise UserError(f"no recorder answers at {client.service_name}; see its log, or `robosteer node list`")
        given = [Parameter(name, value=value).to_parameter_msg() for name, value in (session | {"owner": self._name}).items()]
        response = call(self._parameters, rcl_interfaces.srv.SetParametersAtomically.Request(parameters=given), SERVICE_TIMEOUT_S)
        if not response.result.successful:
            raise UserError(response.result.reason)

    def ask(self, name: str, timeout_s: float = SERVICE_TIMEOUT_S) -> str:
        """start, keep, discard, review or finish; what the recorder says to it. Raises UserError in its words."""
        return trigger(self._services[name], timeout_s)

    def watch(
        self, say: Callable[[str], None], keys: Keys, check: Callable[[], None], enter: Callable[[str], None] = lambda stage: None
    ) -> RecordingStatus:
        """Until the session that was opened is over; what it came to. `check` is called all the time and may raise, `enter` with each
        new stage. Raises UserError where the recorder loses the session."""
        shown: RecordingStatus | None = None
        deadline_s = time.monotonic() + HEARD_WITHIN_S
        while True:
            check()
            for key in keys.read():
                if key in KEYS:
                    try:
                        said = self.ask(KEYS[key])
                        if key == "v":
                            say(f"the last episode: {said}")
                    except UserError as error:
                        say(str(error))
            try:
                status = self._statuses.get(timeout=POLL_S)
            except queue.Empty:
                if shown is None and time.monotonic() > deadline_s:
                    raise UserError(f"the recorder has told nothing of this session for {HEARD_WITHIN_S:.0f} s; look at its log") from None
                if shown is not None and self._heard.get_publisher_count() == 0:
                    raise UserError(_lost(shown, "has gone")) from None
                continue
            if status.owner != self._name or status.stage == "idle":
                if shown is None:  # of before this session
                    continue
                other = f"records for {status.owner or 'another'}"
                raise UserError(_lost(shown, "was started anew, or deactivated" if status.stage == "idle" else other))
            if shown is None or _said(status) != _said(shown):
                say(_said(status))
            if shown is None or status.stage != shown.stage:
                enter(status.stage)
            shown = status
            if status.stage == "finished":
                return status


def _lost(last: RecordingStatus, why: str) -> str:
    """What is to be said of a session that ended without anybody's asking, and was as `last` tells."""
    running = ", the one that ran is not among them" if last.stage in ("recording", "saving") else ""
    rest = f" with --episodes {last.wanted - last.kept}" if last.wanted else ""
    kept = f"{last.kept} episodes were kept and are whole in {last.dataset}{running}"
    return f"the session is lost: the recorder {why}, see its log. {kept}; the same command{rest} goes on"


def _said(status: RecordingStatus) -> str:
    """One line for the operator; another one only where there is something new to do."""
    why = f" ({status.problem})" if status.problem else ""
    count = f"{status.kept} of {status.wanted}" if status.wanted else f"{status.kept}"
    if status.stage == "ready":
        discarded = f", {status.discarded} discarded" if status.discarded else ""
        return f"{count} episodes kept{discarded}{why}: start the next one: {status.task}"
    if status.stage == "recording":
        return f"recording episode {status.kept + 1}{f' of {status.wanted}' if status.wanted else ''}: {status.task}"
    return f"{status.stage}{why}"


def record(
    rig_name: str, task: str, episodes: int, dataset: Path, calibrations: Path, device: str, namespace: str, logs: Path
) -> RecordingStatus:
    """Record until `episodes` are kept or the operator finishes; what it came to. Ctrl-C finishes, too, and is raised.

    Nodes that do not run yet are started, and ended after it. That of the device is in this process, which has the terminal; `device`
    "" is that of a node that runs already, else `remote`. What cannot be used is refused before anything is started.
    """
    rig = load_rig(rig_name)
    if not task.strip():
        raise UserError(f"--task: expected the instruction in words, found {task!r}")
    if device:
        require_device(device)
    require_recordable(dataset, rig)
    rig_calibrations(rig, calibrations)
    given = settings(GraphSettings, rig=rig_name, only="cameras,arm,recorder", namespace=namespace, logs=logs)
    terminal = Terminal(stderr=True, soft_wrap=True, highlight=False)
    with ExitStack() as ending:
        ros.init(args=["--ros-args", "--log-level", "warn"], signal_handler_options=ros.SignalHandlerOptions.NO, network=rig.network)
        ending.callback(ros.try_shutdown)
        ending.enter_context(signals_to(_interrupt))
        name = f"robosteer_record_{uuid4().hex[:8]}"
        node = ros.create_node(name, namespace=namespace or None, start_parameter_services=False)
        ending.enter_context(spinning(node))
        # Of the operator's device: found out before anything is started, used when all is there.
        found = ""

        def check(running: set[str]) -> None:
            nonlocal found
            if "teleop" in running:
                found = _running_device(node, rig_name, device)
            else:
                open_device(device or "remote", rig).close()
            if "recorder" not in running:  # one that runs may do so on another machine
                require_writable(dataset)

        going_down = terminal.status("going down")
        ending.callback(going_down.stop)
        with terminal.status("coming up"):
            graph = ending.enter_context(bring_up(given, partial(terminal.print, markup=False), missing_only=True, check=check))
            ending.callback(going_down.start)
            graph.wait()
        console = Console(node, rig)
        # Before the device is heard: a dataset that does not fit is said first.
        console.open(task=task, dataset=str(dataset.absolute()), episodes=episodes, calibrations=str(calibrations.absolute()))
        own = "" if found else device or "remote"
        if own:
            _start_teleop(ending, rig_name, own, namespace)
        keys = ending.enter_context(Keys(own != "keyboard"))
        if keys.listening:
            typer.echo(HELP)
        at = f" at {rig.teleop_address}" if "remote" in (own, found) else ""
        typer.echo(f"ready for the operator's device: {own or found}{at}{', of the node teleop that runs already' if found else ''}")
        try:
            with _elapsed(terminal) as enter:  # which typer.echo would write into, and print goes above
                return console.watch(partial(print, flush=True), keys, lambda: _check(graph), enter)
        except KeyboardInterrupt:
            try:
                typer.echo(console.ask("finish", FINISH_TIMEOUT_S))
            except UserError as error:  # the end goes on without it
                typer.echo(str(error), err=True)
            raise


@contextmanager
def _elapsed(terminal: Terminal) -> Iterator[Callable[[str], None]]:
    """A function to tell each new stage: how long an episode is being recorded or saved is a line of its own, where one looks on."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    hidden, redirected = not terminal.is_terminal, sys.stdout.isatty()
    with Progress(*columns, console=terminal, transient=True, disable=hidden, redirect_stdout=redirected) as progress:
        line = progress.add_task("", total=None, visible=False)
        yield lambda stage: progress.reset(line, description=stage, visible=stage in ("recording", "saving"))


def _running_device(node: ros.Node, rig_name: str, wanted: str) -> str:
    """The device of the node `teleop` that runs already. Raises UserError where it is another one than `wanted`, or of another rig."""
    require_rig(node, rig_name, "teleop")
    (found,) = parameters(node, "teleop", "device")
    if wanted not in ("", found):
        raise UserError(
            f"the node teleop runs already, with the device {found!r} and not {wanted!r}: leave out --device, or leave the device to "
            "this command by `robosteer up RIG --only cameras,arm,recorder`"
        )
    return found


def _start_teleop(ending: ExitStack, rig_name: str, device: str, namespace: str) -> None:
    from robosteer_ros.nodes.teleop import TeleopNode

    given = [Parameter(name, value=value) for name, value in {"rig": rig_name, "device": device}.items()]
    teleop = TeleopNode(namespace=namespace or None, parameter_overrides=given)
    ending.enter_context(spinning(teleop, ros.MultiThreadedExecutor(num_threads=THREADS)))
    ending.callback(teleop.close)
    if not teleop.start():
        raise UserError(teleop.refusal)
    if device == "keyboard":
        from robosteer_ros.hardware.teleop.keyboard import HELP as MOTION_KEYS

        typer.echo(MOTION_KEYS)


def _check(graph: RunningGraph) -> None:
    """Raises UserError when something that was started here is beyond help."""
    graph.check()
    if lost := graph.supervisor.given_up:
        raise UserError("; ".join(f"{each.process.name} was given up {each.words}" for each in lost))


def _interrupt(*_: object) -> None:
    """Who asks twice must not keep the arm from being brought to rest."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
