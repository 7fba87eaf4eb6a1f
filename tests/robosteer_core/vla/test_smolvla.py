"""SmolVLA from lerobot's layout: every tensor in its place, and the velocity of the published formulas."""

import json

import hub
import numpy as np
import pytest
import torch
from plain import blocks, mix, mlp, rms, rotate, sinusoid
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from robosteer_core.adapters.slices import head_slices
from robosteer_core.adapters.sparse_lora import add_adapter
from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import load_policy
from robosteer_core.vla.sites import Head


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "base"
    return path, hub.smolvla(path)


def inputs_of(policy, count=2):
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 255, (count, 20, 30, 3), dtype=np.uint8) for name in hub.CAMERAS}
    return policy.inputs(images, random.normal(size=(count, hub.STATE)), ["pick up", "press it"][:count])


def published(tensors, features, ids, valid, state, noisy, time):
    """The velocity, from tensors under lerobot's names, as in its training pass: VLM and expert side by side."""
    def at(name):
        return tensors[f"vlm_with_expert.{name}.weight"]

    vlm, expert = "vlm.model.text_model", "lm_expert"
    first = F.linear(state, tensors["state_proj.weight"], tensors["state_proj.bias"])[:, None]
    x = torch.cat([features, F.embedding(ids, at(f"{vlm}.embed_tokens")) * hub.SMOL_WIDTH**0.5, first], 1)
    y = F.linear(noisy, tensors["action_in_proj.weight"], tensors["action_in_proj.bias"])
    y = mlp(tensors, "action_time_mlp", torch.cat([y, sinusoid(time, hub.SMOL_EXPERT)[:, None].expand_as(y)], -1))
    length, ones = x.shape[1], torch.ones(len(x), 1, dtype=torch.bool)
    seen = torch.cat([ones.expand(-1, features.shape[1]), valid, ones.expand(-1, 1 + hub.CHUNK)], 1)
    mask = blocks(seen, torch.tensor([0] * (length - 1) + list(range(1, hub.CHUNK + 2))))
    positions = seen.long().cumsum(1) - 1
    before, after = positions[:, :length], positions[:, length:]

    def projected(path, layer, normed, names="qkv"):
        return [F.linear(normed, at(f"{path}.layers.{layer}.self_attn.{name}_proj")).unflatten(-1, (-1, 64)) for name in names]

    def finished(path, layer, x, mixed):
        name = f"{path}.layers.{layer}"
        x = x + F.linear(mixed, at(f"{name}.self_attn.o_proj"))
        normed = rms(x, at(f"{name}.post_attention_layernorm"), 1e-5)
        return x + F.linear(F.silu(F.linear(normed, at(f"{name}.mlp.gate_proj"))) * F.linear(normed, at(f"{name}.mlp.up_proj")), at(f"{name}.mlp.down_proj"))

    for layer in range(4):
        q, k, v = projected(vlm, layer, rms(x, at(f"{vlm}.layers.{layer}.input_layernorm"), 1e-5))
        q, k = rotate(q, before), rotate(k, before)
        normed = rms(y, at(f"{expert}.layers.{layer}.input_layernorm"), 1e-5)
        if layer % 2:  # the expert's keys and values are made of the VLM's
            (own,) = projected(expert, layer, normed, "q")
            (key,), (value,) = projected(expert, layer, k.flatten(2), "k"), projected(expert, layer, v.flatten(2), "v")
            mixed = mix(rotate(own, after - after[:, :1]), key, value, mask[:, length:, :length])
        else:
            own, key, value = projected(expert, layer, normed)
            mixed = mix(rotate(own, after), torch.cat([k, rotate(key, after)], 1), torch.cat([v, value], 1), mask[:, length:])
        x, y = finished(vlm, layer, x, mix(q, k, v, mask[:, :length, :length])), finished(expert, layer, y, mixed)
    return F.linear(rms(y, at(f"{expert}.norm"), 1e-5), tensors["action_out_proj.weight"], tensors["action_out_proj.bias"])


def test_every_tensor_of_the_file_is_in_its_place(folder):
    path, tensors = folder
    there = dict(load_policy(path).model.state_dict())
    for name, tensor in tensors.items():
        if name != "vlm_with_expert.vlm.lm_head.weight":
            assert torch.equal(there.pop(name.replace("vlm_with_expert.vlm.model.", "vlm.").replace("vlm_with_expert.", "")), tensor), name
    assert not there


@torch.no_grad()
def test_the_velocity_is_the_published_one(folder):
    path, tensors = folder
    policy = load_policy(path)
    inputs, noisy, time = inputs_of(policy), torch.randn(2, hub.CHUNK, hub.PADDED), torch.tensor([0.3, 0.9])
    features = policy.image_features(inputs.pixels)
    wanted = published(tensors, features, inputs.ids, inputs.mask.bool(), inputs.state, noisy, time)
    found = policy.velocity(policy.prefix(inputs), inputs.state, noisy, time)
    assert torch.allclose(found, wanted, atol=1e-5), (found - wanted).abs().max()


@torch.no_grad()
def test_images_are_shuffled_projected_and_scaled(folder):
    path, tensors = folder
    policy = load_policy(path)
    pixels = inputs_of(policy).pixels
    # 4 x 4 patches become 2 x 2 tokens of the four patches of a square, row by row.
    patches = policy.model.vlm.vision_model(pixel_values=pixels[:, 0]).last_hidden_state.reshape(2, 2, 2, 2, 2, hub.SMOL_VISION)
    squares = patches.permute(0, 1, 3, 2, 4, 5).reshape(2, 4, -1)
    wanted = F.linear(squares, tensors["vlm_with_expert.vlm.model.connector.modality_projection.proj.weight"]) * hub.SMOL_WIDTH**0.5
    assert torch.allclose(policy.image_features(pixels)[:, :4], wanted, atol=1e-5)


def test_words_end_with_a_new_line_and_are_padded_on_the_right(folder):
    policy = load_policy(folder[0])
    ids, mask = policy.tokens(["ab_c", "ab\n"], np.zeros((2, hub.STATE)))
    # <|endoftext|> <|im_start|> <|im_end|> new line, then the characters from the space on; padding is <|im_end|>
    assert ids[0, :6].tolist() == [*(ord(sign) - 28 for sign in "ab_c"), 3, 2] and mask[0].tolist() == [1] * 5 + [0] * 15
    assert ids[1, :4].tolist() == [ord("a") - 28, ord("b") - 28, 3, 2]


def test_statistics_are_the_processors_means_and_deviations(folder):
    policy = load_policy(folder[0])
    known = hub.statistics({"observation.state": hub.STATE, "action": hub.ACTION}, ("mean", "std", "q01", "q99"))
    x = np.random.default_rng(1).normal(size=(3, hub.STATE))
    wanted = (x - known["observation.state", "mean"]) / (known["observation.state", "std"] + 1e-8)
    assert np.allclose(policy.normalised_state(x)[:, : hub.STATE], wanted, atol=1e-5) and policy.normalised_state(x).shape == (3, hub.PADDED)
    assert np.allclose(policy.config.action.denormalise(np.ones(hub.ACTION)), known["action", "mean"] + known["action", "std"], atol=1e-5)


def test_older_files_keep_statistics_among_the_weights(folder):
    path, tensors = folder
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        (path / name).unlink()
    buffers = {"normalize_inputs.buffer_observation_state.mean": torch.arange(4.0), "normalize_inputs.buffer_observation_state.std": torch.ones(4) * 2,
               "unnormalize_outputs.buffer_action.mean": torch.arange(3.0), "unnormalize_outputs.buffer_action.std": torch.ones(3) * 3}  # fmt: skip
    save_file({f"model.{name}": tensor for name, tensor in tensors.items()} | buffers, path / "model.safetensors")
    policy = load_policy(path)
    assert np.allclose(policy.normalised_state(np.full((1, 4), 4.0))[0, :4], [2, 1.5, 1, 0.5])
    assert np.allclose(policy.config.action.denormalise(np.ones(3)), [3, 4, 5])


@torch.no_grad()
def test_saved_and_loaded_again_it_predicts_the_same(folder, tmp_path):
    policy = load_policy(folder[0])
    policy.save(tmp_path / "ours")
    again = load_policy(tmp_path / "ours")
    first, second = (p.predict(inputs_of(p), torch.Generator().manual_seed(0)) for p in (policy, again))
    assert again.config == policy.config and torch.equal(first, second)


@torch.no_grad()
def test_in_half_precision_actions_are_finite_and_in_single_precision(folder):
    policy = load_policy(folder[0], dtype=torch.bfloat16)
    found = policy.predict(inputs_of(policy), torch.Generator().manual_seed(0))
    assert policy.dtype == torch.bfloat16 and found.dtype == torch.float32 and bool(found.isfinite().all())


def test_a_language_head_alone_is_the_word_embeddings(folder):
    path, tensors = folder
    tensors.pop("vlm_with_expert.vlm.model.text_model.embed_tokens.weight")
    save_file({f"model.{name}": tensor for name, tensor in tensors.items()}, path / "model.safetensors")
    assert torch.equal(load_policy(path).backbone.embed_tokens.weight, tensors["vlm_with_expert.vlm.lm_head.weight"])


def test_heads_are_eligible_whose_queries_get_a_gradient_from_the_action(folder):
    policy = load_policy(folder[0])
    inputs = inputs_of(policy, 1)
    policy.velocity(policy.prefix(inputs), inputs.state, torch.randn(1, hub.CHUNK, hub.PADDED), torch.tensor([0.5])).square().sum().backward()
    hub.assert_eligible(policy)
    assert policy.sites.eligible("vlm").tolist() == [[True] * 3] * 3 + [[False] * 3] and policy.sites.eligible("expert").all()


def test_heads_share_key_value_heads_and_can_be_adapted(folder):
    policy = load_policy(folder[0])
    heads = [Head("vlm", 1, 0), Head("expert", 3, 2)]
    add_adapter(policy.model, head_slices(policy.sites, heads, "any"), 2, 2.0)
    policy.losses(inputs_of(policy), torch.randn(2, hub.CHUNK, hub.PADDED), torch.Generator().manual_seed(0)).mean().backward()
    trained = {name for name, parameter in policy.model.named_parameters() if parameter.grad is not None}
    assert len(trained) == 16 and all("lora" in name for name in trained)


@pytest.mark.parametrize("how, words", [
    ("shape", r"layers.1.self_attn.k_proj.weight \(expected \(64, 64\), found \(64, 36\)\)"),
    ("missing", "missing: lm_expert.layers.2.mlp.up_proj.weight"), ("aloha", "adapt_to_pi_aloha is True"),
    ("another", "those of a SmolVLA: vlm.text_model"), ("layers", "as many layers as the VLM, 4; found 3"),
])  # fmt: skip
def test_bad_files_are_refused_with_the_reason(folder, how, words):
    path, _ = folder
    tensors, said = load_file(path / "model.safetensors"), json.loads((path / "config.json").read_text())
    expert = "model.vlm_with_expert.lm_expert.layers"
    if how == "shape":
        tensors[f"{expert}.1.self_attn.k_proj.weight"] = torch.zeros(64, hub.SMOL_EXPERT)
    elif how == "missing":
        tensors.pop(f"{expert}.2.mlp.up_proj.weight")
    elif how == "another":
        tensors = hub.pi_tensors(False)
    elif how == "layers":
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{expert}.3.")}
    elif how == "aloha":
        said["adapt_to_pi_aloha"] = True
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(said))
    with pytest.raises(UserError, match=words):
        load_policy(path)
