"""An evaluation: policies x tasks x variations on the same seeds, interleaved, resumable, in several processes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from robosteer_core.errors import UserError
from robosteer_core.evaluation.catalogue import Catalogue, load_catalogue
from robosteer_core.evaluation.statistics import SuccessRate
from robosteer_core.evaluation.trial_policy import PolicySpec
from robosteer_core.evaluation.trials import Cell, Trial, TrialLog, TrialRecord, interleave
from robosteer_core.evaluation.venue import venue_class
from robosteer_core.evaluation.worker import Job, Setting, run_jobs
from robosteer_core.rig import Rig

logger = logging.getLogger(__name__)

RUNS, LOG = Path("runs"), "trials.jsonl"


class Evaluation:
    """Runs trials of `cells` on seeds `seed`, ..., `seed + count - 1`, and keeps them in `out/trials.jsonl`.

    `policies` by the names that the cells use: a PolicySpec, a TrialPolicy, or any object with `act(observation)` ->
    (chunk, 7); objects must be picklable where `processes` is more than 1, and stay open. `out` None: a folder in runs/
    named after what is tried. Trials of the first `filmed` seeds and the first `failures_filmed` failures of each cell become videos.

    Raises UserError, before anything is written, where a policy, task, variation or venue is unknown, where `out` holds
    trials of something else, and where a policy without an identity would be tried in a folder that may hold trials.
    """

    def __init__(
        self, rig: Rig, policies: Mapping[str, PolicySpec | object], cells: Sequence[Cell], count: int, seed: int = 0,
        out: Path | None = None, through: str = "lab", processes: int = 1, filmed: int = 0, failures_filmed: int = 3,
        catalogue: Catalogue | None = None,
    ) -> None:  # fmt: skip
        if not cells or count < 1 or processes < 1:
            raise UserError(f"expected cells, trials and processes, at least one of each; found {len(cells)}, {count}, {processes}")
        if rig.lab is None:
            raise UserError(f"trials need a rig that can reset its scenes, the simulated lab; rig {rig.name!r} is none")
        catalogue = catalogue or load_catalogue()
        for cell in cells:
            catalogue.check_task(cell.task)
            catalogue.check_variation(cell.variation)
        venue_class(through)
        self._seconds = {cell.task: catalogue.seconds(cell.task) for cell in cells}
        self._processes, self._filmed, self._failures_filmed = processes, filmed, failures_filmed
        self._first_seed = seed
        self.cells = tuple(cells)
        self.schedule = interleave(self.cells, range(seed, seed + count))
        scratch = Setting(rig, through, dict(policies), Path())
        self._loaded = {name: scratch.policy(name) for name in policies}
        self.about = {
            "policies": {name: policy.identity() for name, policy in self._loaded.items()},
            "rig": rig.model_dump(mode="json"), "through": through, "lab": catalogue.fingerprint(),
            "trial_s": {task: self._seconds[task] for task in sorted(self._seconds)},
        }  # fmt: skip
        nameless = [name for name, identity in self.about["policies"].items() if identity is None]
        if nameless and (out is None or (out / LOG).exists()):
            raise UserError(
                f"the policies {', '.join(nameless)} do not say what they are, so that trials of one could pass for another's; "
                "give each an attribute `identity` (e.g. a hash of its weights), or a new folder to `out`"
            )
        self.out = out or RUNS / f"eval-{self._name(seed)}"
        self._setting = Setting(rig, through, dict(policies), self.out / "logs")
        self.log = TrialLog(self.out / LOG, self.about)
        if processes > 1:
            # Each process loads its own; what was loaded to see that it can be is let go.
            self._let_go()

    def _name(self, seed: int) -> str:
        content = json.dumps([self.about, [cell.model_dump() for cell in self.cells], seed], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:10]

    def __enter__(self) -> Evaluation:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()
        self.log.close()

    def _let_go(self) -> None:
        """Of the policies that were loaded here; objects are the caller's."""
        for name, policy in self._loaded.items():
            if self._setting.loads(name):
                policy.close()
        self._loaded = {}

    def records(self) -> list[TrialRecord]:
        """The outcomes so far, in the order of the schedule."""
        return self.log.records(self.schedule)

    def run(self, on_trial: Callable[[TrialRecord], None] = lambda record: None) -> list[TrialRecord]:
        """Run what has not been run yet; returns the records of all."""
        jobs = [self._job(trial, film=self._seen(trial)) for trial in self.log.remaining(self.schedule)]
        for _, record in run_jobs(self._setting, jobs, self._processes, self._loaded):
            self.log.append(record)
            on_trial(record)
        return self.records()

    def _job(self, trial: Trial, film: bool) -> Job:
        return Job(trial, self._seconds[trial.task], self.video(trial) if film else None)

    def video(self, trial: Trial) -> Path:
        return video_path(self.out, trial)

    def _seen(self, trial: Trial) -> bool:
        return trial.seed < self._first_seed + self._filmed

    def unseen(self) -> list[TrialRecord]:
        """The trials that somebody will want to see and that are not filmed yet: the first failures of each cell."""
        failures, found = Counter(), []
        for record in self.records():
            wanted = self._seen(record.trial)
            if not record.success and failures[record.trial.cell] < self._failures_filmed:
                failures[record.trial.cell] += 1
                wanted = True
            if wanted and not self.video(record.trial).exists():
                found.append(record)
        return found

    def film(self, on_film: Callable[[TrialRecord], None] = lambda record: None) -> None:
        """Film the unseen. A trial repeats exactly, so that it is filmed only after it has failed.

        Where a film fails there is a warning: the outcomes are there.
        """
        films = self.unseen()
        digests = {record.trial: record.digest for record in films}
        jobs = [self._job(record.trial, film=True) for record in films]
        try:
            for job, record in run_jobs(self._setting, jobs, self._processes, self._loaded):
                on_film(record)
                if record.digest != digests[job.trial]:
                    logger.warning("%s: the filmed repetition differs from the trial; its video shows another course", job.trial)
        except Exception as error:
            logger.warning("not all is filmed; the same command again goes on: %s", error, exc_info=not isinstance(error, UserError))


def video_path(out: Path, trial: Trial) -> Path:
    """Where the trial's video is, or would be, in the folder of an evaluation."""
    # Paths and instructions are longer than a file's name may be, and alike in what a short one can hold of them.
    words = (trial.policy[-40:], trial.task[:60], trial.variation[:40], str(trial.seed))
    told = "_".join("".join(c if c.isascii() and c.isalnum() else "-" for c in word) for word in words)
    return out / "videos" / f"{told}_{hashlib.sha256(trial.model_dump_json().encode()).hexdigest()[:8]}.mp4"


def summary(records: Sequence[TrialRecord], cells: Sequence[Cell]) -> list[dict]:
    """One entry per cell that has been tried, with Wilson's 95 % interval and the wall seconds of its trials."""
    rows = []
    for cell in cells:
        mine = [record for record in records if record.trial.cell == cell]
        if mine:
            rate = SuccessRate.of([record.success for record in mine])
            rows.append({**cell.model_dump(), **rate.model_dump(mode="json"), "wall_s": sum(record.wall_s for record in mine)})
    return rows
