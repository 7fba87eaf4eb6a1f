"""`robosteer heads`: which attention heads matter for a task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from robosteer_core.heads.task_heads import TaskHeads

app = typer.Typer(no_args_is_help=True, help="Find the attention heads that matter for a task.")


@app.callback()
def _heads() -> None:
    """Find the attention heads that matter for a task."""


@app.command("select")
def select_command(
    dataset: Annotated[Path, typer.Option(help="LeRobot v3 dataset of the task's demonstrations")],
    policy: Annotated[Path, typer.Option(help="checkpoint folder of the base policy")],
    out: Annotated[Optional[Path], typer.Option(help="write the selection here as JSON, and the map beside it as PNG")] = None,
    json_to: Annotated[Optional[str], typer.Option("--json", help="print one JSON object: `-` for stdout, else a file")] = None,
    raw_actions: Annotated[bool, typer.Option("--raw-actions", help="compare actions unscaled, as the release does")] = False,
    keyframes: Annotated[str, typer.Option(help="which frames are scored: all, droid or libero")] = "all",
    n_heads: Annotated[Optional[int], typer.Option(min=1, help="how many heads [default: 20, 8 in a model with fewer than 60]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the noise that actions are sampled from")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="of the CPU; a small model gains little from a second one")] = 1,
) -> None:
    """Rank attention heads by how well they predict the demonstrated action, and choose those to finetune."""
    import json

    import torch

    from robosteer_core.episodes.reader import Dataset
    from robosteer_core.heads.progress import progress_bar
    from robosteer_core.heads.task_heads import find_task_heads, save_task_heads
    from robosteer_core.vla.checkpoint import load_policy

    torch.set_num_threads(threads)
    opened, base = Dataset(dataset), load_policy(policy)
    with progress_bar() as progress:
        found = find_task_heads(
            base, opened, n_heads=n_heads, raw_actions=raw_actions, keyframes=keyframes, seed=seed, progress=progress
        )
    if out is not None:
        from robosteer_core.heads.draw import head_map

        save_task_heads(found, out)
        head_map(found, out.with_suffix(".png"), title=", ".join(found.record["instructions"][:2]))
    if json_to == "-":
        typer.echo(json.dumps(found.to_json()))
    else:
        if json_to is not None:
            save_task_heads(found, Path(json_to))
        _print(found)


def _print(found: TaskHeads) -> None:
    """The ranking as a table, with the error of each action dimension."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    selection, console = found.selection, Console(soft_wrap=True)
    number = "{:.1e}" if found.raw_actions else "{:.3f}"
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("rank", "(l,h)", "", "mean", *found.names):
        table.add_column(column, justify="right", no_wrap=True)
    for rank, row in enumerate(found.ranking(), 1):
        mark = "*" if row["selected"] else "" if row["eligible"] else "x"
        numbers = [row["mse"], *row["dimension_mse"].values()]
        table.add_row(str(rank), f"({row['layer']},{row['head']})", mark, *map(number.format, numbers))
    table.add_section()
    table.add_row("", "all *", "", *map(number.format, [selection.cv_mse, *selection.dimension_mse.tolist()]))
    unit = "raw actions" if found.raw_actions else "1 = the variance of that action dimension"
    console.print(f"{found.scored_part} heads by squared error of the predicted action, k = {selection.k} ({unit})")
    console.print(table)
    console.print("* selected   x not eligible: cannot reach the action")
    if found.constant:
        console.print(f"constant action dimensions, left out: {', '.join(found.constant)}")
    if found.record["masked_cameras"]:
        console.print(f"cameras that the dataset lacks, masked: {', '.join(found.record['masked_cameras'])}")
    trained = " ".join(f"({head.layer},{head.head})" for head in found.heads)
    console.print(f"scored part: {found.scored_part}; part to be trained: {found.heads[0].part}; heads: {trained}")
