"""`robosteer up`: a rig's whole graph from nothing, and down again in order."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robosteer_core.errors import UserError
from robosteer_ros.interrupts import signals_to

if TYPE_CHECKING:
    from rich.table import Table

    from robosteer_ros.bringup import GraphSettings
    from robosteer_ros.node_process import WatchedProcess
    from robosteer_ros.nodes.supervisor import Supervisor

DISCOVERY_S = 0.5
"""The nodes that run are known when nothing new was found for this time."""
BESIDE_S = 1.5
"""The same where there are such nodes, probably: one that is overlooked is started twice."""
COLOURS = {"active": "green", "given up": "red", "silent": "red", "ended": "dim"}


class RunningGraph:
    """A rig's graph while it is up. `lab` are the processes of the simulated lab that were started for it."""

    def __init__(self, supervisor: Supervisor, lab: dict[str, subprocess.Popen]) -> None:
        self.supervisor, self.lab = supervisor, lab

    def check(self) -> None:
        """Raises UserError when the lab it stands on has ended."""
        for name, child in self.lab.items():
            if child.poll() is not None:
                log = self.supervisor.settings.logs / f"{name}.log"
                raise UserError(f"the simulated {name} has ended with exit code {child.returncode}; see {log}")

    def wait(self, timeout_s: float = 300.0) -> None:
        """Until everything is active. Raises UserError naming what is not."""
        deadline_s = time.monotonic() + timeout_s
        while not self.supervisor.is_settled and time.monotonic() < deadline_s:
            self.check()
            time.sleep(0.05)
        if late := [watched for watched in self.supervisor.watched if watched.state != "active"]:
            raise UserError("; ".join(f"{each.process.name} is {each.state}: {each.words}" for each in late))


@contextmanager
def bring_up(
    settings: GraphSettings, say: Callable[[str], None], missing_only: bool = False,
    check: Callable[[set[str]], None] = lambda running: None,
) -> Iterator[RunningGraph]:  # fmt: skip
    """Everything that `settings` ask for, the simulated lab first where its rig has one and it does not run; down in order at
    the end. Nodes are on their way up when this is entered: `wait` waits for them. The context of ROS must be there, without
    its signal handlers, which would end it first.

    With `missing_only` nodes that run already are left to who has started them, and have to be of this rig, else a graph that is up
    is refused; what is started, and that it is being ended, is said. `check` is called with the names of the nodes that run already,
    before anything is started, and may raise. Raises UserError saying what stands in the way.
    """
    from robosteer_core.files import require_writable
    from robosteer_core.rig import load_rig
    from robosteer_core.runtime.lab_processes import lab_processes, lab_runs
    from robosteer_ros import ros
    from robosteer_ros.bringup import processes_of, require_policy_of
    from robosteer_ros.graph.participant import spinning
    from robosteer_ros.nodes.supervisor import Supervisor

    rig = load_rig(settings.rig)
    wanted = processes_of(rig, settings)
    with ExitStack() as stack:
        alone = stack.enter_context(_alone(settings.namespace))
        parts = ("lab", "cameras") if rig.lab is not None and not lab_runs(rig) else ()
        ours = {node for process in wanted for node in process.nodes}
        running = _running(settings, ours if missing_only else set(), DISCOVERY_S if alone and parts else BESIDE_S)
        if not missing_only:
            cure = "end it, or give another namespace and another rig"
            if not alone:
                raise UserError(f"another process has brought up {_graph(settings.namespace)}: {cure}")
            if twice := sorted(running & ours):
                raise UserError(f"in {_graph(settings.namespace)} there is {', '.join(twice)} already: {cure}")
        check(running)
        wanted = [process for process in wanted if not running & set(process.nodes)]
        if wanted or parts:
            require_writable(settings.logs)
        if any(process.name == "policy" for process in wanted):  # one that runs may do so on another machine
            require_policy_of(settings)
        begun = ", ".join([*(["the simulated lab"] if parts else []), *(process.name for process in wanted)]) if missing_only else ""
        if begun:
            say(f"starting {begun}; what they print is in {settings.logs}")
        given = [ros.Parameter(name, value=str(value)) for name, value in settings.model_dump(exclude={"namespace"}).items()]
        name = "supervisor" if alone else f"supervisor_{os.getpid()}"
        supervisor = Supervisor(wanted, name, namespace=settings.namespace or None, parameter_overrides=given)
        stack.enter_context(spinning(supervisor))
        stack.callback(supervisor.finish)
        supervisor.begin()  # they import while the lab starts
        lab = stack.enter_context(lab_processes(settings.rig, rig, settings.logs, parts))
        stack.callback(supervisor.finish)  # once more: before the lab ends
        for part, (_, line) in lab.items():
            say(f"{part}: {line}")
        supervisor.open()
        if begun:
            stack.callback(say, f"ending {begun}")
        yield RunningGraph(supervisor, {part: child for part, (child, _) in lab.items()})


def _running(settings: GraphSettings, ours: set[str], quiet_s: float) -> set[str]:
    """Names of the nodes that are in the namespace already. Raises UserError where one of `ours` is there for another rig."""
    from robosteer_ros import ros
    from robosteer_ros.graph.participant import require_rig, spinning
    from robosteer_ros.graph_commands import await_graph

    watcher = ros.create_node(f"_robosteer_{os.getpid()}", namespace=settings.namespace or None, start_parameter_services=False)
    with spinning(watcher):
        await_graph(watcher, quiet_s)
        running = {name for name, where in watcher.get_node_names_and_namespaces() if where == watcher.get_namespace()}
        require_rig(watcher, settings.rig, *sorted(running & ours))
    return running


@contextmanager
def _alone(namespace: str) -> Iterator[bool]:
    """Whether no other process of this machine brings up the same graph, until the end of this."""
    with socket.socket(socket.AF_UNIX) as keeper:
        try:
            keeper.bind(f"\0robosteer: {_graph(namespace)}")  # a name that Linux forgets with the process
        except OSError:
            yield False
        else:
            yield True


def _graph(namespace: str) -> str:
    return f"the graph of domain {os.environ.get('ROS_DOMAIN_ID') or 0}, namespace /{namespace.strip('/')}"


def up(
    rig: Annotated[str, typer.Argument(help="name of a rig in launch/, or a YAML file")] = "lab",
    policy: Annotated[str, typer.Option(help="policy of the node `policy`; without one this node is left out")] = "",
    adapter: Annotated[str, typer.Option(help="adapter of the policy")] = "",
    device: Annotated[str, typer.Option(help="where a policy from a checkpoint folder runs: cpu, cuda, cuda:1")] = "cpu",
    only: Annotated[str, typer.Option(help="these nodes instead of the rig's, of cameras,arm,teleop,recorder,policy")] = "",
    namespace: Annotated[str, typer.Option(help="namespace of all nodes")] = "",
    params_file: Annotated[str, typer.Option("--params-file", help="parameters of the nodes, a YAML file of ROS 2")] = "",
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warn, error or fatal")] = "info",
    logs: Annotated[Path, typer.Option(help="folder of what the processes print")] = Path("runs/graph"),
    check: Annotated[bool, typer.Option("--check", help="only refuse what cannot be started; start nothing")] = False,
) -> None:  # fmt: skip
    """Start all nodes of a rig, in the lab with the lab; Ctrl-C stops the arm and brings everything down in order."""
    from rich.console import Console
    from rich.live import Live

    from robosteer_core.errors import settings
    from robosteer_core.rig import load_rig
    from robosteer_ros import ros
    from robosteer_ros.bringup import GraphSettings, processes_of, require_policy_of

    began_s, console, graph, asked = time.monotonic(), Console(), None, False
    say = partial(console.print, soft_wrap=True, highlight=False)

    def interrupt(*_: object) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise KeyboardInterrupt
        if graph:
            graph.supervisor.hurry()

    given = settings(
        GraphSettings, rig=rig, policy=policy, adapter=adapter, device=device, only=only, namespace=namespace, params_file=params_file,
        log_level=log_level, logs=logs,
    )  # fmt: skip
    if check:
        processes_of(load_rig(rig), given)
        if policy:
            require_policy_of(given)
        return
    # In a terminal the table tells what the supervisor logs.
    level = "fatal" if console.is_terminal else "info"
    network = load_rig(rig).network
    ros.init(args=["--ros-args", "--log-level", level], signal_handler_options=ros.SignalHandlerOptions.NO, network=network)
    try:
        say(f"starting the graph of rig {rig}; what its processes print is in {logs}")
        with signals_to(interrupt), console.status("coming up") as coming_up, bring_up(given, say) as graph:
            coming_up.stop()  # the table goes on
            supervisor, told = graph.supervisor, False
            try:
                with Live(console=console, auto_refresh=False) as live:
                    while not supervisor.asked_to_end.wait(0.2):
                        graph.check()
                        if console.is_terminal:
                            live.update(table(supervisor.watched), refresh=True)
                        if supervisor.is_settled and not told:
                            told = True
                            without = ", ".join(each.process.name for each in supervisor.given_up)
                            how = f"up without {without}" if without else "up"
                            say(f"{how} after {time.monotonic() - began_s:.1f} s; Ctrl-C stops the arm and brings all down")
            except KeyboardInterrupt:
                pass
            say("going down; Ctrl-C once more ends everything at once")
            given_up = supervisor.given_up
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        ros.try_shutdown()
    if given_up:
        raise UserError("; ".join(f"{each.process.name} was given up {each.words}" for each in given_up))


def table(watched: Sequence[WatchedProcess]) -> Table:
    """What is up, for a terminal."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table("process", "state", "for", "restarts", "why")
    for each in watched:
        colour = COLOURS.get(each.state, "yellow")
        since = f"{time.monotonic() - each.since_s:.0f} s"
        shown.add_row(each.process.name, f"[{colour}]{each.state}[/]", since, str(each.restarts), escape(each.words))
    return shown
