"""One trial, wherever it takes place: the same loop in every venue."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.evaluation.failure import classify
from robosteer_core.evaluation.trial_policy import Act, TrialPolicy
from robosteer_core.evaluation.trials import Trial, TrialRecord
from robosteer_core.evaluation.venue import Interrupted, Venue
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.observation import Observation
from robosteer_core.runtime.runner import ArmLink, PolicyRunner


def run_trial(
    rig: Rig, venue: Venue, policy: TrialPolicy, trial: Trial, seconds: float, watch: Callable[[Observation], None] | None = None
) -> TrialRecord:
    """Run `trial` until success, failure, a refusal of the arm or `seconds` of robot time; `watch` sees every tick.

    A policy that drives the arm into a reflex has failed. A policy that cannot answer raises, and nothing is on record;
    so it is, with Interrupted, where the network to the robot fails.
    """
    with venue.begin(trial) as stage:
        start_ns, began, refused = stage.clock.now_ns(), time.perf_counter(), None
        tape = _Tape(stage.arm)
        act = checked(policy.begin(trial, stage.truth), len(rig.action_space.names))
        runner = PolicyRunner(rig, stage.clock, tape, stage.observe, act, policy.executed, policy.charged)

        def over() -> bool:
            truth = stage.truth()
            return truth["success"] or truth["failure"] is not None

        try:
            runner.run(trial.task, seconds, over, watch or (lambda observation: None))
        except _ArmRefused as refusal:
            interruption = stage.interruption()
            if interruption is not None:
                raise Interrupted(f"{trial}: {interruption}") from refusal
            refused = str(refusal)
        end_ns, truth, interventions = stage.clock.now_ns(), stage.truth(), stage.interventions()
        wall_s = time.perf_counter() - began
    statistics = runner.statistics
    return TrialRecord(
        trial=trial, success=truth["success"], failure=None if truth["success"] else refused or truth["failure"],
        failure_class=classify(truth, refused is not None, interventions),
        robot_s=(end_ns - start_ns) / 1e9, wall_s=wall_s, ticks=statistics.ticks, late_ticks=statistics.late_ticks,
        policy_ms=tuple(statistics.policy_ms), interventions=dict(sorted(interventions.items())), digest=tape.digest(),
    )  # fmt: skip


def checked(act: Act, width: int) -> Act:
    """`act`, which raises UserError where it does not give actions (chunk, width)."""

    def judged(observation: Observation) -> np.ndarray:
        found = act(observation)
        try:
            actions = np.asarray(found, dtype=float)
        except (TypeError, ValueError):
            raise UserError(f"the policy gave {type(found).__name__} instead of actions of shape (chunk, {width})") from None
        if actions.ndim != 2 or not len(actions) or actions.shape[1] != width:
            raise UserError(f"the policy gave actions of shape {actions.shape}, expected (chunk, {width}), chunk at least 1")
        return actions

    return judged


class _ArmRefused(Exception):
    """The arm, and nobody else whom a policy may ask something, said no."""


class _Tape:
    """The arm, with a hash of every chunk that was sent to it. Raises _ArmRefused for the arm's Refused."""

    def __init__(self, arm: ArmLink) -> None:
        self._arm, self._hash = arm, hashlib.sha256()
        self.state = arm.state

    def send(self, chunk: ActionChunk) -> None:
        for values in (chunk.stamps_ns - chunk.stamps_ns[0], chunk.positions, chunk.quaternions, chunk.gripper):
            self._hash.update(np.ascontiguousarray(values).tobytes())
        with _refusals():
            self._arm.send(chunk)

    def keep(self) -> None:
        with _refusals():
            self._arm.keep()

    def digest(self) -> str:
        return self._hash.hexdigest()[:16]


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Refused as refusal:
        raise _ArmRefused(str(refusal)) from refusal
