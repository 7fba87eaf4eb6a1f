"""Success of a policy inside one process, without FCI: quick figures while a base policy is being made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robosteer_core.evaluation.trial_policy import SampledPolicy
from robosteer_core.evaluation.trial_run import run_trial
from robosteer_core.evaluation.trials import Trial
from robosteer_core.rig import Rig
from robosteer_core.vla.policy import Policy
from robosteer_sim.lab_venue import LabVenue
from robosteer_sim.tasks import parse


def successes(policy: Policy, rig: Rig, instructions: Sequence[str], seeds: Sequence[int]) -> tuple[int, list[str]]:
    """How many of the seeds' trials, which take the instructions in turn, succeed in their time, and how the others failed."""
    with LabVenue(rig, Path(), alone=True) as venue:
        trials = [Trial(policy="base", task=instructions[i % len(instructions)], seed=seed) for i, seed in enumerate(seeds)]
        records = [run_trial(rig, venue, SampledPolicy(policy), trial, parse(trial.task).longest_s) for trial in trials]
    return sum(r.success for r in records), [r.failure or r.failure_class for r in records if not r.success]
