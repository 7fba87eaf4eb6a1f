"""`robosteer eval`. Light: what is heavy is imported when the command runs."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


def evaluate(
    conditions: Annotated[
        Path | None, typer.Argument(help="YAML list of what to try, instead of --policy: name, policy, adapter, images, device, task, variation")
    ] = None,
    policy: Annotated[list[str], typer.Option(help="checkpoint folder, `scripted`, ws://host:port (openpi's protocol); repeatable")] = [],  # noqa: B006
    adapter: Annotated[list[str], typer.Option(help="adapter folder of the --policy in the same place; `none` for none")] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="where checkpoint folders run: cpu, which is the default, cuda, cuda:1")] = "",
    task: Annotated[list[str], typer.Option(help="an instruction, or `all`, which is the default; repeatable")] = [],  # noqa: B006
    variation: Annotated[
        list[str], typer.Option(help="none, which is the default, axes joined by +, or `all` for every one of them; repeatable")
    ] = [],  # noqa: B006
    trials: Annotated[int, typer.Option(min=1, help="per policy, task and variation, on the same seeds for all")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="seed of the first trial")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder of the results; trials that it holds are not repeated")] = None,
    json_out: Annotated[str, typer.Option("--json", help="file for the list of results, - for the standard output")] = "",
    through: Annotated[str, typer.Option(help="lab: inside this process; arm: through FCI and the nodes of the rig")] = "lab",
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, show_default=False,
            help="at work at once, each with the policies in its memory; outcomes do not depend on it; without it one per core, at "
            "most 4, and through the arm 1",
        ),
    ] = None,  # fmt: skip
    videos: Annotated[int, typer.Option(min=0, help="film all trials of this many seeds")] = 0,
    failures: Annotated[int, typer.Option(min=0, help="film this many failures of each cell")] = 3,
    rig: Annotated[str, typer.Option(help="rig: a YAML file, or the name of one in launch/")] = "lab",
) -> None:
    """Try policies in closed loop: policies x tasks x variations, interleaved over the same seeds, with statistics.

    Writes trials.jsonl (resumable), trials.parquet, report.html and videos into the folder.
    """
    from rich.console import Console

    from robosteer_core.errors import UserError
    from robosteer_core.evaluation.catalogue import load_catalogue
    from robosteer_core.evaluation.conditions import grid, load_conditions
    from robosteer_core.evaluation.evaluation import Evaluation, summary
    from robosteer_core.evaluation.grid_report import write_grid_report
    from robosteer_core.evaluation.table import write_table
    from robosteer_core.evaluation.worker import default_processes
    from robosteer_core.files import write_text
    from robosteer_core.rig import load_rig

    if (conditions is None) == (not policy):
        raise UserError("give what to try: either a YAML file of conditions or --policy (a checkpoint folder, scripted, ws://host:port)")
    words_of_cells = {"--task": task, "--variation": variation, "--adapter": adapter, "--device": device}
    if conditions is not None and any(words_of_cells.values()):
        given = ", ".join(name for name, value in words_of_cells.items() if value)
        raise UserError(f"a file of conditions says itself what is tried: leave out {given}, or write it into {conditions}")
    if json_out not in ("", "-") and Path(json_out).is_dir():
        raise UserError(f"--json {json_out} is a folder; give a file, or - for the standard output")
    if json_out not in ("", "-") and not Path(json_out).resolve().parent.is_dir():
        raise UserError(f"no folder for --json {json_out}: make {Path(json_out).resolve().parent}, or give - for the standard output")
    catalogue = load_catalogue()
    if conditions:
        specs, cells = load_conditions(conditions, catalogue)
    else:
        specs, cells = grid(policy, adapter, task or ["all"], variation or ["none"], catalogue, device or "cpu")
    processes = processes or default_processes(through)
    words = Console(stderr=True)

    def say(text: str) -> None:
        words.print(text, highlight=False, markup=False, soft_wrap=True)

    with Evaluation(load_rig(rig), specs, cells, trials, seed, out, through, processes, videos, failures, catalogue) as evaluation:
        total, done = len(evaluation.schedule), len(evaluation.records())
        say(f"{total} trials: {len(cells)} combinations of policy, task and variation, {trials} seeds each; {done} are in {evaluation.out}")

        def publish() -> list[dict]:
            records = evaluation.records()
            write_table(evaluation.out / "trials.parquet", records)
            write_grid_report(evaluation.out / "report.html", records, cells, evaluation.about, evaluation.video)
            return summary(records, cells)

        try:
            with _Interrupt() as interrupt:
                with _Told(words, "trials", total, done, interrupt) as told:
                    evaluation.run(told)
                rows = publish()
                if unseen := len(evaluation.unseen()):
                    with _Told(words, "filming failures", unseen, 0, interrupt) as told:
                        evaluation.film(told)
                    publish()
        except KeyboardInterrupt:
            say(f"stopped: {len(evaluation.records())} of {total} trials are in {evaluation.out}; the same call with --out {evaluation.out} goes on")
            raise typer.Exit(130) from None
    for row in rows:
        low, high = row["wilson_95"]
        say(
            f"{row['policy']:20s} {row['task']:36s} {row['variation']:12s} {row['successes']:3d} of {row['trials']}   95 % "
            f"[{low:.2f}, {high:.2f}]"
        )
    say(f"report: {evaluation.out / 'report.html'}")
    if json_out == "-":
        typer.echo(json.dumps(rows, indent=1))
    elif json_out:
        write_text(Path(json_out), json.dumps(rows, indent=1) + "\n")


class _Interrupt:
    """A Ctrl-C that comes for certain, at the latest with `check()`: numpy.random.Generator.choice can swallow one (2.4)."""

    def __init__(self) -> None:
        self._came = False

    def __enter__(self) -> _Interrupt:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is signal.default_int_handler:  # else somebody wants it ignored, as a shell for what runs behind
            signal.signal(signal.SIGINT, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _come(self, *_: object) -> None:
        self._came = True
        raise KeyboardInterrupt

    def check(self) -> None:
        if self._came:
            raise KeyboardInterrupt


class _Told:
    """Tells how far something is, called once for each part that is done: a bar on a terminal, else a line per twentieth."""

    def __init__(self, words: Console, what: str, total: int, done: int, interrupt: _Interrupt) -> None:
        from rich.progress import Progress

        self._words, self._what, self._total, self._done, self._interrupt = words, what, total, done, interrupt
        self._bar = Progress(console=words) if words.is_terminal else None
        self._task = self._bar and self._bar.add_task(what, total=total, completed=done)

    def __enter__(self) -> _Told:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, record: object) -> None:
        self._done += 1
        if self._bar:
            self._bar.advance(self._task)
        elif self._done * 20 // self._total > (self._done - 1) * 20 // self._total:
            self._words.print(f"{self._what}: {self._done} of {self._total}", highlight=False, soft_wrap=True)
        self._interrupt.check()
