"""Closed-loop trials of policies in the lab: the same seeds for every condition, interleaved, resumable."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from robosteer_core.adapters.store import apply_adapter
from robosteer_core.errors import UserError
from robosteer_core.evaluation.trials import Trial, TrialLog, TrialRecord, interleave
from robosteer_core.evaluation.video import TrialVideo
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_core.runtime.observation import Observation
from robosteer_core.runtime.runner import PolicyRunner
from robosteer_core.vla.checkpoint import fingerprint, load_policy
from robosteer_core.vla.policy import Policy
from robosteer_ros.hardware.arm.client import Refused
from robosteer_ros.hardware.station import Station

TRIAL_S = 12.0
GREY = 128


class Condition(BaseModel):
    """What is tried: a policy, with an adapter or without, on a task; `images: grey` blinds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    policy: Path
    adapter: Path | None = None
    images: Literal["camera", "grey"] = "camera"
    task: str


def load_conditions(path: Path) -> list[Condition]:
    """Read a YAML list of conditions. Raises UserError naming the file and the entry that is wrong."""
    if not path.is_file():
        raise UserError(f"no file of conditions at {path}; expected a YAML list of name, policy, adapter, images, task")
    try:
        conditions = TypeAdapter(list[Condition]).validate_python(yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not a list of conditions: {error}") from error
    names = [condition.name for condition in conditions]
    if not names or len(set(names)) < len(names):
        raise UserError(f"{path}: expected conditions with distinct names, found: {', '.join(names) or 'none'}")
    return conditions


class Trials:
    """Runs the trials of `conditions` on seeds `seed`, ..., `seed + count - 1` and logs them in `out/trials.jsonl`.

    A context manager: holds the rig's cameras, arm and lab. Videos of the first `videos` seeds go to `out/videos`.
    """

    def __init__(self, rig: Rig, conditions: list[Condition], count: int, seed: int, out: Path, videos: int) -> None:
        if rig.lab is None:
            raise UserError(f"trials need a rig that can reset its scenes, the simulated lab; rig {rig.name!r} is none")
        self._rig, self._out, self._videos = rig, out, set(range(seed, seed + videos))
        self._conditions = {condition.name: condition for condition in conditions}
        self.schedule = interleave({c.name: c.task for c in conditions}, range(seed, seed + count))
        self._policies = {c.name: _load(c, rig) for c in conditions}
        self.log = TrialLog(out / "trials.jsonl", _about(rig, conditions))
        self._station = Station(rig)
        self._link = LabLink(rig.lab.control, "trials")

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self._station.close()
        self._link.close()
        self.log.close()

    def run(self, on_trial: Callable[[TrialRecord], None]) -> list[TrialRecord]:
        """Run what has not been run yet; returns the records of all."""
        for trial in self.log.remaining(self.schedule):
            record = self._trial(trial)
            self.log.append(record)
            on_trial(record)
        return self.log.records(self.schedule)

    def _trial(self, trial: Trial) -> TrialRecord:
        arm, link = self._station.arm, self._link
        arm.rest()
        if arm.status()["mode"] == "fault":
            arm.recover()
        start_ns = link.reset(trial.task, trial.seed, hold=True)["now_ns"]
        clock = rig_clock(self._rig, "policy")
        video = TrialVideo(self._rig.rates.policy_hz) if trial.seed in self._videos else None
        tape = _Tape(arm)
        runner = PolicyRunner(self._rig, clock, tape, self._station.observe, self._policies[trial.condition](trial.seed))
        began, refused = time.perf_counter(), None
        try:
            arm.start()
        except BaseException:
            clock.close()  # not the policy's fault: nothing is put on record
            raise
        try:
            runner.run(trial.task, TRIAL_S, self._over, _watcher(video))
        except Refused as refusal:
            # A policy that drives the arm into a reflex has failed; the trials go on.
            refused = str(refusal)
        finally:
            end_ns, truth = clock.now_ns(), link.truth()
            arm.stop()
            clock.close()
        statistics = runner.statistics
        wall_s = time.perf_counter() - began
        if video is not None:
            video.save(self._out / "videos" / f"{trial.condition}_{trial.seed}.mp4")
        return TrialRecord(
            trial=trial, success=truth["success"], failure=refused or truth["failure"], robot_s=(end_ns - start_ns) / 1e9, wall_s=wall_s,
            ticks=statistics.ticks, late_ticks=statistics.late_ticks, policy_ms=tuple(statistics.policy_ms), digest=tape.digest(),
        )  # fmt: skip

    def _over(self) -> bool:
        truth = self._link.truth()
        return truth["success"] or truth["failure"] is not None


class _Tape:
    """The arm, with a hash of every chunk that was sent to it."""

    def __init__(self, arm) -> None:
        self._arm, self._hash = arm, hashlib.sha256()
        self.state, self.keep = arm.state, arm.keep

    def send(self, chunk: ActionChunk) -> None:
        for values in (chunk.stamps_ns - chunk.stamps_ns[0], chunk.positions, chunk.quaternions, chunk.gripper):
            self._hash.update(np.ascontiguousarray(values).tobytes())
        self._arm.send(chunk)

    def digest(self) -> str:
        return self._hash.hexdigest()[:16]


def _watcher(video: TrialVideo | None) -> Callable[[Observation], None]:
    if video is None:
        return lambda observation: None
    return lambda observation: video.add([frame.colour for frame in observation.frames.values()])


def _load(condition: Condition, rig: Rig) -> Callable[[int], Callable[[Observation], np.ndarray]]:
    """For a condition: from a trial's seed to the function that acts."""
    policy: Policy = load_policy(condition.policy)
    policy.config.require_rig(rig)
    if condition.adapter is not None:
        apply_adapter(policy, condition.adapter, merged=True)

    def with_seed(seed: int) -> Callable[[Observation], np.ndarray]:
        generator = torch.Generator().manual_seed(seed)

        def act(observation: Observation) -> np.ndarray:
            return policy.act(_greyed(observation) if condition.images == "grey" else observation, generator)

        return act

    return with_seed


def _greyed(observation: Observation) -> Observation:
    from dataclasses import replace

    frames = {name: replace(f, colour=np.full_like(f.colour, GREY)) for name, f in observation.frames.items()}
    return replace(observation, frames=frames)


def _about(rig: Rig, conditions: list[Condition]) -> dict:
    """What the outcomes depend on: weights by their hash, the rig, the length of a trial."""
    return {
        "conditions": {
            c.name: {
                "policy": fingerprint(c.policy), "images": c.images, "task": c.task,
                "adapter": None if c.adapter is None else _hash(c.adapter / "adapter_model.safetensors"),
            }
            for c in conditions
        },
        "rig": rig.model_dump(mode="json"), "trial_s": TRIAL_S,
    }  # fmt: skip


def _hash(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"no adapter at {path.parent}: expected {path.name} in it")
    return hashlib.sha256(path.read_bytes()).hexdigest()
