"""`robosteer heads`: which attention heads matter for a task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from robosteer_core.errors import UserError

if TYPE_CHECKING:
    from robosteer_core.heads.task_heads import TaskHeads

app = typer.Typer(no_args_is_help=True, help="Find the attention heads that matter for a task.")


@app.callback()
def _heads() -> None:
    """Find the attention heads that matter for a task."""


Step = Annotated[
    Optional[int], typer.Option(min=0, help="denoising step at which the expert is read, 0 to their number [default: the last, after x_0]")
]
Threads = Annotated[int, typer.Option(min=1, help="of the CPU; a small model gains little from a second one")]
NewStatistics = Annotated[
    bool,
    typer.Option("--new-statistics", help="normalise by the dataset's statistics, as the release, also where it names the policy's own "
                 "dimensions; the heads are finetuned under the same"),
]
Device = Annotated[str, typer.Option(help="where the policy runs: cpu, cuda")]


@app.command("capture")
def capture_command(
    dataset: Annotated[Path, typer.Option(help="LeRobot v3 dataset of the task's demonstrations")],
    policy: Annotated[Path, typer.Option(help="checkpoint folder of the base policy")],
    out: Annotated[Path, typer.Option(help="folder of the capture; an interrupted one in it goes on")],
    read: Annotated[Optional[list[str]], typer.Option(help="PART[.ffn][:TOKEN], may be repeated: vision, vlm or expert; "
                    "first_action (expert), last_prefix (vlm) or mean [default: expert:first_action; vlm:last_prefix without an expert]")] = None,
    keyframes: Annotated[str, typer.Option(help="which frames: all, droid or libero")] = "all",
    step: Step = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the noise that actions are sampled from")] = 0,
    new_statistics: NewStatistics = False,
    shard: Annotated[str, typer.Option(help="i/n: make every n-th block alone, from the i-th, counted from 0")] = "0/1",
    block: Annotated[int, typer.Option(min=1, help="frames held in memory and written at a time; the same for all shards")] = 64,
    threads: Threads = 1,
    device: Device = "cpu",
) -> None:
    """Read heads or feed-forward neurons of every frame, to disk; `heads select --capture` ranks them."""
    import torch

    from robosteer_core.episodes.reader import Dataset
    from robosteer_core.files import require_writable
    from robosteer_core.heads.archive import capture_dataset
    from robosteer_core.heads.capture import default_read
    from robosteer_core.heads.progress import progress_bar, stage
    from robosteer_core.heads.tap import Read
    from robosteer_core.vla.checkpoint import load_policy, on_device

    index, _, count = shard.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise UserError(f"expected a shard i/n such as 0/2; found {shard!r}")
    asked = tuple(dict.fromkeys(map(Read.parse, read or ())))
    require_writable(out)
    torch.set_num_threads(threads)
    opened = Dataset(dataset)
    with progress_bar() as progress:
        with stage(progress, "loading the policy"):
            base = on_device(load_policy(policy), device)
        reads = asked or (default_read(base.sites.parts),)
        captured = capture_dataset(
            base, opened, out, reads, keyframes=keyframes, step=step, seed=seed, new_statistics=new_statistics, block=block,
            shard=(int(index), int(count)), progress=progress,
        )  # fmt: skip
    missing, record = len(captured.missing), captured.record
    left = f"; {missing} of {record.blocks} blocks are left to other shards" if missing else ""
    typer.echo(f"{', '.join(record.reads)} of {record.frames} frames in {out}{left}")


@app.command("select")
def select_command(
    dataset: Annotated[Optional[Path], typer.Option(help="LeRobot v3 dataset of the task's demonstrations")] = None,
    policy: Annotated[Optional[Path], typer.Option(help="checkpoint folder of the base policy")] = None,
    capture: Annotated[Optional[Path], typer.Option(help="a folder of `heads capture`, instead of dataset and policy")] = None,
    out: Annotated[Optional[Path], typer.Option(help="write the selection here as JSON, and its pictures beside it as PNG")] = None,
    json_to: Annotated[Optional[str], typer.Option("--json", help="print one JSON object: `-` for stdout, else a file")] = None,
    raw_actions: Annotated[bool, typer.Option("--raw-actions", help="compare actions unscaled, as the release does")] = False,
    keyframes: Annotated[Optional[str], typer.Option(help="which frames are scored: all, droid or libero [default: all]")] = None,
    n_heads: Annotated[Optional[int], typer.Option(min=1, help="how many heads [default: 20, 8 in a model with fewer than 60]")] = None,
    k: Annotated[Optional[list[int]], typer.Option(min=1, help="neighbours, may be repeated [default: 10, 20, 30, 40]")] = None,
    scored_part: Annotated[
        Optional[str], typer.Option(help="part whose heads are ranked, PART or PART:TOKEN [default: expert, as the release; vlm without one]")
    ] = None,
    trained_part: Annotated[str, typer.Option(help="part whose heads of the same index are trained; the release: vlm")] = "vlm",
    method: Annotated[str, typer.Option(help="knn, or as the paper compares: greedy, layers, causal, reinforce, variance, random")] = "knn",
    others: Annotated[Optional[Path], typer.Option(help="dataset of other tasks, for the method causal [default: the task's own]")] = None,
    resamples: Annotated[int, typer.Option(min=0, help="of the demonstrations, to tell how stable the choice is; 0: none")] = 50,
    step: Step = None,
    seed: Annotated[Optional[int], typer.Option(min=0, help="seed of the noise that actions are sampled from [default: 0]")] = None,
    new_statistics: NewStatistics = False,
    threads: Threads = 1,
    device: Device = "cpu",
) -> None:
    """Rank attention heads by how well they predict the demonstrated action, and choose those to finetune."""
    import json

    import torch

    from robosteer_core.episodes.reader import Dataset
    from robosteer_core.errors import settings
    from robosteer_core.files import require_writable
    from robosteer_core.heads.archive import Captured
    from robosteer_core.heads.progress import progress_bar, stage
    from robosteer_core.heads.task_heads import SelectConfig, captured_task_heads, find_task_heads, save_task_heads
    from robosteer_core.vla.checkpoint import load_policy, on_device

    if out is not None:
        require_writable(out.parent)
        if out.suffix == ".png" or out.is_dir():
            raise UserError(f"--out is a file of JSON, and its pictures go beside it as PNG; found {out}; give another name")
    torch.set_num_threads(threads)
    options = dict(n_heads=n_heads, raw_actions=raw_actions, trained_part=trained_part, method=method, resamples=resamples)
    options |= {key: value for key, value in (("ks", k), ("seed", seed), ("scored", scored_part)) if value is not None}
    settings(SelectConfig, **options)  # before anything is loaded
    if others is not None and method != "causal":
        raise UserError(f"--others is for the method causal; found --method {method}")
    if capture is not None:
        options_of_it = {"dataset": dataset, "policy": policy, "keyframes": keyframes, "step": step, "new-statistics": new_statistics or None}
        given = [name for name, value in options_of_it.items() if value is not None]
        if given:
            raise UserError(f"--{given[0]} was settled when the capture was made; give either --capture or --dataset and --policy")
        captured = Captured(capture)
        with progress_bar() as progress:
            found = captured_task_heads(captured, progress=progress, **options)
    else:
        if dataset is None or policy is None:
            raise UserError("expected --dataset and --policy, or --capture with a folder of `robosteer heads capture`")
        opened, elsewhere = Dataset(dataset), None if others is None else Dataset(others)
        with progress_bar() as progress:
            with stage(progress, "loading the policy"):
                base = on_device(load_policy(policy), device)
            found = find_task_heads(
                base, opened, keyframes=keyframes or "all", step=step, new_statistics=new_statistics, others=elsewhere, progress=progress, **options
            )  # fmt: skip
    if out is not None:
        save_task_heads(found, out)
        _pictures(found.to_json(), out.with_suffix(".png"))
    if json_to == "-":
        typer.echo(json.dumps(found.to_json()))
    else:
        if json_to is not None:
            save_task_heads(found, Path(json_to))
        _print(found)


@app.command("plot")
def plot_command(
    selection: Annotated[Optional[Path], typer.Argument(help="a selection's JSON, as `heads select --out` writes it")] = None,
    results: Annotated[Optional[Path], typer.Option(help="table of results (CSV: name, parameters, successes, trials, ours): success "
                       "against trained parameters")] = None,
    out: Annotated[Optional[Path], typer.Option(help="the PNG; the error against the rank goes to NAME_rank.png beside it "
                   "[default: beside the input]")] = None,
    title: Annotated[Optional[str], typer.Option(help="[default: the instructions]")] = None,
) -> None:
    """Draw a selection's head map and its error against the rank; or success against trained parameters."""
    if (selection is None) == (results is None):
        raise UserError("expected either a selection's JSON or --results with a table")
    if selection is not None:
        from robosteer_core.heads.task_heads import read_heads

        _, record = read_heads(selection)
        if "ranking" not in record or "chance_mse" not in record:
            raise UserError(f"{selection} has no scores to draw; make it anew with `robosteer heads select --out`")
        written = _pictures(record, out or selection.with_suffix(".png"), title)
    else:
        from robosteer_core.evaluation.cost_plot import plot_success_by_parameters, read_results

        path = out or results.with_suffix(".png")
        plot_success_by_parameters(read_results(results), path, title or "")
        written = [path]
    for path in written:
        typer.echo(str(path))


def _pictures(record: dict[str, Any], path: Path, title: str | None = None) -> list[Path]:
    from robosteer_core.heads.draw import head_map, score_by_rank

    title = ", ".join(record["instructions"][:2]) if title is None else title
    rank = path.with_name(f"{path.stem}_rank.png")
    head_map(record, path, title)
    score_by_rank(record, rank, title)
    return [path, rank]


def _print(found: TaskHeads) -> None:
    """The ranking as a table, with the error of each action dimension."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    selection, console = found.selection, Console(soft_wrap=True)
    number = "{:.1e}" if found.raw_actions else "{:.3f}"
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    stable = found.stability
    for column in ("rank", "(l,h)", "", *(["share"] if stable else []), "mean", *found.names):
        table.add_column(column, justify="right", no_wrap=True)
    for rank, row in enumerate(found.ranking(), 1):
        mark = "*" if row["selected"] else "" if row["eligible"] else "x"
        numbers = [row["mse"], *row["dimension_mse"].values()]
        often = [f"{100 * row['frequency']:.0f}%" if "frequency" in row else ""] if stable else []
        table.add_row(str(rank), f"({row['layer']},{row['head']})", mark, *often, *map(number.format, numbers))
    table.add_section()
    together = [selection.cv_mse, *selection.dimension_mse.tolist()]
    table.add_row("", "all *", "", *([""] if stable else []), *map(number.format, together))
    unit = "raw actions" if found.raw_actions else "1 = the variance of that action dimension"
    console.print(f"{found.scored_part} heads by squared error of the predicted action, k = {selection.k} ({unit})")
    console.print(table)
    console.print(f"* selected by {selection.method}   x not eligible: cannot reach the action   a head that says nothing: {number.format(found.chance)}")
    if stable:
        low, high = stable.jaccard_95
        console.print(
            f"share: of {stable.resamples} resamples of the demonstrations in which it is chosen; their overlap (Jaccard) with the selection is "
            f"{stable.jaccard.mean():.2f} on average, 95 % lie in {low:.2f} to {high:.2f}"
        )
    if found.constant:
        console.print(f"constant action dimensions, left out: {', '.join(found.constant)}")
    if found.record["masked_cameras"]:
        console.print(f"cameras that the dataset lacks, masked: {', '.join(found.record['masked_cameras'])}")
    trained = " ".join(f"({head.layer},{head.head})" for head in found.heads)
    console.print(f"scored part: {found.scored_part}; part to be trained: {found.heads[0].part}; heads: {trained}")
