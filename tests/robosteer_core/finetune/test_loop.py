"""However a batch is split, the run is the same; held-out episodes end it and choose its result."""

import json

import numpy as np
import pytest
import torch
from runs import HEADS, SHORT, Dies, Killed, losses, train, weights
from safetensors.torch import load_file

from robosteer_core.errors import UserError
from robosteer_core.finetune.batches import Batches, WholePrefix
from robosteer_core.finetune.train import finetune
from robosteer_core.vla.checkpoint import load_policy


@pytest.mark.parametrize("options", [{"accumulate": 3}, {"checkpointing": True}, {"accumulate": 2, "checkpointing": True}])
def test_what_saves_memory_does_not_change_the_run(base, demonstrations, tmp_path, options):
    config = SHORT.model_copy(update={"learning_rate": 1e-3})
    train(base, demonstrations, tmp_path / "plain", config)
    train(base, demonstrations, tmp_path / "other", config.model_copy(update=options))
    assert losses(tmp_path / "other") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    plain, other = weights(tmp_path / "plain"), weights(tmp_path / "other")
    # AdamW's first steps take the sign of a gradient, so that rounding of one near 0 shows; few are.
    assert all(torch.isclose(plain[key], other[key], atol=1e-4).float().mean() > 0.99 for key in plain)


def test_parts_of_a_batch_have_the_gradient_of_the_whole(base, demonstrations):
    policy = load_policy(base)
    policy.requires_grad_(True)
    batches, rows, found = Batches(policy, demonstrations, SHORT), torch.tensor([4, 0, 14, 9, 3]), []
    for shares in ([slice(None)], [slice(0, 2), slice(2, 3), slice(3, 5)]):
        policy.zero_grad()
        for share in shares:
            batches.loss(WholePrefix(policy, demonstrations), rows, 1, share).backward()
        found.append(policy.model.action_out_proj.weight.grad.clone())
    assert torch.allclose(*found, rtol=1e-4, atol=1e-7) and found[0].abs().sum() > 0


def test_a_batch_too_small_to_be_split_is_refused(base, demonstrations, tmp_path):
    with pytest.raises(UserError, match="4 frames cannot be split into 5 parts"):
        train(base, demonstrations, tmp_path / "out", SHORT.model_copy(update={"accumulate": 5}))
    assert not (tmp_path / "out").exists()


def test_in_bfloat16_what_is_trained_stays_float32(base, demonstrations, tmp_path):
    config = SHORT.model_copy(update={"steps": 10, "learning_rate": 1e-3})
    train(base, demonstrations, tmp_path / "whole", config)
    policy = load_policy(base, dtype=torch.bfloat16)
    finetune(policy, demonstrations, HEADS, tmp_path / "half", config.model_copy(update={"precision": "bfloat16"}), dataset="here")
    found = load_file(tmp_path / "half" / "adapter_model.safetensors")
    assert all(value.dtype == torch.float32 for value in found.values())
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "whole"), rel=0.05)


def test_held_out_episodes_are_not_trained_on(base, demonstrations):
    batches = Batches(load_policy(base), demonstrations, SHORT.model_copy(update={"held_out": 1}))
    seen = torch.cat([batches.rows(step) for step in range(10)])
    assert len(batches.held_out) == 1 and set(demonstrations.episode[seen]) == set(range(3)) - set(batches.held_out.tolist())
    with pytest.raises(UserError, match="3 episodes are to be held out; the dataset has 3"):
        Batches(load_policy(base), demonstrations, SHORT.model_copy(update={"held_out": 3}))


def test_training_stops_early_and_keeps_the_best_step(base, demonstrations, tmp_path):
    """The held-out episode is contradicted by the others, so that training on them soon makes it worse."""
    config = SHORT.model_copy(update={"held_out": 1, "validate_every": 1, "patience": 3, "steps": 60, "learning_rate": 2e-2, "save_every": 4})
    held = Batches(load_policy(base), demonstrations, config).held_out
    demonstrations.action[demonstrations.episode == held] *= -3
    _, summary = train(base, demonstrations, tmp_path / "out", config)
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    curve = [entry["held_out_loss"] for entry in log if "held_out_loss" in entry]
    assert summary["steps"] == len(curve) < 60
    best = int(np.argmin(curve))
    assert summary["best"] == {"step": best + 1, "loss": curve[best]} and len(curve) == best + 1 + 3
    # What was written is the best step, not the last.
    assert summary["held_out_loss_after"] == curve[best] < curve[-1]
    with pytest.raises(Killed):
        train(base, demonstrations, tmp_path / "killed", config, progress=Dies(len(curve) - 1))
    train(base, demonstrations, tmp_path / "killed", config)
    whole, killed = weights(tmp_path / "out"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[key], killed[key]) for key in whole)


def test_a_run_that_diverges_stops_at_once_and_leaves_the_state_before_whole(base, demonstrations, tmp_path):
    config = SHORT.model_copy(update={"learning_rate": 1e30, "save_every": 1})
    for _ in range(2):  # the second run goes on from the first one's state, to the same end
        with pytest.raises(UserError, match=r"diverged: the loss is (nan|inf) in step 2 of 6, the learning rate was .*lower --lr into another --out"):
            train(base, demonstrations, tmp_path / "out", config)
        assert torch.load(tmp_path / "out" / "training.pt", weights_only=True)["step"] == 1
        assert not (tmp_path / "out" / "heads.json").exists() and not (tmp_path / "out" / "training.json").exists()


@pytest.mark.parametrize("options, what", [
    ({"held_out": 1, "validate_every": 1}, "the loss of the held-out episodes is nan in step 1"), ({"steps": 1}, "the loss afterwards is nan in step 1"),
])  # fmt: skip
def test_a_measured_loss_that_is_no_number_ends_the_run(base, demonstrations, tmp_path, options, what):
    with pytest.raises(UserError, match=what):
        train(base, demonstrations, tmp_path / "out", SHORT.model_copy(update={"learning_rate": 1e30} | options))
    assert not (tmp_path / "out" / "heads.json").exists()


def test_a_gradient_that_is_infinite_ends_the_run_though_the_loss_is_finite(base, demonstrations, tmp_path):
    """The update is 0 and is scaled by 2.5e29; so is its gradient, whose square float32 cannot hold."""
    with pytest.raises(UserError, match="diverged: the gradient is inf in step 1"):
        train(base, demonstrations, tmp_path / "out", SHORT.model_copy(update={"alpha": 1e30}))


def test_a_base_whose_loss_is_no_number_is_told_from_training_that_diverges(base, demonstrations, tmp_path):
    demonstrations.action[:] *= 1e30
    with pytest.raises(UserError, match="no finite number before any training"):
        train(base, demonstrations, tmp_path / "out")
