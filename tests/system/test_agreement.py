"""Inside one process and through FCI the same trial comes to the same verdict. (More: tests/benchmarks/venue_agreement.py.)"""

from pathlib import Path

import numpy as np
import pytest

import robosteer_sim
from robosteer_core.evaluation.trial_policy import PolicySpec, load_trial_policy
from robosteer_core.evaluation.trial_run import run_trial
from robosteer_core.evaluation.trials import Trial
from robosteer_core.evaluation.venue import venue_class
from robosteer_core.rig import load_rig
from robosteer_sim.environment import LabEnvironment
from robosteer_sim.scripted import ScriptedPolicy

BASE = str(Path(robosteer_sim.__file__).parent / "pretrain" / "base")
TOUCH, PRESS = "touch the red button", "press the red button"
TRIALS = [("scripted", PRESS, 1), ("scripted", TOUCH, 2), (BASE, TOUCH, 0)]
SECONDS = 12.0


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """For each venue: records of the trials, and the places of the end effector at every tick, (ticks, 3) m."""
    rig, found = load_rig("lab"), {}
    policies = {name: load_trial_policy(PolicySpec(name=name, policy=name), rig) for name in ("scripted", BASE)}
    for through in ("lab", "arm"):
        with venue_class(through)(rig, tmp_path_factory.mktemp(through), False) as venue:
            for name, task, seed in TRIALS:
                path = []
                record = run_trial(
                    rig, venue, policies[name], Trial(policy=name, task=task, seed=seed), SECONDS,
                    lambda observation, path=path: path.append(observation.arm.measured.position),
                )  # fmt: skip
                found[through, name, task, seed] = record, np.array(path)
    return found


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: f"{Path(trial[0]).name}-{trial[1]}")
def test_verdict_and_path_are_those_through_fci(outcomes, trial):
    (here, path_here), (there, path_there) = outcomes["lab", *trial], outcomes["arm", *trial]
    assert here.success and there.success
    assert abs(here.ticks - there.ticks) <= 1
    ticks = min(len(path_here), len(path_there))
    assert np.linalg.norm(path_here[:ticks] - path_there[:ticks], axis=1).max() < 0.003


def test_the_environment_is_the_same_arm_as_the_trials(outcomes):
    """The operator's actions, step by step through Gymnasium, lead along the very path of its trial in one process."""
    _, task, seed = TRIALS[0]
    record, path = outcomes["lab", *TRIALS[0]]
    environment = LabEnvironment(task, images=False)
    observation, info = environment.reset(seed=seed)
    act, terminated, mine = ScriptedPolicy(load_rig("lab")).begin(record.trial, lambda: info), False, []
    while not terminated:
        mine.append(observation["state"][:3])
        observation, reward, terminated, truncated, info = environment.step(act(None)[0])
    assert reward == 1.0 and np.abs(np.array(mine) - path[: len(mine)]).max() < 1e-6
