"""Commands of `robosteer` that drive hardware. Light: what is heavy is imported when a command runs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import typer


class ArmAction(str, Enum):
    """What `robosteer arm` does: be the arm's process, or ask the one that is."""

    HOLD, STATUS, STOP, HOME, RECOVER = "hold", "status", "stop", "home", "recover"


def arm(
    action: ArmAction = typer.Argument(
        ArmAction.HOLD, help="hold: be the process that holds the arm; the others ask the running one: how it is, come to rest, "
        "go home slowly, recover from the robot's errors after somebody has looked why"
    ),
    rig: str = typer.Option(..., help="rig: a YAML file, or the name of one in launch/ (lab)"),
) -> None:  # fmt: skip
    """Hold the arm and the gripper of a rig; policies and the recorder command them through this process."""
    import json
    import logging

    from robosteer_core.rig import load_rig

    config = load_rig(rig)
    if action is ArmAction.HOLD:
        from robosteer_ros.hardware.arm.process import run

        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        run(config, ready=lambda address: typer.echo(f"arm of rig {rig} ready, commands at {address}"))
        return
    from robosteer_ros.hardware.arm.client import ArmClient

    client = ArmClient(config)
    try:
        if action is ArmAction.STATUS:
            typer.echo(json.dumps(client.status(), indent=2))
        else:
            getattr(client, action.value)()
            typer.echo(f"arm of rig {rig}: {client.status()['mode']}")
    finally:
        client.close()


def record(
    rig: str = typer.Option(..., help="rig: a YAML file, or the name of one in launch/ (lab)"),
    task: str = typer.Option(..., help="the instruction in words, as the policy will get it"),
    episodes: int = typer.Option(..., min=1, help="stop after this many kept episodes"),
    dataset: str = typer.Option(..., help="folder of the LeRobot v3 dataset; appended to when it exists"),
    calibrations: Path = typer.Option("calibrations", help="folder of <camera>.yaml, which go into the dataset's metadata"),
) -> None:
    """Record demonstrations; the operator's device starts, keeps and discards episodes."""
    import logging

    from robosteer_core.camera_calibration import rig_calibrations
    from robosteer_core.episodes.writer import DatasetWriter
    from robosteer_core.rig import load_rig
    from robosteer_core.runtime.clock import rig_clock
    from robosteer_ros.hardware.station import Station
    from robosteer_ros.hardware.teleop.remote import RemoteDevice
    from robosteer_ros.record import Recorder

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    config = load_rig(rig)
    calibrated = rig_calibrations(config, calibrations)
    with Station(config) as station, DatasetWriter(dataset, config, calibrations=calibrated) as writer:
        device = RemoteDevice(config)
        try:
            typer.echo(f"ready for the operator's device at {config.teleop_address}")
            done = Recorder(config, station, device, writer, lambda: rig_clock(config, "policy"), task, episodes).run()
        finally:
            device.close()
    typer.echo(
        f"{done.kept} episodes kept, {done.discarded} discarded, {done.frames} frames, {done.late_ticks} late ticks in {dataset}"
    )
