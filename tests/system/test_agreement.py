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
from robosteer_sim.catalogue import LabCatalogue
from robosteer_sim.environment import LabEnvironment
from robosteer_sim.scripted import ScriptedPolicy

BASE = str(Path(robosteer_sim.__file__).parent / "pretrain" / "base")
TOUCH, PRESS, MUG = "touch the red button", "press the red button", "pick up the mug"
#: What comes of each trial: None for a success, else the lab's word for the failure.
TRIALS = {
    ("scripted", PRESS, 1): None,
    ("scripted", MUG, 0): None,
    ("mistaken", TOUCH, 2): "pressed",
    (BASE, TOUCH, 0): None,
}
BY_HAND = [trial for trial in TRIALS if trial[0] != BASE]


class Mistaken(ScriptedPolicy):
    """Presses, whatever it is told."""

    def begin(self, trial, truth):
        return super().begin(trial.model_copy(update={"task": PRESS}), truth)


def named(trial):
    return f"{Path(trial[0]).name}-{trial[1]}"


def policy_of(name, rig):
    return Mistaken(rig) if name == "mistaken" else load_trial_policy(PolicySpec(name=name, policy=name), rig)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """For each venue: records of the trials, and the places of the end effector at every tick, (ticks, 3) m."""
    rig, found, catalogue = load_rig("lab"), {}, LabCatalogue()
    policies = {name: policy_of(name, rig) for name in {name for name, _, _ in TRIALS}}
    for through in ("lab", "arm"):
        with venue_class(through)(rig, tmp_path_factory.mktemp(through), False) as venue:
            for name, task, seed in TRIALS:
                path = []
                record = run_trial(
                    rig, venue, policies[name], Trial(policy=name, task=task, seed=seed), catalogue.seconds(task),
                    lambda observation, path=path: path.append(observation.arm.measured.position),
                )  # fmt: skip
                found[through, name, task, seed] = record, np.array(path)
    return found


@pytest.mark.parametrize("trial", TRIALS, ids=named)
def test_verdict_and_path_are_those_through_fci(outcomes, trial):
    (here, path_here), (there, path_there) = outcomes["lab", *trial], outcomes["arm", *trial]
    assert (here.success, here.failure, here.failure_class) == (there.success, there.failure, there.failure_class)
    assert here.success == (TRIALS[trial] is None) and (here.success or here.failure.startswith(TRIALS[trial]))
    assert abs(here.ticks - there.ticks) <= 1
    ticks = min(len(path_here), len(path_there))
    assert np.linalg.norm(path_here[:ticks] - path_there[:ticks], axis=1).max() < 0.003


@pytest.mark.parametrize("trial", BY_HAND, ids=named)
def test_the_environment_is_the_same_arm_as_the_trials_and_gives_their_verdict(outcomes, trial):
    """The operator's actions, step by step through Gymnasium, lead along the very path of its trial in one process."""
    name, task, seed = trial
    record, path = outcomes["lab", *trial]
    environment = LabEnvironment(task, images=False)
    observation, info = environment.reset(seed=seed)
    act, terminated, truncated, mine = policy_of(name, load_rig("lab")).begin(record.trial, lambda: info), False, False, []
    while not terminated and not truncated:
        mine.append(observation["state"][:3])
        observation, reward, terminated, truncated, info = environment.step(act(None)[0])
    assert terminated and (reward, info["success"], info["failure"]) == (float(record.success), record.success, record.failure)
    assert np.abs(np.array(mine) - path[: len(mine)]).max() < 1e-6
