"""A run's log as TensorBoard reads it, beside `log.jsonl` and with the same content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter


class Events:
    """Scalars in `folder`, one for each number of the log's entries, at their steps.

    Made anew from the `log` so far when a run goes on, so that neither the steps that a killed run did after its last saved
    state nor any other stand there twice.
    """

    def __init__(self, folder: Path, log: list[dict[str, Any]]) -> None:
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        self._writer, self._written = SummaryWriter(str(folder)), 0
        self.write(log)

    def write(self, log: list[dict[str, Any]]) -> None:
        """Add what the log has more than at the last call."""
        for entry in log[self._written :]:
            for name in sorted(entry.keys() - {"step"}):
                self._writer.add_scalar(name, entry[name], entry["step"])
        self._written = len(log)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
