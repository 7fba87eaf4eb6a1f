"""Commands of `robosteer` that drive hardware. Light: what is heavy is imported when a command runs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import typer

from robosteer_core.errors import UserError


class ArmAction(str, Enum):
    """What `robosteer arm` asks of the arm's node, or of the robot's Desk."""

    STATUS, STOP, HOME, RECOVER = "status", "stop", "home", "recover"
    UNLOCK, LOCK, ACTIVATE_FCI = "unlock", "lock", "activate-fci"


def arm(
    action: ArmAction = typer.Argument(
        ..., help="status, stop, home and recover ask the arm's node: how it is, come to rest, go home slowly, go on after "
        "somebody has looked why it stopped; unlock, lock and activate-fci ask the robot's Desk for its brakes and for the FCI"
    ),
    rig: str = typer.Option("", help="rig: a YAML file, or the name of one in launch/ (lab); status and stop need none"),
    namespace: str = typer.Option("", help="namespace of the arm's node"),
) -> None:  # fmt: skip
    """Ask the arm of a rig, which its node holds (`robosteer up RIG --only arm` is the node alone)."""
    import json

    if not rig and action not in (ArmAction.STATUS, ArmAction.STOP):
        raise UserError(f"{action.value}: say of which rig the arm is: --rig RIG")
    if action in (ArmAction.UNLOCK, ArmAction.LOCK, ArmAction.ACTIVATE_FCI):
        from robosteer_core.rig import load_rig
        from robosteer_ros.hardware.arm import desk

        config = load_rig(rig)
        try:
            who = desk.credentials()
        except UserError:
            who = typer.prompt("user of Desk"), typer.prompt("password", hide_input=True)
        typer.echo(desk.ACTIONS[action.value.replace("-", "_")](config.arm, *who))
        return
    from robosteer_ros.arm_console import ArmConsole

    with ArmConsole(rig, namespace) as asked:
        if action is ArmAction.STATUS:
            typer.echo(json.dumps(asked.status(), indent=2))
            return
        if action is not ArmAction.STOP:  # a stop is nobody's wrong arm
            asked.require_rig()
        asked.ask(action.value)
        typer.echo(f"arm{f' of rig {rig}' if rig else ''}: {asked.status()['mode']}")


def record(
    task: str = typer.Option(..., help="the instruction in words, as the policy will get it"),
    episodes: int = typer.Option(20, min=1, help="stop after this many kept episodes"),
    dataset: Path = typer.Option(..., help="folder of the LeRobot v3 dataset; appended to when it exists"),
    rig: str = typer.Option("lab", help="rig: a YAML file, or the name of one in launch/"),
    device: str = typer.Option("", help="the operator's device; without it that of the node teleop where one runs, else remote: keyboard, gamepad, spacemouse, guiding (the arm led by its buttons), or remote: a process at the rig's teleop_address, as `robosteer sim operator`"),
    calibrations: Path = typer.Option("calibrations", help="folder of <camera>.yaml, which go into the dataset's metadata"),
    namespace: str = typer.Option("", help="namespace of the nodes"),
    logs: Path = typer.Option("runs/graph", help="folder of what the nodes print that are started here"),
) -> None:
    """Record demonstrations; the operator's device, or the keys of this terminal, start, keep and discard episodes. Nodes that
    do not run yet are started, in the lab the lab too, and ended after it."""
    from robosteer_ros.record_console import record as run

    try:
        done = run(rig, task, episodes, dataset, calibrations, device, namespace, logs)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    typer.echo(f"{done.kept} episodes kept, {done.discarded} discarded, {done.frames} frames in {dataset}")
