"""Success of a policy inside one process, without FCI: quick figures while a base policy is being made."""

from __future__ import annotations

from pathlib import Path

from robosteer_core.evaluation.trial_policy import SampledPolicy
from robosteer_core.evaluation.trial_run import run_trial
from robosteer_core.evaluation.trials import Trial
from robosteer_core.rig import Rig
from robosteer_core.vla.policy import Policy
from robosteer_sim.lab_venue import LabVenue

SECONDS = 12.0


def successes(policy: Policy, rig: Rig, instruction: str, seeds: list[int]) -> tuple[int, list[str]]:
    """How many of the seeds' trials succeed within 12 s, and how the others failed."""
    with LabVenue(rig, Path(), alone=True) as venue:
        trials = [Trial(policy="base", task=instruction, seed=seed) for seed in seeds]
        records = [run_trial(rig, venue, SampledPolicy(policy), trial, SECONDS) for trial in trials]
    return sum(r.success for r in records), [r.failure or r.failure_class for r in records if not r.success]
