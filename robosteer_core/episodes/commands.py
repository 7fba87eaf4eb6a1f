"""`robosteer dataset`: verify and repair demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from robosteer_core.episodes.check import Report

app = typer.Typer(no_args_is_help=True, help="Verify and repair datasets of demonstrations.")

Folder = Annotated[Path, typer.Argument(help="folder of a LeRobot v3 dataset", metavar="DIR")]


@app.callback()
def _dataset() -> None:
    """Verify and repair datasets of demonstrations."""


@app.command("check")
def check_command(
    folder: Folder,
    json_to: Annotated[Optional[str], typer.Option("--json", help="print one JSON object: `-` for stdout, else a file")] = None,
) -> None:
    """Verify every row, image and video frame. Exit code 2 and a list when something is wrong."""
    import json

    from robosteer_core.errors import UserError

    report = _check(folder)
    if json_to is not None:
        text = json.dumps(report.to_json())
        typer.echo(text) if json_to == "-" else Path(json_to).write_text(text + "\n")
    for note in report.notes:
        typer.echo(note, err=True)
    if report.problems:
        lines = "\n".join(f"  {problem}" for problem in report.problems)
        raise UserError(
            f"{len(report.problems)} problem{'s' * (len(report.problems) > 1)} in {folder}; the first {len(report.verified)} of {report.listed} episodes are "
            f"whole and `robosteer dataset repair {folder}` would keep them:\n{lines}"
        )
    if json_to != "-":
        typer.echo(f"{folder}: {len(report.verified)} episodes, {report.to_json()['verified_frames']} frames, all whole")


@app.command("repair")
def repair_command(folder: Folder) -> None:
    """Keep the episodes up to the first that is damaged; what is dropped is moved to a folder `dropped`, never deleted."""
    from robosteer_core.episodes.repair import repair

    done = repair(folder, _check(folder))
    if done.dropped_to is None and not done.rewritten:
        typer.echo(f"{folder}: nothing to repair, {done.kept} episodes are whole")
        return
    typer.echo(f"{folder}: kept {done.kept} of {done.listed} episodes; rewrote {', '.join(done.rewritten) or 'nothing'}")
    if done.dropped_to is not None:
        typer.echo(f"moved to {done.dropped_to}: {', '.join(done.dropped)}")


def _check(folder: Path) -> Report:
    from rich.console import Console
    from rich.progress import Progress

    from robosteer_core.episodes.check import check

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("episodes", total=None)
        return check(folder, lambda done, total: bar.update(task, completed=done, total=total))
