"""In an evaluation an adapter is known by all that it changes: weights, scale, statistics."""

import copy

import pytest
from adapted import HEADS, record, trained

from robosteer_core.adapters.store import save_adapter
from robosteer_core.errors import UserError
from robosteer_core.evaluation.trial_policy import PolicySpec, load_trial_policy
from robosteer_core.rig import load_rig


@pytest.mark.parametrize("heads", [HEADS, ()], ids=["heads", "none"])
def test_adapters_of_other_statistics_are_other_policies(base, tmp_path, heads):
    def identity(name, **changes):
        policy = trained(copy.deepcopy(base), heads) if heads else base
        save_adapter(policy, tmp_path / name, record(base, heads).model_copy(update=changes))
        spec = PolicySpec(name=name, policy=str(base.source), adapter=tmp_path / name)
        return load_trial_policy(spec, load_rig("lab")).identity()

    other = base.config.state.model_copy(update={"mean": (0.5,) * 7})
    assert identity("first") == identity("same") != identity("other", state=other)


def test_a_device_that_is_not_there_is_refused_in_words(base):
    with pytest.raises(UserError, match="the policy cannot run on 'moon' here: Expected one of cpu, cuda"):
        load_trial_policy(PolicySpec(name="base", policy=str(base.source), device="moon"), load_rig("lab"))
