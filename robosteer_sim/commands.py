"""`robosteer sim ...`: the simulated lab on the command line."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from robosteer_core.rig import Rig

app = typer.Typer(help="The simulated lab.", no_args_is_help=True)

VariationOption = Annotated[str, typer.Option(help="How the scenes are varied: none, all, or axes joined by +.")]
RigOption = Annotated[str, typer.Option(help="Name of a rig in launch/, or a YAML file.")]


def _lab_rig(rig: str) -> Rig:
    from robosteer_core.errors import UserError
    from robosteer_core.rig import load_rig

    contract = load_rig(rig)
    if contract.lab is None:
        raise UserError(f"rig {contract.name!r} is no simulated lab: it lacks the section `lab`")
    return contract


@app.command()
def serve(
    rig: RigOption = "lab",
    host: Annotated[str, typer.Option(help="Address on which the robot is reached; the rig's own by default.")] = "",
    control: Annotated[str, typer.Option(help="host:port of the control socket; the rig's own by default.")] = "",
    pace: Annotated[str, typer.Option(help="free: as fast as it goes; real: at most wall time.")] = "free",
) -> None:
    """Start the simulated arm and gripper alone; prints one line when they accept connections."""
    from robosteer_sim.lab_server import LabServer

    contract = _lab_rig(rig)
    host, control = host or contract.arm.address, control or contract.lab.control
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda signal_number, _: stopped.append(signal_number))
    server = LabServer(contract, host, control, pace)
    typer.echo(f"robosteer sim: accepting FCI connections on {host}:1337 (control {server.control_address})")
    try:
        server.run(lambda: bool(stopped))
    finally:
        server.close()


@app.command()
def cameras(rig: RigOption = "lab") -> None:
    """Draw the rig's simulated cameras into shared memory until the lab ends."""
    from robosteer_core.rig import load_rig
    from robosteer_sim.cameras import run

    def stop(*_: object) -> None:
        raise SystemExit(0)  # so that the segments in shared memory are removed

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    contract = load_rig(rig)
    run(contract, ready=lambda: typer.echo(f"robosteer sim: drawing the cameras of the lab at {contract.lab.control}"))


@app.command()
def operator(
    task: Annotated[str, typer.Option(help='What to demonstrate, e.g. "press the red button".')],
    episodes: Annotated[int, typer.Option(min=1, help="How many episodes to do successfully.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the first scene; the next ones follow.")] = 0,
    variation: VariationOption = "none",
    rig: RigOption = "lab",
) -> None:
    """Let the scripted operator demonstrate a task to a running `robosteer record`."""
    from rich.progress import Progress

    from robosteer_sim.demonstrate import demonstrate
    from robosteer_sim.tasks import parse
    from robosteer_sim.variations import parse_variation

    parse(task)
    parse_variation(variation)
    contract = _lab_rig(rig)
    with Progress() as progress:
        bar = progress.add_task("demonstrating", total=episodes)
        done = demonstrate(contract, task, episodes, seed, lambda o: progress.update(bar, completed=o.kept), variation)
    typer.echo(f"{done.kept} episodes of {task!r} demonstrated, {done.discarded} failed")


@app.command()
def demonstrate(
    task: Annotated[str, typer.Option(help='What to demonstrate, e.g. "press the red button".')],
    dataset: Annotated[Path, typer.Option(help="Folder of the new LeRobot v3 dataset.")],
    episodes: Annotated[int, typer.Option(min=1, help="How many episodes to do successfully.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first scene; the next ones follow.")] = 0,
    variation: VariationOption = "none",
    rig: RigOption = "lab",
) -> None:
    """Record the scripted operator in one process, without FCI: the dataset of `robosteer record`, sooner."""
    from rich.progress import Progress

    from robosteer_sim.direct_demonstrations import record_directly

    contract = _lab_rig(rig)
    with Progress() as progress:
        bar = progress.add_task("demonstrating", total=episodes)
        done = record_directly(contract, task, episodes, seed, dataset, lambda o: progress.update(bar, completed=o.kept), variation)
    typer.echo(f"{done.kept} episodes of {task!r} in {dataset}, {done.discarded} failed")


@app.command()
def fault(
    kind: Annotated[str, typer.Argument(help="What goes wrong. Without it: what could, and what does.")] = "",
    parameters: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="camera=front seconds=2")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="End the faults of this kind, or without one all of them.")] = False,
    rig: RigOption = "lab",
) -> None:
    """Let something go wrong in the running lab, to see what your program makes of it."""
    from robosteer_core.errors import UserError
    from robosteer_core.runtime.lab_link import LabLink
    from robosteer_sim import faults

    address = _lab_rig(rig).lab.control
    given = _parameters(parameters or [])
    if clear and given:
        raise UserError("--clear takes the kind of fault alone, without parameters")
    with LabLink(address, "fault") as link:
        if clear:
            found = link.clear(kind or None)
        elif kind:
            found = link.fault(kind, **given)
            typer.echo(f"done: {' '.join([kind, *(parameters or [])])}")
        else:
            found = link.faults()
            for name, model in faults.KINDS.items():
                typer.echo(f"{name}: {model.__doc__}")
                for parameter, meaning in faults.parameters_of(model).items():
                    typer.echo(f"    {parameter}: {meaning}")
    lines = [" ".join([each.pop("kind"), *(f"{name}={value}" for name, value in each.items())]) for each in found]
    typer.echo(f"faults that last in the lab at {address}: {'; '.join(lines) or 'none'}")


def _parameters(words: list[str]) -> dict[str, object]:
    """Values are numbers, true and false where they read so, else text."""
    from robosteer_core.errors import UserError

    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise UserError(f"a parameter is written name=value; found {word!r}")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    return given


@app.command()
def tasks() -> None:
    """List the lab's tasks with their other wordings, and what can be varied."""
    from robosteer_sim.objects.item import COLOURS
    from robosteer_sim.tasks import TASKS, VERBS
    from robosteer_sim.variations import VARIATIONS

    typer.echo("Tasks:")
    for task, others in TASKS.items():
        typer.echo(f"  {task}\n    or: {'; '.join(others)}")
    typer.echo("Tasks of the grammar:")
    for verb, kinds in VERBS.items():
        typer.echo(f"  {verb} the {'|'.join(COLOURS)} {'|'.join(kinds)}")
    typer.echo(f"  stack the {'|'.join(COLOURS)} cube on the {'|'.join(COLOURS)} cube")
    typer.echo(f"Variations, joined by +:\n  {', '.join(VARIATIONS)}")


@app.command()
def pictures(
    out: Annotated[Path, typer.Option(help="The picture, a .jpg or .png file.")] = Path("runs/lab.jpg"),
    seed: Annotated[int, typer.Option(min=0)] = 0,
    rig: RigOption = "lab",
) -> None:
    """Draw every task, and one task in every variation, into one picture."""
    from robosteer_core.rig import load_rig
    from robosteer_sim.contact_sheet import contact_sheet

    contact_sheet(load_rig(rig), seed, out)
    typer.echo(f"{out}: every task, then one task in every variation")


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = Path("runs/pretrain/base"),
    work: Annotated[Path, typer.Option(help="Folder of episodes and training state; an interrupted call goes on in it.")] = Path(
        "runs/pretrain/work"
    ),
    episodes: Annotated[int, typer.Option(min=1)] = 936,
    steps: Annotated[int, typer.Option(min=1)] = 6000,
    trials: Annotated[int, typer.Option(min=1, help="Per kind of task, to measure the result.")] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    processes: Annotated[int, typer.Option(min=1)] = 2,
    rig: RigOption = "lab",
) -> None:
    """Make the small base policy: episodes of the scripted operator, training, success on what it was taught and what not."""
    from robosteer_core.rig import load_rig
    from robosteer_sim.pretrain.run import pretrain as make

    make(load_rig(rig), out, work, episodes, steps, trials, seed, processes, typer.echo)
