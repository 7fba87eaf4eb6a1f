"""What is read of a head is what its output projection gets at the first action's token of the sampled actions."""

import numpy as np
import pytest
import torch

from robosteer_core.errors import UserError
from robosteer_core.heads.capture import DEFAULT_READ, capture, read_batch
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.heads.tap import Read, Tap, one_token


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
    found = read_batch(policy, batch, noise(policy, 3), [DEFAULT_READ])[DEFAULT_READ.name]
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
    with Tap(small_policy.model, DEFAULT_READ.paths(small_policy.sites), one_token(1)):
        during = small_policy.velocity(prefix, batch.state, noise(small_policy, 2), time)
    assert torch.equal(before, during)
    assert not any(module._forward_pre_hooks for module in small_policy.model.modules())


@torch.no_grad()
def test_every_part_is_read_at_the_tokens_that_its_name_says(small_policy, demonstrations):
    """Oracle: hooks that keep everything, reduced afterwards by hand. Instructions of different lengths leave padding."""
    policy = small_policy
    images = {name: frames[:2] for name, frames in demonstrations.images.items()}
    batch = policy.inputs(images, demonstrations.state[:2], ["touch it", "push the red cube to the green area"])
    reads = [Read.parse(text) for text in ("vision", "vlm", "vlm:mean", "vlm.ffn", "expert", "expert:mean", "expert.ffn:mean")]
    kept, handles = {}, []
    for read in reads:
        for path in read.paths(policy.sites):
            hook = lambda _, x, path=path: kept.__setitem__(path, x[0].clone())
            handles.append(policy.model.get_submodule(path).register_forward_pre_hook(hook))
    found = read_batch(policy, batch, noise(policy, 2), reads)
    for handle in handles:
        handle.remove()
    words, patches = batch.mask.sum(1), policy.image_features(batch.pixels).shape[1]
    assert words[0] < words[1], "the input has no padding"
    for read in reads:
        for layer, path in enumerate(read.paths(policy.sites)):
            for frame in range(2):
                whole = kept[path][2 * frame : 2 * frame + 2].flatten(0, 1) if read.part == "vision" else kept[path][frame]
                valid = {"vision": whole, "vlm": whole[: patches + words[frame]], "expert": whole[1:]}[read.part]
                wanted = {"mean": valid.mean(0), "last_prefix": valid[-1], "first_action": valid[0]}[read.token]
                assert torch.allclose(found[read.name][frame, layer].flatten(), wanted, atol=1e-5), read.name
        assert found[read.name].shape == (2, *read.shape(policy.sites))


@torch.no_grad()
def test_an_earlier_denoising_step_is_that_of_the_sampling_loop(small_policy, demonstrations):
    """Oracle: the passes of the policy's own loop, of which the last comes before the release's extra one."""
    policy, batch, passes = small_policy, demonstrations.inputs(small_policy, slice(0, 2)), []
    path = DEFAULT_READ.paths(policy.sites)[1]
    handle = policy.model.get_submodule(path).register_forward_pre_hook(lambda _, x: passes.append(x[0][:, 1].clone()))
    policy.sample(policy.prefix(batch), batch.state, noise(policy, 2))
    handle.remove()
    assert len(passes) == policy.config.flow_steps == 3
    for step, wanted in enumerate(passes):
        found = read_batch(policy, batch, noise(policy, 2), [DEFAULT_READ], step)[DEFAULT_READ.name]
        assert torch.allclose(found[:, 1].flatten(1), wanted, atol=1e-5)
    with pytest.raises(UserError, match="0 to 3; found 4"):
        read_batch(policy, batch, noise(policy, 2), [DEFAULT_READ], 4)


@pytest.mark.parametrize("text, words", [
    ("decoder", "found 'decoder'"), ("expert.mlp", "PART.ffn"), ("vlm:first_action", "last_prefix or mean; found 'first_action'"),
    ("vision:last_prefix", "mean; found 'last_prefix'"),
])  # fmt: skip
def test_a_token_that_a_part_does_not_have_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        Read.parse(text)
    assert Read.parse("vlm.ffn") == Read("vlm", "last_prefix", neurons=True) and Read.parse("expert").name == "expert:first_action"
