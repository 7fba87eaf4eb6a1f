"""Trials through FCI, in a lab that the venue starts by itself."""

import subprocess

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.evaluation.trial_policy import ObjectPolicy
from robosteer_core.evaluation.trial_run import run_trial
from robosteer_core.evaluation.trials import Trial
from robosteer_core.evaluation.venue import Interrupted
from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.arm_venue import ArmVenue

TRIAL = Trial(policy="still", task="press the red button", seed=0)


@pytest.fixture(scope="module")
def venue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("venue")
    with ArmVenue(load_rig("lab"), folder, alone=False) as venue:
        yield venue
    left = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True).stdout.split()
    assert not left, "a process of the lab is left"


class Unlucky:
    """Stands still; at its third decision the lab gets a fault."""

    def __init__(self, venue, kind, **parameters):
        self._fault = lambda: LabLink(venue.rig.lab.control, "test").fault(kind, **parameters)
        self._decisions = 0

    def act(self, observation):
        self._decisions += 1
        if self._decisions == 3:
            self._fault()
        return np.zeros((3, 7))


@pytest.mark.parametrize("error", ["cartesian_reflex", "tau_J_range_violation", "joint_p2p_insufficient_torque_for_planning"])
def test_a_reflex_is_a_failure_of_the_trial(venue, error):
    policy = ObjectPolicy(Unlucky(venue, "reflex", error=error))
    record = run_trial(venue.rig, venue, policy, TRIAL, 3.0)
    assert (record.success, record.failure_class) == (False, "limit") and error in record.failure


@pytest.mark.parametrize(("kind", "parameters"), [("disconnect", {}), ("drop", {"commands": 25})])
def test_a_lost_connection_is_no_outcome_and_the_next_trial_works(venue, kind, parameters):
    with pytest.raises(Interrupted):
        run_trial(venue.rig, venue, ObjectPolicy(Unlucky(venue, kind, **parameters)), TRIAL, 3.0)
    record = run_trial(venue.rig, venue, ObjectPolicy(Unlucky(venue, "drop", commands=1)), TRIAL, 0.5)
    assert record.failure is None and record.failure_class in ("time-out", "never reached")


def test_what_others_refuse_a_policy_is_not_the_arms_refusal(venue):
    with pytest.raises(UserError, match="no parameter 'packets'"):
        run_trial(venue.rig, venue, ObjectPolicy(Unlucky(venue, "drop", packets=1)), TRIAL, 3.0)
