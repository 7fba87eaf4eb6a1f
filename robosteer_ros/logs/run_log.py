"""The log of one run of a policy: what was on the graph, and what came of it."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from robosteer_core.errors import UserError
from robosteer_core.files import write_text
from robosteer_core.rig import Rig
from robosteer_ros.logs.raw_log import RawLog
from robosteer_ros.ros import Node

SUMMARY = "summary.json"


class RunLog:
    """A folder for each run, named after the time of its beginning, in it the bag `<name>.mcap` and `summary.json`: what was asked
    for, how it ended, the loop's numbers as `policy/status` told them last, and of each topic the count of its messages and the
    nodes that publish it. Without an `outcome` the run has not come to its end: its process was killed.
    """

    def __init__(self, node: Node, rig: Rig, runs: Path, about: Mapping[str, object]) -> None:
        self._log, self._nodes = RawLog(node, rig), defaultdict(set)
        self._began = datetime.now().astimezone()
        self.folder = _free(runs / f"{self._began:%Y-%m-%d_%H-%M-%S}")
        self._told = False
        self._summary = {"began": self._began.isoformat(timespec="seconds"), "rig": rig.name, **about, "outcome": None}

    def begin(self) -> None:
        """Raises UserError where the log cannot be written, and leaves nothing of it."""
        try:
            self._log.begin(self.folder)
            self._write()
        except UserError:
            self._drop()
            raise

    def tell(self, status: Mapping[str, str], **more: object) -> None:
        """Put on record what `policy/status` says of the run, and more."""
        said = {name: status[name] for name in ("policy", "adapter", "device", "outcome", "error") if name in status}
        said["loop"] = {name: float(value) for name, value in status.items() if name.startswith(_NUMBERS)}
        self._summary |= {**said, **more}
        self._told = True
        self._look()

    def end(self) -> str:
        """Finish the log; says what is in it. Of a run that was refused at its start, and told nothing, nothing is left.

        Raises UserError where the summary cannot be written: then it stays as it was at the beginning."""
        if not self._told:
            self._drop()
            return ""
        self._look()
        whole = self._log.end()
        self._log.close()
        counts = self._log.messages
        topics = {name: {"messages": counts[name], "nodes": sorted(self._nodes[name])} for name in sorted(counts)}
        self._summary |= {"log_is_whole": whole, "topics": topics}
        self._write()
        nodes = {node for topic in topics.values() for node in topic["nodes"]}
        told = f"{sum(counts.values())} messages on {len(topics)} topics from {len(nodes)} nodes"
        return f"log of the run: {self.folder} ({told}{'' if whole else '; it breaks off, see what is said above'})"

    def _look(self) -> None:
        """Who publishes; a node that ends before the run does has published, too."""
        for topic, nodes in self._log.publishers().items():
            self._nodes[topic] |= nodes

    def _drop(self) -> None:
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self) -> None:
        try:
            write_text(self.folder / SUMMARY, json.dumps(self._summary, indent=1) + "\n")
        except UserError as error:
            outcome = self._summary["outcome"]
            raise UserError(f"{f'the run itself was {outcome}' if outcome else 'nothing has run'}; {error}") from error


#: How the numbers of the loop are called in the status.
_NUMBERS = ("rate_hz", "ticks", "missed_ticks", "late_ticks", "lateness_ms", "skew_ms", "frame_age_ms", "policy_ms")


def _free(folder: Path) -> Path:
    """The folder, with a number behind its name where it is there already."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}_{number}")
    return free
