"""Progress on stderr, so that stdout stays free for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar() -> Progress:
    """A bar with count, time spent and time left. Use with `with`; `add_task(name, total=...)`."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=Console(stderr=True),
    )  # fmt: skip


@contextmanager
def stage(progress: Progress | None, name: str) -> Iterator[None]:
    """Show that something is being done that cannot say how far it is; where there is no terminal by a line at its beginning."""
    if progress is None:
        yield
        return
    if not progress.console.is_terminal:
        progress.console.print(name)
    task = progress.add_task(name, total=None)
    yield
    progress.update(task, total=1, completed=1)
