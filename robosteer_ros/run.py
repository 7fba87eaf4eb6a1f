"""`robosteer run`: a policy moves the arm through the nodes of a rig; its loop is shown while it does. Light: ROS is imported
when the command runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from robosteer_core.errors import UserError
from robosteer_core.runtime.json_lines import Refused
from robosteer_ros.interrupts import signals_to

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from robosteer_core.runtime.lab_link import LabLink
    from robosteer_ros.graph.policy_console import PolicyConsole
    from robosteer_ros.logs.run_log import RunLog

#: Wall seconds between two lines where there is no terminal.
LINE_PERIOD_S = 2.0


def run(
    rig: Annotated[str, typer.Option(help="rig: a YAML file, or the name of one in launch/")] = "lab",
    policy: Annotated[str, typer.Option(help="checkpoint folder, ws://host:port, or `scripted` in the lab; without it the one that the node has")] = "",
    adapter: Annotated[str, typer.Option(help="adapter of the policy")] = "",
    device: Annotated[str, typer.Option(help="where a checkpoint folder runs: cpu, cuda, cuda:1; without it as the node has it, at first cpu")] = "",
    instruction: Annotated[str, typer.Option(help="what to do, in words; in the lab by default the task")] = "",
    seconds: Annotated[float, typer.Option(min=0, help="of the rig's clock; 0: until Ctrl-C")] = 0.0,
    executed: Annotated[int, typer.Option(min=0, help="actions of a chunk before the policy is asked again; 0: as it says itself")] = 0,
    task: Annotated[str, typer.Option(help="in the lab: put up the scene of this task first, and end when it is done")] = "",
    seed: Annotated[int, typer.Option(min=0, help="of the policy's noise, and in the lab of the scene")] = 0,
    variation: Annotated[str, typer.Option(help="in the lab: axes along which the scene differs, joined by +")] = "none",
    namespace: Annotated[str, typer.Option(help="namespace of the nodes")] = "",
    log: Annotated[bool, typer.Option(help="log what is on the graph, as MCAP; two cameras of 640x480 fill some GB an hour")] = True,
    out: Annotated[Path, typer.Option(help="where each run gets a folder of its own: MCAP log and summary.json")] = Path("runs/policy"),
    logs: Annotated[Path, typer.Option(help="folder of what the nodes print that are started here")] = Path("runs/graph"),
) -> None:  # fmt: skip
    """Let a policy move the arm; Ctrl-C holds the arm, then stops it. Nodes that do not run yet are started, and ended after it.

    Exit code 0: its time was over, or the task was done; 1: the task was not done; 2: something went wrong; 130: Ctrl-C.
    """
    from rich.console import Console

    from robosteer_core.errors import settings
    from robosteer_core.files import require_writable
    from robosteer_core.rig import load_rig
    from robosteer_core.runtime.lab_link import LabLink
    from robosteer_ros import ros
    from robosteer_ros.bringup import GraphSettings
    from robosteer_ros.graph.participant import spinning
    from robosteer_ros.graph.policy_console import PolicyConsole
    from robosteer_ros.logs.run_log import RunLog
    from robosteer_ros.up import bring_up

    config, words = load_rig(rig), instruction or task
    if task and config.lab is None:
        raise UserError(f"only the simulated lab puts up scenes, and rig {rig} is none: leave out --task, give --instruction")
    if not words.strip():
        raise UserError("say what to do: --instruction, in the lab or --task")
    if log:
        require_writable(out)
    nodes = "cameras,arm,policy" if policy else "cameras,arm"
    given = settings(GraphSettings, rig=rig, policy=policy, adapter=adapter, device=device or "cpu", only=nodes, namespace=namespace, logs=logs)
    console = Console(stderr=True)
    try:
        with ExitStack() as ending:
            ending.enter_context(signals_to(signal.default_int_handler))
            ros.init(args=["--ros-args", "--log-level", "warn"], signal_handler_options=ros.SignalHandlerOptions.NO, network=config.network)
            ending.callback(ros.try_shutdown)
            name = f"robosteer_run_{uuid4().hex[:8]}"  # nobody else's, before or after: the run is prepared for it
            node = ros.create_node(name, namespace=namespace or None, start_parameter_services=False)
            ending.enter_context(spinning(node))
            asked, scene = PolicyConsole(node), None

            def check(running: set[str]) -> None:
                if "policy" in running or not policy:
                    asked.require_rig(rig)

            going_down = console.status("going down")
            ending.callback(going_down.stop)
            with console.status("the nodes come up"):
                say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
                graph = ending.enter_context(bring_up(given, say, missing_only=True, check=check))
                ending.callback(going_down.start)
                graph.wait()
            with console.status("the policy is loaded"):
                asked.await_ready()
            wishes = {"instruction": words, "seconds": seconds, "executed": executed, "seed": seed}
            wishes |= {"policy": policy, "adapter": adapter} if policy else {}
            asked.set(**wishes, **({"device": device} if device else {}))
            if task:  # not before the node has agreed: the scene of a run that goes is not ours
                scene = ending.enter_context(LabLink(config.lab.control, "run"))
                scene.reset(task, seed, hold=True, variation=variation)
            about = {"instruction": words, "task": task, "variation": variation, "seed": seed, "seconds": seconds, "executed": executed}
            run_log = ending.enter_context(_logged(RunLog(node, config, out, about), console)) if log else None
            console.print(f"running: {words}; Ctrl-C holds the arm, then stops it", highlight=False, markup=False)
            code = _run(asked, console, scene, run_log)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(code)


def _run(asked: PolicyConsole, console: Console, scene: LabLink | None, log: RunLog | None) -> int:
    """One run from its start to its end, however that comes; its exit code."""
    tell = partial(log.tell, instructions=asked.instructions) if log else lambda status, **more: None
    number = None
    try:
        with console.status("the run begins"):  # which loads the policy where it is another
            number = asked.start()
        tell({})  # from here on there is something to look at afterwards
        with _Shown(console) as shown:
            status = asked.follow(number, lambda status: _until_done(asked, scene, status, shown))
    except UserError as error:
        if number is not None:
            tell(asked.status, outcome="failed", error=str(error))
        elif not isinstance(error, Refused):  # whoever does not answer must not begin later, with nobody there
            with suppress(UserError):
                asked.stop()
        raise
    except BaseException:  # Ctrl-C, most of all
        with _deaf():  # whoever asks twice must not leave the arm to its watchdog
            with suppress(OSError):  # of a terminal whose end is not yet heard of
                console.print("stopping")
            said = asked.stop()
            console.print(f"the arm has {said}" if number is not None else said)
            if number is not None:
                tell(asked.follow(number, lambda status: None))
        raise
    tell(status)
    if status["outcome"] == "failed":
        raise UserError(status["error"])
    if scene is None:
        console.print("its time is over: the arm is held and released")
        return 0
    truth = scene.truth()
    tell(status, success=truth["success"], failure=truth["failure"])
    console.print("the task is done" if truth["success"] else f"the task was not done: {truth['failure'] or 'its time is over'}", highlight=False)
    return 0 if truth["success"] else 1


def _until_done(asked: PolicyConsole, scene: LabLink | None, status: dict[str, str], show: Callable[[dict[str, str]], None]) -> None:
    show(status)
    if scene is not None and not status["outcome"]:
        truth = scene.truth()
        if truth["success"] or truth["failure"] is not None:
            asked.stop()


@contextmanager
def _logged(log: RunLog, console: Console) -> Iterator[RunLog]:
    def end() -> None:
        with _deaf():
            with console.status("the log of the run is finished"):
                said = log.end()
            if said:
                console.print(said, highlight=False, markup=False, soft_wrap=True)

    log.begin()
    try:
        yield log
    except BaseException:  # why the run ended is more than why its log is not whole
        try:
            end()
        except UserError as error:
            console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        raise
    end()


class _Shown:
    """Called with each status: a table on a terminal, else a line every two seconds, and one at the end."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console, self._last_s = console, -LINE_PERIOD_S
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> _Shown:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, status: dict[str, str]) -> None:
        if self._live:
            self._live.update(table(status), refresh=True)
        elif status["outcome"] or time.monotonic() >= self._last_s + LINE_PERIOD_S:
            self._last_s = time.monotonic()
            told = ", ".join(f"{words} {value}" for words, value in rows(status))
            self._console.print(told, highlight=False, markup=False, soft_wrap=True)


def rows(status: dict[str, str]) -> list[tuple[str, str]]:
    """What a status says of the loop, in words and numbers."""

    def both(name: str) -> str:
        if f"{name}_median" not in status:
            return "-"
        return f"{float(status[f'{name}_median']):.1f} ms, largest {float(status[f'{name}_largest']):.1f} ms"

    return [
        ("rate", f"{status['rate_hz']} Hz"), ("ticks", status["ticks"]),
        ("late", f"{status['late_ticks_percent']} %, missed {status['missed_ticks']}"), ("lateness", both("lateness_ms")),
        ("age of the frame at the command", both("frame_age_ms")), ("skew of the stamps", both("skew_ms")),
        ("inference", both("policy_ms")),
    ]  # fmt: skip


def table(status: dict[str, str]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    shown = Table("run " + status["run"], escape(status["instruction"]))
    for words, value in rows(status):
        shown.add_row(words, value)
    return shown


def _deaf() -> AbstractContextManager[None]:
    return signals_to(lambda *_: None)
