"""What is read of a head is what its output projection gets at the first action's token of the sampled actions."""

import numpy as np
import pytest
import torch

from robosteer_core.heads.capture import HeadTap, capture, expert_heads
from robosteer_core.heads.demonstrations import Demonstrations


@pytest.fixture
def demonstrations():
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 255, (7, 48, 48, 3), dtype=np.uint8) for name in ("front", "wrist")}
    state, action = random.normal(size=(2, 7, 7)).astype(np.float32)
    return Demonstrations(np.arange(7), images, state, action, np.zeros(7, int), np.arange(7), ("push the red cube",) * 7)


def noise(policy, count):
    return torch.randn(count, policy.chunk_size, policy.action_dim, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_the_heads_are_those_of_transformers_own_suffix_pass_at_time_zero(small_policy, demonstrations):
    """Oracle: transformers samples x_0, then runs forward with x_t = x_0 and t = 0; its o_proj inputs are read whole."""
    policy, batch = small_policy, demonstrations.inputs(small_policy, slice(0, 3))
    tokens = policy.image_features(batch.pixels).shape[1]
    call = dict(
        state=batch.state,
        input_ids=torch.cat([torch.full((3, tokens), policy.model.config.vlm_config.image_token_id), batch.ids], 1),
        attention_mask=torch.cat([torch.ones(3, tokens, dtype=torch.long), batch.mask], 1),
        pixel_values=batch.pixels,
        pixel_attention_mask=torch.ones(3, 2, dtype=torch.bool),
    )
    sampled = policy.model.sample_actions(noise=noise(policy, 3), num_steps=policy.config.flow_steps, **call)
    sites, seen = policy.sites.part("expert"), []
    handles = [
        policy.model.get_submodule(site.o_proj).register_forward_pre_hook(lambda _, x: seen.append(x[0].clone())) for site in sites
    ]
    policy.model(noise=sampled, timestep=torch.zeros(3), **call)
    for handle in handles:
        handle.remove()
    # The suffix is [state, a_1, ...]: index 1 is the first action.
    wanted = torch.stack([x[:, 1].reshape(3, sites[0].heads, sites[0].head_dim) for x in seen], dim=1)
    found = expert_heads(policy, batch, noise(policy, 3))
    assert found.shape == (3, 3, 8, 16)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_capture_depends_neither_on_the_batches_nor_on_the_other_frames(small_policy, demonstrations):
    whole = capture(small_policy, demonstrations, seed=5)
    assert np.allclose(capture(small_policy, demonstrations, seed=5, batch_size=2), whole, atol=1e-5)
    some = np.array([1, 4])
    few = Demonstrations(
        some, {name: frames[some] for name, frames in demonstrations.images.items()}, demonstrations.state[some],
        demonstrations.action[some], demonstrations.episode[some], demonstrations.frame[some], ("push the red cube",) * 2,
    )  # fmt: skip
    assert np.allclose(capture(small_policy, few, seed=5), whole[some], atol=1e-5)
    assert np.abs(capture(small_policy, demonstrations, seed=6) - whole).max() > 1e-3


def test_capture_twice_is_identical(small_policy, demonstrations):
    assert np.array_equal(capture(small_policy, demonstrations), capture(small_policy, demonstrations))


@torch.no_grad()
def test_a_tap_changes_nothing_and_leaves_no_hook_behind(small_policy, demonstrations):
    batch = demonstrations.inputs(small_policy, slice(0, 2))
    prefix, time = small_policy.prefix(batch), torch.tensor([0.5, 0.5])
    before = small_policy.velocity(prefix, batch.state, noise(small_policy, 2), time)
    with HeadTap(small_policy.model, small_policy.sites.part("expert"), token=1):
        during = small_policy.velocity(prefix, batch.state, noise(small_policy, 2), time)
    assert torch.equal(before, during)
    assert not any(module._forward_pre_hooks for module in small_policy.model.modules())
