"""Our passes through pi0 equal transformers' own; checkpoints are read whole or refused."""

import shutil

import numpy as np
import pytest
import torch

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.vla.checkpoint import load_policy


def inputs(policy, count=3, cameras=("front", "wrist")):
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 255, (count, 60, 80, 3), dtype=np.uint8) for name in cameras}
    return policy.inputs(images, random.normal(size=(count, 7)), ["press the red button", "touch it", "open the drawer slowly"])


def transformers_call(policy, batch, cameras):
    tokens = policy.image_features(batch.pixels).shape[1]
    image_token = policy.model.config.vlm_config.image_token_id
    return dict(
        state=batch.state,
        input_ids=torch.cat([torch.full((len(batch.ids), tokens), image_token), batch.ids], 1),
        attention_mask=torch.cat([torch.ones(len(batch.ids), tokens, dtype=torch.long), batch.mask], 1),
        pixel_values=batch.pixels,
        pixel_attention_mask=torch.ones(len(batch.ids), cameras, dtype=torch.bool),
    )


@pytest.mark.parametrize("cameras", [("front", "wrist"), ("wrist",)])
@torch.no_grad()
def test_velocity_and_samples_equal_those_of_transformers(small_policy, cameras):
    batch = inputs(small_policy, cameras=cameras)
    noise = torch.randn(3, small_policy.chunk_size, 7, generator=torch.Generator().manual_seed(1))
    time = torch.tensor([0.2, 0.5, 0.9])
    call = transformers_call(small_policy, batch, len(cameras))
    theirs = small_policy.model(noise=noise, timestep=time, **call).logits
    ours = small_policy.velocity(small_policy.prefix(batch), batch.state, noise, time)
    assert torch.allclose(ours, theirs, atol=1e-5)
    theirs = small_policy.model.sample_actions(noise=noise, num_steps=small_policy.config.flow_steps, **call)
    ours = small_policy.sample(small_policy.prefix(batch), batch.state, noise)
    assert torch.allclose(ours, theirs, atol=1e-5)


@torch.no_grad()
def test_repeating_a_prefix_changes_nothing_but_the_batch(small_policy):
    batch = inputs(small_policy)
    noise, time = torch.randn(3, small_policy.chunk_size, 7), torch.tensor([0.1, 0.4, 0.8])
    once = small_policy.velocity(small_policy.prefix(batch), batch.state, noise, time)
    twice = small_policy.velocity(
        small_policy.prefix(batch).repeated(2), batch.state.repeat_interleave(2, 0), noise.repeat_interleave(2, 0),
        time.repeat_interleave(2, 0),
    )  # fmt: skip
    assert torch.allclose(twice[::2], once, atol=1e-5) and torch.allclose(twice[1::2], once, atol=1e-5)


@torch.no_grad()
def test_a_saved_checkpoint_acts_as_before(small_policy, tmp_path):
    small_policy.save(tmp_path / "base")
    again = load_policy(tmp_path / "base")
    assert again.config == small_policy.config
    for (name, before), (_, after) in zip(small_policy.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(before, after), name


def test_a_wrong_state_width_names_both_shapes(small_policy):
    with pytest.raises(UserError, match=r"\(batch, 7\).*\(1, 5\)"):
        small_policy.inputs({"front": np.zeros((1, 48, 48, 3), np.uint8)}, np.zeros((1, 5)), ["touch it"])


def test_images_of_no_known_camera_are_refused(small_policy):
    with pytest.raises(UserError, match="front, wrist.*found: left"):
        small_policy.inputs({"left": np.zeros((1, 48, 48, 3), np.uint8)}, np.zeros((1, 7)), ["touch it"])


@pytest.mark.parametrize("damage, words", [
    ("truncate", "model.safetensors"), ("remove model.safetensors", "model.safetensors"), ("remove policy.json", "no policy in"),
    ("remove tokenizer.json", "tokenizer.json"), ("write config.json", "config.json does not describe a pi0: .*'chunk_size'"),
    ("write model.safetensors.index.json", "index.json names no weights"),
])  # fmt: skip
def test_a_damaged_checkpoint_is_refused_by_name(small_policy, tmp_path, damage, words):
    small_policy.save(tmp_path / "base")
    if damage == "truncate":
        weights = tmp_path / "base" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "write config.json":
        config = tmp_path / "base" / "config.json"
        config.write_text(config.read_text().replace('"chunk_size": 8', '"chunk_size": "eight"'))
    elif damage == "write model.safetensors.index.json":
        (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "one.safetensors")
        (tmp_path / "base" / "model.safetensors.index.json").write_text('{"weight_map": {"weight": 5}}')
    else:
        (tmp_path / "base" / damage.split()[1]).unlink()
    with pytest.raises(UserError, match=words):
        load_policy(tmp_path / "base")


def test_a_checkpoint_of_another_size_is_refused(small_policy, tmp_path):
    small_policy.save(tmp_path / "base")
    config = tmp_path / "base" / "config.json"
    config.write_text(config.read_text().replace('"chunk_size"', '"chunk_size_"').replace('"max_action_dim": 7', '"max_action_dim": 9'))
    with pytest.raises(UserError, match="do not fit its config.json"):
        load_policy(tmp_path / "base")
    shutil.rmtree(tmp_path / "base")


@pytest.mark.parametrize(
    "section, change, words",
    [
        ("rates", {"policy_hz": 30.0}, "actions per second: 15.0 and 30.0"),
        ("action_space", {"kind": "cartesian_absolute"}, "differ in actions"),
        ("action_space", {"gripper": False}, "differ in actions"),
    ],
)
def test_a_rig_on_which_the_actions_mean_something_else_is_refused(small_policy, section, change, words):
    rig = load_rig("lab")
    small_policy.config.require_rig(rig)
    other = rig.model_copy(update={section: getattr(rig, section).model_copy(update=change)})
    with pytest.raises(UserError, match=words):
        small_policy.config.require_rig(other)


def test_a_rig_whose_cameras_the_policy_does_not_know_is_refused(small_policy):
    rig = load_rig("lab")
    cameras = tuple(camera.model_copy(update={"name": f"{camera.name}_2"}) for camera in rig.cameras)
    with pytest.raises(UserError, match="front, wrist; rig 'lab' has front_2, wrist_2"):
        small_policy.config.require_rig(rig.model_copy(update={"cameras": cameras}))
