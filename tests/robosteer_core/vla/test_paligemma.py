"""pi0 and pi0.5 from the hub's layouts: every tensor in its place, and the velocity of the published formulas."""

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
from robosteer_core.vla.config import Normalisation, Quantiles, new_statistics
from robosteer_core.vla.sites import Head

MODEL = "paligemma_with_expert"
WORDS = f"{MODEL}.paligemma.lm_head.weight"


def images(count=2, seed=0, names=hub.CAMERAS):
    random = np.random.default_rng(seed)
    return {name: random.integers(0, 255, (count, 12, 16, 3), dtype=np.uint8) for name in names}


def published(tensors, pi05, features, ids, valid, state, noisy, time):
    """The velocity, from tensors under openpi's names: prefix and suffix run through all layers together."""

    def weight(name):
        return tensors[f"{MODEL}.{name}.weight"]

    prefix = torch.cat([features, F.embedding(ids, tensors[WORDS]) * hub.WIDTH**0.5], 1)
    condition, time = None, sinusoid(time, hub.EXPERT, torch.float64 if pi05 else torch.float32)
    suffix = F.linear(noisy, tensors["action_in_proj.weight"], tensors["action_in_proj.bias"])
    if pi05:
        condition = F.silu(mlp(tensors, "time_mlp", time))
    else:
        suffix = mlp(tensors, "action_time_mlp", torch.cat([suffix, time[:, None].expand_as(suffix)], -1))
        first = F.linear(state, tensors["state_proj.weight"], tensors["state_proj.bias"])
        suffix = torch.cat([first[:, None], suffix], 1)
    streams, paths = [prefix, suffix], ("paligemma.model.language_model", "gemma_expert.model")
    seen = torch.cat([torch.ones(features.shape[:2], dtype=torch.bool), valid, torch.ones(suffix.shape[:2], dtype=torch.bool)], 1)
    block = torch.tensor([0] * prefix.shape[1] + ([1] if pi05 else [1, 2]) + [1 if pi05 else 2] * (hub.CHUNK - 1))
    mask, positions = blocks(seen, block), seen.long().cumsum(1) - 1

    def norm(name, x, adaptive):
        if not adaptive:
            return rms(x, 1 + weight(name)), 1.0
        scale, shift, gate = F.linear(condition, weight(f"{name}.dense"), tensors[f"{MODEL}.{name}.dense.bias"])[:, None].chunk(3, -1)
        return rms(x, 1 + scale) + shift, gate

    for layer in range(hub.LAYERS):
        parts, gates = [], []
        for x, path in zip(streams, paths):
            at = f"{path}.layers.{layer}"
            normed, gate = norm(f"{at}.input_layernorm", x, pi05 and path == paths[1])
            gates.append(gate)
            parts.append([F.linear(normed, weight(f"{at}.self_attn.{n}_proj")).unflatten(-1, (-1, hub.HEAD)) for n in "qkv"])
        q, k, v = (torch.cat(pair, 1) for pair in zip(*parts))
        mixed = mix(rotate(q, positions), rotate(k, positions), v, mask).split([x.shape[1] for x in streams], 1)
        for index, (x, path, gate, out) in enumerate(zip(streams, paths, gates, mixed)):
            at = f"{path}.layers.{layer}"
            x = x + F.linear(out, weight(f"{at}.self_attn.o_proj")) * gate
            normed, gate = norm(f"{at}.post_attention_layernorm", x, pi05 and index == 1)
            up, open_ = F.linear(normed, weight(f"{at}.mlp.up_proj")), F.linear(normed, weight(f"{at}.mlp.gate_proj"))
            streams[index] = x + F.linear(F.gelu(open_, approximate="tanh") * up, weight(f"{at}.mlp.down_proj")) * gate
    last = norm(f"{paths[1]}.norm", streams[1], pi05)[0][:, -hub.CHUNK :]
    return F.linear(last, tensors["action_out_proj.weight"], tensors["action_out_proj.bias"])


@pytest.fixture
def folder(tmp_path, request):
    """A checkpoint by its layout's name; tensors under openpi's names are its second value."""
    layout = getattr(request, "param", "openpi pi0")
    where, _, family = layout.partition(" ")
    path = tmp_path / "checkpoint"
    if where == "openpi":
        return path, hub.openpi(path, pi05=family == "pi05")
    tensors = hub.pi_tensors(family == "pi05")
    if where == "older":
        return path, older(path, tensors)
    hub.lerobot(path, family, tensors, shards=3 if where == "sharded" else 1)
    hub.characters(path / "tokenizer.json", "<pad>", "<eos>", "<bos>", "<unk>")
    return path, tensors


def older(path, tensors):
    """lerobot's first pi0 named the parts of PaliGemma in another order."""
    at = f"{MODEL}.paligemma."

    def old(name):
        name = name.replace(f"{at}model.language_model.", f"{at}language_model.model.").replace(f"{at}lm_head", f"{at}language_model.lm_head")
        return name.replace(f"{at}model.", at)

    hub.lerobot(path, "pi0", {old(name): tensor for name, tensor in tensors.items()})
    hub.characters(path / "tokenizer.json", "<pad>", "<eos>", "<bos>", "<unk>")
    return tensors


LAYOUTS = ["openpi pi0", "lerobot pi0", "sharded pi0", "older pi0", "openpi pi05", "lerobot pi05"]


def names_of_ours(name, pi05):
    """Where a tensor of openpi's file belongs in our modules; None where nothing reads it."""
    if name == WORDS:
        return "model.vlm.language_model.embed_tokens.weight"
    if name == f"{MODEL}.gemma_expert.lm_head.weight":
        return None if pi05 else "model.dit.embed_tokens.weight"
    if name.startswith(MODEL):
        name = name.removeprefix(f"{MODEL}.").replace("vision_tower.vision_model", "vision_tower")
        return name.replace("paligemma.model.", "model.vlm.").replace("gemma_expert.model.", "model.dit.")
    return name if pi05 or name.startswith("action_out") else f"embed_action_time.{name}"


@pytest.mark.parametrize("folder", LAYOUTS, indirect=True)
def test_every_tensor_of_the_file_is_in_its_place_and_the_velocity_is_the_published_one(folder):
    path, tensors = folder
    policy = load_policy(path)
    pi05 = policy.family == "pi05"
    there = dict(policy.model.state_dict())
    for name, tensor in tensors.items():
        ours = names_of_ours(name, pi05)
        assert ours is None or torch.equal(there.pop(ours), tensor), name
    assert not there
    inputs = policy.inputs(images(), np.random.default_rng(1).normal(size=(2, hub.STATE)), ["pick up the cube", "press"])
    noisy, time = torch.randn(2, hub.CHUNK, hub.PADDED), torch.tensor([0.3, 0.9])
    with torch.no_grad():
        features = policy.image_features(inputs.pixels)
        wanted = published(tensors, pi05, features, inputs.ids, inputs.mask.bool(), inputs.state, noisy, time)
        found = policy.velocity(policy.prefix(inputs), inputs.state, noisy, time)
    assert torch.allclose(found, wanted, atol=1e-5), (found - wanted).abs().max()


@pytest.mark.parametrize("folder", ["openpi pi0", "openpi pi05"], indirect=True)
@torch.no_grad()
def test_samples_are_euler_steps_of_the_velocity(folder):
    policy = load_policy(folder[0])
    inputs = policy.inputs(images(), np.zeros((2, hub.STATE)), ["go", "go on"])
    noise = policy.draw_noise(2, torch.Generator().manual_seed(0))
    prefix, actions = policy.prefix(inputs), noise
    for step in range(10):
        actions = actions - 0.1 * policy.velocity(prefix, inputs.state, actions, torch.full((2,), 1 - step / 10))
    assert torch.allclose(policy.sample(prefix, inputs.state, noise), actions, atol=1e-5)


@pytest.mark.parametrize("folder", ["openpi pi0", "lerobot pi05"], indirect=True)
@torch.no_grad()
def test_saved_and_loaded_again_it_predicts_the_same(folder, tmp_path):
    policy = load_policy(folder[0])
    policy.save(tmp_path / "ours")
    again = load_policy(tmp_path / "ours")
    assert again.config == policy.config
    inputs = policy.inputs(images(), np.zeros((2, hub.STATE)), ["go", "go on"])
    first, second = (p.predict(inputs, torch.Generator().manual_seed(0)) for p in (policy, again))
    assert torch.equal(first, second)


def test_word_embeddings_count_where_a_file_holds_a_language_head_beside_them(tmp_path):
    tensors = hub.openpi(tmp_path / "base")
    own = torch.randn(hub.VOCABULARY, hub.WIDTH)
    save_file(tensors | {f"{MODEL}.paligemma.model.language_model.embed_tokens.weight": own}, tmp_path / "base" / "model.safetensors")
    assert torch.equal(load_policy(tmp_path / "base").backbone.embed_tokens.weight, own)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_file_in_half_precision_is_read_into_either(tmp_path, dtype):
    tensors = hub.openpi(tmp_path / "base", dtype=torch.bfloat16)
    policy = load_policy(tmp_path / "base", dtype=dtype)
    assert policy.dtype == dtype and torch.equal(policy.model.action_out_proj.weight, tensors["action_out_proj.weight"].to(dtype))
    inputs = policy.inputs(images(), np.zeros((2, hub.STATE)), ["go", "go on"])
    actions = policy.predict(inputs, torch.Generator().manual_seed(0))
    assert actions.dtype == torch.float32 and bool(actions.isfinite().all())


@pytest.mark.parametrize("folder", ["openpi pi0", "lerobot pi0", "openpi pi05", "lerobot pi05"], indirect=True)
def test_state_and_actions_are_normalised_as_the_layout_says(folder):
    policy = load_policy(folder[0])
    where = "openpi" if policy.config.preprocessing == "openpi" else "lerobot"
    state, action = (("state", "actions") if where == "openpi" else ("observation.state", "action"))
    known = hub.statistics({state: hub.STATE, action: hub.ACTION}, ("mean", "std", "q01", "q99"))
    x, epsilon = np.random.default_rng(5).normal(size=(6, hub.STATE)), 1e-6 if where == "openpi" else 0.0
    if policy.family == "pi05":
        low, high = known[state, "q01"].astype(float), known[state, "q99"].astype(float)
        wanted = (x - low) / (high - low + epsilon) * 2 - 1
    else:
        wanted = (x - known[state, "mean"]) / (known[state, "std"] + (epsilon or 1e-8))
    assert np.allclose(policy.normalised_state(x)[:, : hub.STATE], wanted, atol=1e-5)
    assert policy.normalised_state(x).shape == (6, hub.PADDED) and not policy.normalised_state(x)[:, hub.STATE :].any()
    y = np.random.default_rng(6).normal(size=(2, hub.CHUNK, hub.ACTION))
    assert policy.normalised_actions(y).shape == (2, hub.CHUNK, hub.PADDED)
    assert np.allclose(policy.config.action.denormalise(policy.normalised_actions(y).numpy()[..., : hub.ACTION]), y, atol=1e-4)


@pytest.mark.parametrize("folder, text", [("openpi pi0", "put the_cube  \n"), ("lerobot pi0", "put the_cube\n")], indirect=["folder"])
def test_a_pi0_reads_the_instruction_and_a_new_line(folder, text):
    policy = load_policy(folder[0])
    expected = "put the cube\n" if policy.config.preprocessing == "openpi" else "put the_cube\n"
    ids, mask = policy.tokens([text], np.zeros((1, hub.STATE)))
    # <pad> <eos> <bos> <unk> \n, then the printable characters from the space on
    codes = [2, *(4 if sign == "\n" else ord(sign) - 27 for sign in expected)]
    assert ids.shape == (1, policy.config.instruction_tokens) and ids[0, : len(codes)].tolist() == codes
    assert not ids[0, len(codes) :].any() and mask[0].tolist() == [1] * len(codes) + [0] * (len(mask[0]) - len(codes))


@pytest.mark.parametrize("folder", ["lerobot pi05"], indirect=True)
def test_a_pi05_reads_the_state_in_256_steps(folder):
    policy = load_policy(folder[0])
    statistics = policy.config.state
    normalised = np.array([[-1.0, 1.0, 0.0, -3.0]])
    state = (normalised + 1) / 2 * (np.array(statistics.high) - np.array(statistics.low)) + np.array(statistics.low)
    ids, mask = policy.tokens([" put the_cube\n"], state + [[1e-6, 0, 1e-6, 0]])
    # 256 steps of 1/128 from -1: 0 begins step 128, 1 lies in the last, what is below -1 in none.
    expected = "Task: put the cube, State: 0 255 128 -1;\nAction: "
    codes = [2, *(4 if sign == "\n" else ord(sign) - 27 for sign in expected)]
    assert ids[0, : mask[0].sum()].tolist() == codes


@pytest.mark.parametrize("folder", ["openpi pi0", "openpi pi05"], indirect=True)
def test_heads_are_eligible_whose_queries_get_a_gradient_from_the_action(folder):
    policy = load_policy(folder[0])
    inputs = policy.inputs(images(1), np.zeros((1, hub.STATE)), ["go"])
    velocity = policy.velocity(policy.prefix(inputs), inputs.state, torch.randn(1, hub.CHUNK, hub.PADDED), torch.tensor([0.5]))
    velocity.square().sum().backward()
    hub.assert_eligible(policy)


@pytest.mark.parametrize("folder", ["lerobot pi05"], indirect=True)
def test_heads_of_a_pi05_can_be_adapted(folder):
    policy = load_policy(folder[0])
    add_adapter(policy.model, head_slices(policy.sites, [Head("vlm", 1, 0), Head("expert", 2, 7)]), 2, 2.0)
    inputs = policy.inputs(images(), np.zeros((2, hub.STATE)), ["go", "go on"])
    policy.losses(inputs, torch.randn(2, hub.CHUNK, hub.PADDED), torch.Generator().manual_seed(0)).mean().backward()
    assert len([name for name, parameter in policy.model.named_parameters() if parameter.grad is not None and "lora" in name]) == 8


def damaged(path, how):
    """Spoil a checkpoint."""
    weights, config = path / "model.safetensors", path / "config.json"
    tensors = load_file(weights) if how not in ("truncated", "no weights") else {}
    said = json.loads(config.read_text())
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "no weights":
        weights.unlink()
    elif how == "missing":
        tensors.pop(f"{MODEL}.gemma_expert.model.layers.1.mlp.up_proj.weight")
    elif how == "unexpected":
        tensors["value_head.weight"] = torch.zeros(3)
    elif how == "shape":
        tensors[f"{MODEL}.paligemma.model.language_model.layers.2.self_attn.o_proj.weight"] = torch.zeros(3, 4)
    elif how == "action width":
        said["action_dim"] = 9
    elif how == "another policy":
        said = {"type": "act", "chunk_size": 5}
    elif how == "nobody's":
        said = {"architectures": ["Bert"]}
    elif how == "no json":
        return config.write_text('{"action_dim": ')
    elif how == "other weights":
        tensors = {"encoder.layers.0.weight": torch.zeros(3)}
    elif how == "no tokenizer":
        (path / "tokenizer.json").unlink()
    elif how == "spoiled tokenizer":
        (path / "tokenizer.json").write_text("{}")
    elif how == "quantised":
        tensors["action_out_proj.weight"] = tensors["action_out_proj.weight"].to(torch.int8)
    elif how == "big tokenizer":
        hub.characters(path / "tokenizer.json", "<pad>", "<eos>", "<bos>", "<unk>", *(f"<loc{number}>" for number in range(40)))
    elif how == "relative actions":
        said = {"type": "pi0", "use_relative_actions": True}
    config.write_text(json.dumps(said))
    if tensors:
        save_file(tensors, weights)


@pytest.mark.parametrize("how, words", [
    ("truncated", "model.safetensors cannot be read"), ("no weights", "lacks model.safetensors"),
    ("missing", r"missing: model.dit.layers.1.mlp.up_proj.weight$"), ("unexpected", "unexpected: value_head.weight"),
    ("shape", r"layers.2.self_attn.o_proj.weight \(expected \(32, 32\), found \(3, 4\)\)"),
    ("action width", r"another shape: action_out_proj.bias \(expected \(9,\), found \(8,\)\)"),
    ("another policy", "type 'act'; expected one of pi0, pi05, smolvla"), ("nobody's", "no policy in .* expected policy.json"),
    ("no json", "config.json is no JSON"), ("other weights", "hold no vision tower"),
    ("no tokenizer", "lacks tokenizer.json; copy tokenizer.json or tokenizer.model of google/paligemma"),
    ("quantised", r"action_out_proj.weight \(torch.int8\)"), ("big tokenizer", "tokenizer has 141 words, the model 130"),
    ("spoiled tokenizer", "tokenizer.json is no tokenizer"), ("relative actions", "use_relative_actions is True"),
])  # fmt: skip
def test_bad_files_are_refused_with_the_reason(tmp_path, how, words):
    hub.openpi(tmp_path / "base")
    damaged(tmp_path / "base", how)
    with pytest.raises(UserError, match=words):
        load_policy(tmp_path / "base")


@pytest.mark.parametrize("folder, words", [("openpi pi0", "those of a pi0:"), ("openpi pi05", "those of a pi0.5")], indirect=["folder"])
def test_weights_of_another_family_are_refused(folder, words, tmp_path):
    policy = load_policy(folder[0])
    other = {"pi0": "pi05", "pi05": "pi0"}[policy.family]
    policy.config.model_copy(update={"family": other}).save(folder[0])
    with pytest.raises(UserError, match=words):
        load_policy(folder[0])


@pytest.mark.parametrize("change, words", [
    ({"image_size": 224}, "images of 8 pixels a side; its description says 224"), ({"action_names": ("dx",)}, "expected statistics of the 1 action"),
    ({"action_names": tuple("abcdefghi"), "action": Normalisation(mean=(0,) * 9, std=(1,) * 9)}, "actions of at most 8 dimensions; its description names 9"),
])  # fmt: skip
def test_a_description_that_does_not_fit_the_model_is_refused(tmp_path, change, words):
    hub.openpi(tmp_path / "base")
    load_policy(tmp_path / "base").config.model_copy(update=change).save(tmp_path / "base")
    with pytest.raises(UserError, match=words):
        load_policy(tmp_path / "base")


def test_statistics_of_several_robots_are_left_to_the_user(tmp_path, caplog):
    hub.openpi(tmp_path / "base", robots=("droid", "trossen"))
    policy = load_policy(tmp_path / "base")
    assert "droid, trossen" in caplog.text
    assert policy.config.action.mean == (0.0,) * hub.PADDED and policy.config.action.std == (1.0,) * hub.PADDED


@pytest.mark.parametrize("rule, kind", [
    ("QUANTILES", Quantiles(low=(), high=())), ("QUANTILE10", Quantiles(low=(), high=(), tail=0.1)), ("MIN_MAX", Quantiles(low=(), high=(), tail=0)),
    ("MEAN_STD", Normalisation(mean=(), std=())), ("IDENTITY", Quantiles(low=(), high=())),
])  # fmt: skip
def test_without_statistics_a_pi05_takes_all_as_it_is_and_a_datasets_own_by_its_rule(tmp_path, rule, kind):
    hub.lerobot(tmp_path / "base", "pi05", hub.pi_tensors(True), said={"normalization_mapping": {"STATE": rule, "ACTION": rule}})
    hub.characters(tmp_path / "base" / "tokenizer.json", "<pad>", "<eos>", "<bos>", "<unk>")
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        (tmp_path / "base" / name).unlink()
    values = np.random.default_rng(0).normal(size=(100, hub.ACTION))
    found = load_policy(tmp_path / "base").config.action
    assert np.allclose(found.normalise(values), values, atol=1e-6)
    own = new_statistics(found, values)
    wanted = Normalisation.of(values) if isinstance(kind, Normalisation) else Quantiles.of(values, kind.tail)
    assert own == wanted
    if rule == "MIN_MAX":
        assert own.low == tuple(values.min(0)) and own.high == tuple(values.max(0))


def test_cameras_that_lerobots_processor_renames_have_the_robots_names(tmp_path):
    cameras = {"observation.images.top": f"observation.images.{hub.CAMERAS[0]}"}
    hub.lerobot(tmp_path / "base", "pi0", hub.pi_tensors(False), renamed=cameras)
    hub.characters(tmp_path / "base" / "tokenizer.json", "<pad>", "<eos>", "<bos>", "<unk>")
    assert load_policy(tmp_path / "base").config.cameras == ("top", hub.CAMERAS[1])


def test_another_input_that_lerobots_processor_renames_is_refused(tmp_path):
    hub.lerobot(tmp_path / "base", "pi0", hub.pi_tensors(False), renamed={"observation.pose": "observation.state"})
    with pytest.raises(UserError, match="renames 'observation.pose' to 'observation.state'"):
        load_policy(tmp_path / "base")
