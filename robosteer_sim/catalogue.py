"""What the lab has to offer an evaluation: its tasks and their variations."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import robosteer_core.evaluation
import robosteer_core.runtime
import robosteer_sim
from robosteer_core.evaluation.catalogue import Catalogue
from robosteer_sim.tasks import TASKS, parse
from robosteer_sim.variations import VARIATIONS, parse_variation

#: Of the lab, what only shows it, makes policies for it, or asks for it by other means.
ASIDE = ("catalogue.py", "commands.py", "contact_sheet.py", "environment.py", "pretrain", "rollout.py")
SUFFIXES = (".py", ".png", ".c", ".h")
#: Of the evaluation, what runs a trial and judges it.
TRIALS = ("failure", "ndarray_packing", "remote_policy", "trial_policy", "trial_run", "venue")
PACKAGES = ("mujoco", "franky-sim", "numpy", "scipy")


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
        """SHA-256 over the sources that decide outcomes, and the versions of the packages that do."""
        digest = hashlib.sha256(" ".join(f"{package} {version(package)}" for package in PACKAGES).encode())
        for file in sources():
            digest.update(f"\n{file.parent.name}/{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
        return digest.hexdigest()[:16]


def sources() -> list[Path]:
    """The files that outcomes depend on: scenes, physics, judge, operator, the arm's loop, and the loop of a trial."""
    lab, loop, trials = (Path(package.__file__).parent for package in (robosteer_sim, robosteer_core.runtime, robosteer_core.evaluation))
    found = [file for file in lab.rglob("*") if file.suffix in SUFFIXES and file.relative_to(lab).parts[0] not in ASIDE]
    return sorted([*found, *loop.rglob("*.py"), *(trials / f"{name}.py" for name in TRIALS)])
