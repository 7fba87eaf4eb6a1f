"""The raw logs of a dataset's episodes, in the folder `raw` beside the dataset's own."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from robosteer_ros.logs.raw_log import RawLog

logger = logging.getLogger(__name__)

FOLDER = "raw"
_RUNNING = ".running"


class EpisodeLogs:
    """One bag per episode, `raw/episode_000003/episode_000003.mcap`. One that was not finished stays under
    `raw/interrupted_...`."""

    def __init__(self, log: RawLog, dataset: Path) -> None:
        self._log, self._folder = log, dataset / FOLDER
        self._running = self._folder / _RUNNING
        self._set_aside()

    def begin(self) -> None:
        """Raises UserError where the log cannot be written."""
        self._log.begin(self._running)

    def end(self, index: int | None) -> None:
        """Finish the log as that of episode `index`, or with None drop it. One that could not be written is set aside."""
        if index is None:
            self._log.drop()
            shutil.rmtree(self._running, ignore_errors=True)
        elif not self._log.end():
            self._set_aside()
        else:
            name = f"episode_{index:06d}"
            shutil.rmtree(self._folder / name, ignore_errors=True)  # of an episode that its dataset has not got
            (self._running / f"{_RUNNING}.mcap").rename(self._running / f"{name}.mcap")
            metadata = self._running / "metadata.yaml"
            metadata.write_text(metadata.read_text().replace(f"{_RUNNING}.mcap", f"{name}.mcap"))
            self._running.rename(self._folder / name)

    def close(self) -> None:
        """Drop the log of an episode that runs, and hear no more."""
        self.end(None)
        self._log.close()

    def _set_aside(self) -> None:
        left, number = self._running, 0
        if left.exists():
            while (aside := self._folder / f"interrupted_{number:03d}").exists():
                number += 1
            left.rename(aside)
            logger.warning("the raw log of an interrupted episode is in %s", aside)
