"""Every family is finetuned by its own loss, and nothing is kept for the way back below the lowest adapted layer."""

import html

import hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from robosteer_core.adapters.sparse_lora import add_adapter
from robosteer_core.adapters.targets import adapter_targets
from robosteer_core.finetune.batches import Batches
from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.finetune.train import _source, finetune
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.vla.checkpoint import load_policy
from robosteer_core.vla.sites import Head

CONFIG = FinetuneConfig(steps=12, batch_size=6, draws=2, rank=4, alpha=4, learning_rate=2e-2)


@pytest.fixture(params=hub.FAMILIES)
def policy(request, tmp_path):
    hub.FAMILIES[request.param](tmp_path / "base")
    return load_policy(tmp_path / "base")


def demonstrations_of(policy):
    """Two episodes of three frames, the same action in all."""
    random, config = np.random.default_rng(0), policy.config
    images = {name: random.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8) for name in config.cameras}
    normal = np.full((6, len(config.action_names)), 0.5, np.float32)
    action = config.action.denormalise(normal).astype(np.float32)
    return Demonstrations(np.arange(6), images, random.normal(size=(6, hub.STATE)).astype(np.float32), action,
                          np.repeat(np.arange(2), 3), np.tile(np.arange(3), 2), ("lift it",) * 3 + ("put the cube down",) * 3)  # fmt: skip


def test_an_adapter_of_two_heads_lowers_the_familys_own_loss(policy, tmp_path):
    heads = [Head("vlm", 0, 1), Head("vlm", 1, 0)]
    summary = finetune(policy, demonstrations_of(policy), heads, tmp_path / "out", CONFIG, dataset="here")
    assert summary["loss_after"] < summary["loss_before"]
    found = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all(value.abs().sum() > 0 for value in found.values())
    card = html.unescape((tmp_path / "out" / "card.html").read_text())
    assert policy.loss_name in card and ("--layout lerobot" in card) == (policy.family not in ("openvla", "openvla_oft"))


@pytest.mark.parametrize("policy", ["smolvla"], indirect=True)
def test_what_enters_the_prefix_is_not_kept_where_it_is_trained(policy, tmp_path):
    """SmolVLA's state is a token of the prefix, and its projection one of the action modules."""
    before = policy.model.state_proj.weight.clone()
    finetune(policy, demonstrations_of(policy), [Head("vlm", 1, 0)], tmp_path / "out",
             CONFIG.model_copy(update={"action_modules": True, "steps": 1}), dataset="here")  # fmt: skip
    assert not torch.equal(load_file(tmp_path / "out" / "adapter_model.safetensors")["base_model.model.state_proj.weight"], before)


def test_nothing_is_kept_for_the_way_back_below_the_lowest_adapted_layer(policy):
    """Activations that autograd keeps are counted by the backbone's layer that is running (-1: before the first)."""
    add_adapter(policy.model, adapter_targets(policy, [Head("vlm", 1, 0)], "none"), 4, 4.0)
    data, running, kept, weights = demonstrations_of(policy), [-1], {}, {p.data_ptr() for p in policy.parameters()}
    batches = Batches(policy, data, CONFIG)
    for index, layer in enumerate(policy.backbone.layers):
        layer.input_layernorm.register_forward_pre_hook(lambda *_, index=index: running.__setitem__(0, index))

    def keep(tensor):
        # An adapted layer's own weights are needed there and cost nothing; masks and indices are no activations.
        if tensor.is_floating_point() and tensor.data_ptr() not in weights:
            kept[running[0]] = kept.get(running[0], 0) + tensor.nbytes
        return tensor

    source = _source(policy, data, 1, True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = batches.loss(source, torch.tensor([0, 4]), 0)
    loss.backward()
    assert min(kept) == 1 and kept[1] > 0
    frozen = [p for p in policy.parameters() if not p.requires_grad]
    assert frozen and all(p.grad is None for p in frozen)
