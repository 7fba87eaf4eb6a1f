"""Whole models and whole layers: the baselines that sparse finetuning is compared with."""

import pytest
import torch
from runs import SHORT, Dies, Killed, train

from robosteer_core.cli import main
from robosteer_core.errors import UserError
from robosteer_core.finetune.heads_option import parse_heads
from robosteer_core.vla.checkpoint import load_policy
from robosteer_core.vla.sites import Head

FULL = SHORT.model_copy(update={"full": True, "learning_rate": 1e-3})


def state(folder):
    return load_policy(folder).model.state_dict()


def test_full_finetuning_leaves_a_checkpoint_with_every_reached_weight_changed(base, demonstrations, tmp_path):
    policy, summary = train(base, demonstrations, tmp_path / "out", FULL, heads=[])
    before, after = state(base), state(tmp_path / "out" / "policy")
    assert summary["loss_after"] < summary["loss_before"] and summary["trained_part"] == "all"
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("vision_tower" in name for name in changed) and any(".dit." in name for name in changed)
    # The backbone's last layer is read by its keys and values alone.
    assert not any("language_model.layers.2" in name and ("q_proj" in name or "mlp" in name) for name in changed)
    assert summary["trainable_parameters"] == sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
    assert summary["trainable_parameters"] == sum(before[name].numel() for name in changed)
    assert not (tmp_path / "out" / "heads.json").exists()


def test_killed_full_finetuning_goes_on_to_the_same_weights(base, demonstrations, tmp_path):
    train(base, demonstrations, tmp_path / "whole", FULL, heads=[])
    with pytest.raises(Killed):
        train(base, demonstrations, tmp_path / "killed", FULL, heads=[], progress=Dies(3))
    train(base, demonstrations, tmp_path / "killed", FULL, heads=[])
    whole, killed = state(tmp_path / "whole" / "policy"), state(tmp_path / "killed" / "policy")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert train(base, demonstrations, tmp_path / "killed", FULL, heads=[], progress=Dies(0))[1]["steps"] == 6


def test_whole_layers_are_all_their_heads(small_policy):
    assert parse_heads("layers:1", small_policy)[0] == [Head("vlm", 1, head) for head in range(8)]
    assert parse_heads("layers:0,1", small_policy) == parse_heads("all", small_policy)
    for wrong in ("layers:2", "layers:", "layers:x", "layers:0,"):
        with pytest.raises(UserError, match="heads reach the action, 0 to 1"):
            parse_heads(wrong, small_policy)


def test_every_weight_and_heads_at_once_is_refused(base, demonstrations, tmp_path):
    with pytest.raises(UserError, match="expected one of them"):
        train(base, demonstrations, tmp_path / "out", FULL)
    assert not (tmp_path / "out").exists()
    assert main(["finetune", "--help"]) == 0
