"""Causal mediation: the rise of the action error when a head says what it says elsewhere."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError
from robosteer_core.heads.capture import DEFAULT_READ, capture, frame_noise
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.heads.mediation import action_error_rise
from robosteer_core.heads.tap import Read
from robosteer_core.heads.task_heads import find_task_heads

BRIDGE = Path(__file__).resolve().parents[4] / "shared" / "data" / "bridge_sample"
needs_bridge = pytest.mark.skipif(not BRIDGE.is_dir(), reason="needs ../shared/data/bridge_sample")


@pytest.fixture
def demonstrations():
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 255, (6, 48, 48, 3), dtype=np.uint8) for name in ("front", "wrist")}
    state, action = random.normal(size=(2, 6, 7)).astype(np.float32)
    return Demonstrations(np.arange(6), images, state, action, np.zeros(6, int), np.arange(6), ("push the red cube",) * 6)


@torch.inference_mode()
def test_a_silenced_head_costs_what_zero_columns_of_its_output_projection_cost(small_policy, demonstrations):
    """Oracle: the head's columns of o_proj set to zero. That silences it at all tokens, not at the first action's alone; in
    the last layer and with a single denoising step the other tokens do not reach the first action."""
    policy, eligible = small_policy, np.zeros((3, 8), bool)
    policy.config = policy.config.model_copy(update={"flow_steps": 1})
    eligible[2, [1, 6]] = True
    read, zeros = DEFAULT_READ, np.zeros((3, 8, 16), np.float32)
    rise = action_error_rise(policy, demonstrations, read, zeros, eligible, seed=5)
    assert np.isneginf(rise[~eligible]).all() and np.isfinite(rise[eligible]).all()
    batch, noise = demonstrations.inputs(policy, slice(None)), frame_noise(policy, demonstrations, slice(None), 5)
    target = policy.normalised_actions(demonstrations.action[:, None])[:, 0]

    def error():
        return float((policy.sample(policy.prefix(batch), batch.state, noise)[:, 0] - target).square().mean())

    base, site = error(), policy.sites.part("expert")[2]
    weight = policy.model.get_submodule(site.o_proj).weight
    for head in (1, 6):
        kept = weight[:, list(site.rows(head))].clone()
        weight[:, list(site.rows(head))] = 0
        assert rise[2, head] == pytest.approx(error() - base, abs=1e-5)
        weight[:, list(site.rows(head))] = kept
    assert not any(module._forward_pre_hooks for module in policy.model.modules())


def test_a_head_that_says_what_it_says_anyway_costs_nothing(small_policy, demonstrations):
    """The mean over a single frame is what the backbone's head says in that frame."""
    one, read = demonstrations, Read("vlm", "last_prefix")
    own = capture(small_policy, one, read)[2]
    alone = Demonstrations(
        one.rows[2:3], {name: frames[2:3] for name, frames in one.images.items()}, one.state[2:3], one.action[2:3], one.episode[2:3],
        one.frame[2:3], one.instruction[2:3],
    )  # fmt: skip
    eligible = small_policy.sites.eligible("vlm")
    assert np.abs(action_error_rise(small_policy, alone, read, own, eligible)[eligible]).max() < 1e-4
    assert np.abs(action_error_rise(small_policy, alone, read, own + 5, eligible)[eligible]).max() > 1e-3


@needs_bridge
def test_heads_are_chosen_by_what_replacing_them_costs(small_policy):
    found = find_task_heads(small_policy, Dataset(BRIDGE), keyframes="droid", method="causal", others=Dataset(BRIDGE), n_heads=3)
    record = found.to_json()
    merits = {(row["layer"], row["head"]): row["merit"] for row in record["ranking"] if row["eligible"]}
    assert found.selection.heads == sorted(merits, key=merits.get, reverse=True)[:3] and len(merits) == 16
    assert record["method"] == "causal" and record["replaced_by_the_mean_of"] == str(BRIDGE) and record["stability"] is None


def test_only_single_tokens_are_replaced(small_policy, demonstrations):
    with pytest.raises(UserError, match="found vlm:mean"):
        action_error_rise(small_policy, demonstrations, Read("vlm", "mean"), np.zeros((3, 8, 16)), np.ones((3, 8), bool))


@needs_bridge
def test_other_tasks_that_cannot_be_used_are_refused_before_anything_is_read(small_policy, monkeypatch):
    others = Dataset(BRIDGE)
    arrays = others.arrays()
    arrays.state[7, 2] = np.nan
    monkeypatch.setattr(others, "arrays", lambda: arrays)
    empty = Dataset(BRIDGE)
    empty.episodes = []
    for data, words in ((others, "not finite in 1 frames, the first in episode 0, frame 7"), (empty, "has no frames")):
        monkeypatch.setattr(data, "images", None)
        with pytest.raises(UserError, match=words):
            find_task_heads(small_policy, Dataset(BRIDGE), method="causal", others=data)
