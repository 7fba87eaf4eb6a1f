"""Trials: which are to be run, in which order, and the log that keeps their outcomes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robosteer_core.errors import UserError


class Trial(BaseModel):
    """One try of one task under one condition (which policy, which images), from the scene of one seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    condition: str = Field(min_length=1)
    task: str = Field(min_length=1)
    seed: int = Field(ge=0)


class TrialRecord(BaseModel):
    """What came of a trial. Robot time is the clock's; wall times depend on the machine and on its load."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trial: Trial
    success: bool
    failure: str | None = Field(default=None, description="why it ended early without success, e.g. `wrong object: red_cube`")
    robot_s: float = Field(ge=0, description="robot time from the first tick to the end, seconds")
    wall_s: float = Field(ge=0, description="wall time of the same, seconds")
    ticks: int = Field(ge=0, description="ticks of the policy's loop")
    late_ticks: int = Field(ge=0, description="ticks that the loop missed, being a period late or more")
    policy_ms: tuple[float, ...] = Field(default=(), description="wall milliseconds of each inference")
    digest: str = Field(default="", description="hash of the commands sent; equal digests mean identical trials")


def interleave(conditions: Mapping[str, str], seeds: Sequence[int]) -> list[Trial]:
    """Trials of all `conditions` (name to task), seed by seed, all conditions of a seed before the next seed.

    The order within a seed rotates, so that whatever drifts (a battery, the light, the operator) meets every condition
    alike, and a run cut short has tried all conditions on nearly the same seeds.
    """
    names = list(conditions)
    schedule = []
    for turn, seed in enumerate(seeds):
        first = turn % len(names) if names else 0
        schedule += [Trial(condition=name, task=conditions[name], seed=seed) for name in names[first:] + names[:first]]
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
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if lines:
            self._check_header(lines[0], json.loads(header)["about"])
            for number, line in enumerate(lines[1:], start=2):
                self._read_record(line, number)
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        self._file = path.open("ab")
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


def by_seed(records: Iterable[TrialRecord], condition: str) -> dict[int, TrialRecord]:
    """The records of one condition."""
    return {record.trial.seed: record for record in records if record.trial.condition == condition}
