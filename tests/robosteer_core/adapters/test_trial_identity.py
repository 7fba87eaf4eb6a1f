"""In an evaluation an adapter is known by all that it changes: weights, scale, statistics."""

import copy

import pytest
import torch
from adapted import HEADS, record, trained

from robosteer_core.adapters.store import save_adapter
from robosteer_core.errors import UserError
from robosteer_core.evaluation.trial_policy import PolicySpec, load_trial_policy
from robosteer_core.rig import load_rig
from robosteer_core.vla.checkpoint import load_policy


@pytest.mark.parametrize("heads", [HEADS, ()], ids=["heads", "none"])
def test_adapters_of_other_statistics_are_other_policies(base, tmp_path, heads):
    def identity(name, **changes):
        policy = trained(copy.deepcopy(base), heads) if heads else base
        save_adapter(policy, tmp_path / name, record(base, heads).model_copy(update=changes))
        spec = PolicySpec(name=name, policy=str(base.source), adapter=tmp_path / name)
        return load_trial_policy(spec, load_rig("lab")).identity()

    other = base.config.state.model_copy(update={"mean": (0.5,) * 7})
    assert identity("first") == identity("same") != identity("other", state=other)


def test_another_adapter_in_the_base_that_is_there_is_as_if_loaded_with_it(base, tmp_path):
    for name, heads, extra in (("one", HEADS, {"action_modules": True}), ("two", HEADS[1:], {}), ("three", HEADS[:1], {"feed_forward": True})):
        save_adapter(trained(copy.deepcopy(base), heads, **extra), tmp_path / name, record(base, heads, **extra))
    other = copy.deepcopy(base)
    other.model.action_out_proj.bias.data += 1
    other.save(tmp_path / "other")
    save_adapter(trained(load_policy(tmp_path / "other")), tmp_path / "foreign", record(load_policy(tmp_path / "other")))

    def loaded(adapter):
        return load_trial_policy(PolicySpec(name="base", policy=str(base.source), adapter=adapter), load_rig("lab"))

    def same(one, two):
        found, wanted = one._policy.model.state_dict(), two._policy.model.state_dict()
        weights = found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
        return weights and one._policy.config == two._policy.config and one.identity() == two.identity()

    policy = loaded(None)
    for adapter in (tmp_path / "one", tmp_path / "two", None, tmp_path / "three", tmp_path / "one"):
        policy.use(adapter)
        assert same(policy, loaded(adapter))
    assert not same(policy, loaded(None))
    with pytest.raises(UserError, match="was made for the base"):
        policy.use(tmp_path / "foreign")
    assert same(policy, loaded(tmp_path / "one"))
    other.save(base.source)
    with pytest.raises(UserError, match=f"the policy in {base.source} has changed since it was loaded"):
        policy.use(tmp_path / "two")


def test_a_device_that_is_not_there_is_refused_in_words(base):
    with pytest.raises(UserError, match="the policy cannot run on 'moon' here: Expected one of cpu, cuda"):
        load_trial_policy(PolicySpec(name="base", policy=str(base.source), device="moon"), load_rig("lab"))
