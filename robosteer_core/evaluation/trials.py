"""Trials: which are to be run, in which order, and the log that keeps their outcomes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robosteer_core.errors import UserError
from robosteer_core.evaluation.failure import FailureClass


class Cell(BaseModel):
    """What a success rate is of: one policy on one task under one variation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(min_length=1, description="name of what is tried")
    task: str = Field(min_length=1, description="the instruction")
    variation: str = Field(default="none", min_length=1)


class Trial(Cell):
    """One try of a cell, in the scene of one seed."""

    seed: int = Field(ge=0)

    @property
    def cell(self) -> Cell:
        return Cell(policy=self.policy, task=self.task, variation=self.variation)


class TrialRecord(BaseModel):
    """What came of a trial. Robot time is the clock's; wall times depend on the machine and on its load."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trial: Trial
    success: bool
    failure: str | None = Field(default=None, description="why it ended early without success, e.g. `wrong object: red_cube`")
    failure_class: FailureClass | None = Field(default=None, description="see `failure.classify`")
    robot_s: float = Field(ge=0, description="robot time from the first tick to the end, seconds")
    wall_s: float = Field(ge=0, description="wall time of the same, seconds")
    ticks: int = Field(ge=0, description="ticks of the policy's loop")
    late_ticks: int = Field(ge=0, description="ticks that the loop missed, being a period late or more")
    policy_ms: tuple[float, ...] = Field(default=(), description="wall milliseconds of each inference")
    interventions: dict[str, int] = Field(default={}, description="how often each software limit acted, by name")
    digest: str = Field(default="", description="hash of the commands sent; equal digests mean identical trials")


def interleave(cells: Sequence[Cell], seeds: Sequence[int]) -> list[Trial]:
    """Trials of all `cells`, seed by seed, all cells of a seed before the next seed.

    The order within a seed rotates, so that whatever drifts (a battery, the light, the operator) meets every cell alike,
    and a run cut short has tried all cells on nearly the same seeds.
    """
    schedule = []
    for turn, seed in enumerate(seeds):
        first = turn % len(cells) if cells else 0
        schedule += [Trial(**cell.model_dump(), seed=seed) for cell in [*cells[first:], *cells[:first]]]
    return schedule


class TrialLog:
    """Outcomes of trials as JSON lines, on the disk before the next trial starts.

    The first line is `about`: what the trials depend on (checkpoints, rig, numbers of milliseconds), so that a log is
    never continued with something else. Each further line is a TrialRecord. A process killed in the middle of a write
    leaves a last line without its end; opening the log drops that line, and its trial is run again.
    """

    def __init__(self, path: Path, about: Mapping[str, object]) -> None:
        """Open or create the log. Raises UserError if it belongs to other trials or is damaged before its last line."""
        self.path = path
        self._records: dict[Trial, TrialRecord] = {}
        header = json.dumps({"about": about}, sort_keys=True, allow_nan=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {path.parent} for trials: {error.strerror}; give another path") from error
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; give another path") from error
        try:
            self._continue(header)
        except BaseException:
            self._file.close()
            raise

    def _continue(self, header: str) -> None:
        try:
            # Before anything is read: a last line without its end may be one that another process is about to end.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another process writes to {self.path}; wait for it, or give another path") from error
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if lines:
            self._check_header(lines[0], json.loads(header)["about"])
            for number, line in enumerate(lines[1:], start=2):
                self._read_record(line, number)
        if len(whole) < len(content):
            self._file.truncate(len(whole))
        if not lines:
            self._append(header)

    def _check_header(self, line: bytes, about: Mapping[str, object]) -> None:
        try:
            found = json.loads(line)["about"]
            differing = sorted(key for key in found.keys() | about.keys() if found.get(key) != about.get(key))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self.path}: expected a log of trials, found a first line that is none; give another path") from error
        if differing:
            differences = "; ".join(f"{key}: {found.get(key)!r} there, {about.get(key)!r} now" for key in differing)
            raise UserError(f"{self.path} holds trials of something else ({differences}); remove it or give another path")

    def _read_record(self, line: bytes, number: int) -> None:
        try:
            record = TrialRecord.model_validate_json(line)
        except ValidationError as error:
            reason = error.errors()[0]
            where = ".".join(map(str, reason["loc"])) or "line"
            raise UserError(
                f"{self.path}, line {number}: expected the record of a trial, found a damaged one ({where}: {reason['msg']}); "
                "remove the line to run its trial again"
            ) from error
        if record.trial in self._records:
            raise UserError(f"{self.path}, line {number}: {record.trial} is there twice; remove one of the two lines")
        self._records[record.trial] = record

    def _append(self, line: str) -> None:
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def append(self, record: TrialRecord) -> None:
        """Keep an outcome; it is on the disk on return. ValueError if the trial already has one."""
        if record.trial in self._records:
            raise ValueError(f"{record.trial} already has an outcome in {self.path}")
        self._append(record.model_dump_json())
        self._records[record.trial] = record

    def remaining(self, schedule: Iterable[Trial]) -> list[Trial]:
        """The trials of `schedule` that have no outcome yet, in its order."""
        return [trial for trial in schedule if trial not in self._records]

    def records(self, schedule: Iterable[Trial]) -> list[TrialRecord]:
        """The outcomes of `schedule`, in its order, of those trials that have one."""
        return [self._records[trial] for trial in schedule if trial in self._records]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> TrialLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def by_seed(records: Iterable[TrialRecord], policy: str) -> dict[int, TrialRecord]:
    """The records of one policy that was tried once per seed."""
    return {record.trial.seed: record for record in records if record.trial.policy == policy}
