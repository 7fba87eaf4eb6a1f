"""What the lab has to offer an evaluation: its tasks and their variations."""

from __future__ import annotations

import hashlib
from pathlib import Path

import robosteer_core.runtime
import robosteer_sim
from robosteer_core.evaluation.catalogue import Catalogue
from robosteer_sim.tasks import TASKS, parse
from robosteer_sim.variations import VARIATIONS, parse_variation


class LabCatalogue(Catalogue):
    """The tasks of `robosteer_sim.tasks` and the variations of `robosteer_sim.variations`."""

    tasks = tuple(TASKS)
    variations = VARIATIONS

    def check_task(self, text: str) -> None:
        parse(text)

    def check_variation(self, text: str) -> None:
        parse_variation(text)

    def seconds(self, task: str) -> float:
        return parse(task).longest_s

    def fingerprint(self) -> str:
        """SHA-256 over the sources of the lab and of the loop that moves its arm."""
        digest = hashlib.sha256()
        for package in (robosteer_sim, robosteer_core.runtime):
            for file in sorted(Path(package.__file__).parent.rglob("*.py")):
                digest.update(file.read_bytes())
        return digest.hexdigest()[:16]
