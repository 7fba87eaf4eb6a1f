"""The scripted operator as a policy that can be tried beside others."""

from __future__ import annotations

import numpy as np

from robosteer_core.evaluation.trial_policy import Act, TrialPolicy, Truth
from robosteer_core.evaluation.trials import Trial
from robosteer_core.rig import Rig
from robosteer_sim.demonstrate import TREMOR_M
from robosteer_sim.operator import Operator


class ScriptedPolicy(TrialPolicy):
    """Looks at the ground truth at every tick, with the unsteady hand of the demonstrations; nothing is inferred."""

    executed = 1
    charged = False

    def __init__(self, rig: Rig) -> None:
        pass

    def identity(self) -> object:
        return {"scripted": TREMOR_M}

    def begin(self, trial: Trial, truth: Truth) -> Act:
        operator = Operator(trial.task, trial.seed, TREMOR_M)
        return lambda observation: np.atleast_2d(operator.act(truth()))
