"""Adapters side by side: each acts as if it were alone, and switching reads nothing."""

import copy
import shutil

import pytest
import torch
from adapted import record, trained, velocity

from robosteer_core.adapters.side_by_side import SideBySide
from robosteer_core.adapters.sparse_lora import adapted_modules, merge, switch
from robosteer_core.adapters.store import apply_adapter, save_adapter
from robosteer_core.errors import UserError
from robosteer_core.vla.config import Normalisation
from robosteer_core.vla.sites import Head

PRESS, STACK = (Head("vlm", 0, 1), Head("vlm", 1, 3)), (Head("vlm", 1, 3), Head("vlm", 1, 6))


@pytest.fixture
def folders(base, tmp_path):
    """Two adapters that share a head; one also trains feed-forward layers and action modules, under other statistics."""
    press, stack = copy.deepcopy(base), copy.deepcopy(base)
    save_adapter(trained(press, PRESS), tmp_path / "press", record(base, PRESS))
    other = record(base, STACK, feed_forward=True, action_modules=True)
    other = other.model_copy(update={"action": Normalisation(mean=(1.0,) * 7, std=(2.0,) * 7)})
    save_adapter(trained(stack, STACK, feed_forward=True, action_modules=True), tmp_path / "stack", other)
    return {"press": tmp_path / "press", "stack": tmp_path / "stack"}


@pytest.mark.parametrize("order", [("press", "stack"), ("stack", "press")])
def test_each_acts_as_if_it_were_alone_in_any_order(base, folders, order):
    plain, alone = velocity(base), {}
    for name, folder in folders.items():
        policy = copy.deepcopy(base)
        apply_adapter(policy, folder)
        alone[name] = velocity(policy), policy.config
    assert all((values - plain).abs().max() > 1e-3 for values, _ in alone.values())
    adapters = SideBySide(base, {name: folders[name] for name in order})
    assert adapters.names == order and adapters.active is None and torch.equal(velocity(base), plain)
    for folder in folders.values():
        shutil.rmtree(folder)  # whatever it needs is in memory
    for name in ("press", "stack", None, "stack", "press", None):
        adapters.use(name)
        assert adapters.active == name
        wanted, config = (plain, adapters._base) if name is None else alone[name]
        assert torch.equal(velocity(base), wanted) and base.config == config
        assert not any(parameter.requires_grad for parameter in base.model.parameters())


def test_the_active_one_alone_is_merged(base, folders):
    adapters = SideBySide(base, folders)
    adapters.use("stack")
    wanted = velocity(base)
    merge(base.model)
    assert not adapted_modules(base.model) and (velocity(base) - wanted).abs().max() < 1e-5


def test_saving_one_of_two_writes_that_one(base, folders, tmp_path):
    SideBySide(base, folders).use("press")
    for name, extra in (("press", {}), ("stack", {"feed_forward": True, "action_modules": True})):
        save_adapter(base, tmp_path / "again" / name, record(base, {"press": PRESS, "stack": STACK}[name], **extra), name=name)
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            assert (tmp_path / "again" / name / file).read_bytes() == (folders[name] / file).read_bytes()


def test_a_name_that_was_not_loaded_is_refused_and_changes_nothing(base, folders):
    adapters = SideBySide(base, folders)
    adapters.use("press")
    with pytest.raises(UserError, match="out of press, stack; found 'wave'"):
        adapters.use("wave")
    assert adapters.active == "press"
    with pytest.raises(UserError, match="letters, digits and underscores; found 'a.b'"):
        SideBySide(base, {"a.b": folders["press"]})


def test_an_adapter_that_does_not_fit_leaves_the_base_acting(base, folders):
    (folders["stack"] / "heads.json").unlink()
    plain = velocity(base)
    with pytest.raises(UserError, match="no adapter in"):
        SideBySide(base, folders)
    assert torch.equal(velocity(base), plain)
    switch(base.model, None)
