"""`robosteer calibrate ...`. Light: what is heavy is imported when a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(help="Calibrate the rig's cameras and check that they have not moved.", no_args_is_help=True)


@app.callback()
def _calibrate() -> None:
    """Calibrate the rig's cameras and check that they have not moved."""


@app.command("hand-eye")
def hand_eye(
    pairs: Annotated[
        Optional[Path], typer.Option(help="JSON list of [end effector in base, target in camera], 4x4, metres")
    ] = None,
    mount: Annotated[str, typer.Option(help="hand, fixed, or auto: where the camera sits")] = "auto",
    accept_mm: Annotated[float, typer.Option(min=0, help="largest leave-one-out error of an accepted calibration")] = 2.0,
    accept_deg: Annotated[float, typer.Option(min=0, help="likewise in degrees")] = 0.5,
    json_out: Annotated[str, typer.Option("--json", help="file for the result, - for the standard output")] = "",
) -> None:
    """Find where a camera sits, on the hand or on a stand, and say whether to trust it."""
    from calibration.acceptance import Criteria
    from calibration.hand_eye import calibrate_pairs
    from calibration.pairs import load_pairs
    from calibration.summary import summary, words
    from robosteer_core.errors import UserError

    if mount not in ("auto", "hand", "fixed"):
        raise UserError(f"--mount is hand, fixed or auto; found {mount!r}")
    if pairs is None:
        raise UserError("give what to calibrate from: --pairs FILE.json")
    criteria = Criteria(loo_mm=accept_mm, loo_deg=accept_deg)
    found = calibrate_pairs(load_pairs(pairs), None if mount == "auto" else mount, criteria)
    typer.echo(words(found), err=True)
    text = json.dumps(summary(found), indent=1)
    if json_out == "-":
        typer.echo(text)
    elif json_out:
        Path(json_out).write_text(text + "\n")
