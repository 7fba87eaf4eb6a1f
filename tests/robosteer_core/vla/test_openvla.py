"""OpenVLA and OpenVLA-OFT from their layouts: every tensor in its place, the actions of the published formulas."""

import json

import hub
import numpy as np
import plain
import pytest
import torch
from torch.nn import functional as F

from robosteer_core.adapters.slices import head_slices
from robosteer_core.adapters.sparse_lora import add_adapter
from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import load_policy
from robosteer_core.vla.config import new_statistics
from robosteer_core.vla.sites import Head

CHUNK = 8


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "openvla"
    return path, hub.openvla(path)[0]


@pytest.fixture
def oft(tmp_path):
    path = tmp_path / "oft"
    return path, *hub.openvla(path, oft=True)


def inputs_of(policy, instructions=("press the Button", "go")):
    random, count = np.random.default_rng(0), len(instructions)
    images = {name: random.integers(0, 255, (count, 12, 20, 3), dtype=np.uint8) for name in policy.config.cameras}
    return policy.inputs(images, random.normal(size=(count, hub.STATE)), list(instructions))


def patches(tensors, pixels):
    """Tokens of one camera's image, from tensors under OpenVLA's names; pixels in [-1, 1]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    first = plain.timm(tensors, "vision_backbone.featurizer", ((pixels + 1) / 2 - mean) / std, 2)
    second = plain.timm(tensors, "vision_backbone.fused_featurizer", pixels, 3)
    x = torch.cat([first, second], -1)
    for number in (1, 2, 3):
        x = F.linear(F.gelu(x) if number > 1 else x, tensors[f"projector.fc{number}.weight"], tensors[f"projector.fc{number}.bias"])
    return x


def states(tensors, embeddings, causal):
    """Hidden states after the last norm of one sequence, none of it padding."""
    length = embeddings.shape[1]
    mask = torch.ones(1, length, length, dtype=torch.bool)
    return plain.llama(tensors, "language_model.model", embeddings, torch.arange(length)[None], mask.tril() if causal else mask, hub.LAYERS, 128, 1e-6)


@torch.no_grad()
def test_actions_are_the_likeliest_words_one_after_another(folder):
    path, tensors = folder
    policy = load_policy(path)
    inputs = inputs_of(policy)
    found = policy.predict(inputs)
    words = tensors["language_model.model.embed_tokens.weight"]
    for row in range(2):
        ids = inputs.ids[row, : inputs.mask[row].sum()]
        sequence = torch.cat([words[ids[:1]], patches(tensors, inputs.pixels[row, :1])[0], words[ids[1:]]])[None]
        for dimension in range(7):
            word = int((states(tensors, sequence, True)[:, -1] @ tensors["language_model.lm_head.weight"].T).argmax())
            bin_ = min(max(hub.BINNED - word - 1, 0), 254)
            assert found[row, 0, dimension] == pytest.approx(-1 + (bin_ + 0.5) * 2 / 255, abs=1e-6)
            sequence = torch.cat([sequence, words[word][None, None]], 1)


@torch.no_grad()
def test_words_of_training_get_the_logits_of_the_whole_sequence(folder):
    path, tensors = folder
    policy = load_policy(path)
    inputs, actions = inputs_of(policy), torch.rand(2, 1, 7) * 2 - 1
    ids = torch.from_numpy(policy.bins(actions[:, 0].numpy()))
    words, losses = tensors["language_model.model.embed_tokens.weight"], policy.losses(inputs, actions)
    for row in range(2):
        prompt = inputs.ids[row, : inputs.mask[row].sum()]
        sequence = torch.cat([words[prompt[:1]], patches(tensors, inputs.pixels[row, :1])[0], words[prompt[1:]], words[ids[row]]])[None]
        logits = states(tensors, sequence, True)[0, -8:-1] @ tensors["language_model.lm_head.weight"].T
        assert torch.allclose(losses[row, 0], F.cross_entropy(logits, ids[row], reduction="none"), atol=1e-4)


def test_every_tensor_of_the_file_comes_back_out_of_the_model(folder, tmp_path):
    """Names, splits and positions of ours are undone on the way out: what is lost or swapped would differ."""
    path, tensors = folder
    policy = load_policy(path)
    policy.save(tmp_path / "again")
    from robosteer_core.vla.checkpoint import read_tensors

    again = read_tensors(tmp_path / "again")
    assert again.keys() == {name for name in tensors if ".attn_pool." not in name}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in again.items())
    first, second = (p.predict(inputs_of(p)) for p in (policy, load_policy(tmp_path / "again")))
    assert torch.equal(first, second)


def test_queries_keys_and_values_are_split_from_the_fused_projection(folder):
    path, tensors = folder
    model = load_policy(path).model
    fused = tensors["vision_backbone.featurizer.blocks.1.attn.qkv.weight"]
    attention = model.featurizer.encoder.layer[1].attention
    assert torch.equal(torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]), fused)
    assert torch.equal(model.fused_featurizer.encoder.layers[2].self_attn.v_proj.bias,
                       tensors["vision_backbone.fused_featurizer.blocks.2.attn.qkv.bias"][2 * hub.SIGLIP :])  # fmt: skip


def test_actions_are_binned_and_read_back_at_the_centres(folder):
    policy = load_policy(folder[0])
    # 256 edges from -1 to 1: numpy's digitize gives 1 to 256, words count down from the end of the vocabulary.
    actions = np.array([-1.0, -2.0, 1.0, 0.0, -1 + 2 / 255 + 1e-6])
    assert (hub.BINNED - policy.bins(actions)).tolist() == [1, 1, 256, 128, 2]
    back = policy.actions_of(policy.bins(actions))
    assert np.allclose(back, [-1 + 1 / 255, -1 + 1 / 255, 1 - 1 / 255, 0.0, -1 + 3 / 255], atol=1e-9)


def test_actions_are_scaled_by_quantiles_and_the_gripper_is_left(folder):
    policy = load_policy(folder[0])
    known = hub.statistics({"action": 7, "proprio": hub.STATE}, ("mean", "std", "q01", "q99", "min", "max"))
    low, high = known["action", "q01"].astype(float), known["action", "q99"].astype(float)
    normalised = np.linspace(-1, 1, 7)
    wanted = np.where([True] * 6 + [False], 0.5 * (normalised + 1) * (high - low) + low, normalised)
    assert np.allclose(policy.config.action.denormalise(normalised), wanted)
    beyond = low + 1.5 * (high - low)
    assert policy.config.action.normalise(beyond)[:6].tolist() == [1.0] * 6


def test_the_prompt_is_openvlas(folder):
    policy = load_policy(folder[0])
    ids, mask = policy.tokens(["Press IT"], np.zeros((1, 4)))
    text = "In: What action should the robot take to press it?\nOut:"
    # <unk> <s> </s> new line, the characters from the space on, and last the empty word
    assert ids[0, : mask[0].sum()].tolist() == [1, *(3 if sign == "\n" else ord(sign) - 28 for sign in text), 4 + 95]


def test_a_checkpoint_of_several_datasets_leaves_the_choice(tmp_path, caplog):
    hub.openvla(tmp_path / "base", datasets=("bridge_orig", "fractal"))
    policy = load_policy(tmp_path / "base")
    assert "bridge_orig, fractal" in caplog.text
    assert policy.config.action.normalise(np.linspace(-1, 1, 7)).tolist() == pytest.approx(np.linspace(-1, 1, 7))
    own = new_statistics(policy.config.action, np.random.default_rng(0).normal(size=(50, 7)))
    assert own.clip and own.mask == (True,) * 6 + (False,), "a dataset's own are of OpenVLA's kind, the gripper is left"


def test_oft_of_several_datasets_takes_widths_from_them_and_numbers_as_they_are(tmp_path):
    hub.openvla(tmp_path / "base", oft=True)
    stored = json.loads((tmp_path / "base" / "dataset_statistics.json").read_text())
    ((_, statistics),) = stored.items()
    hub.write_json(tmp_path / "base" / "dataset_statistics.json", {"libero_10": statistics, "libero_goal": statistics})
    config = load_policy(tmp_path / "base").config
    assert (config.state.low, config.action.high, config.action.mask) == ((-1.0,) * hub.STATE, (1.0,) * 7, (True,) * 6 + (False,))


def test_heads_are_eligible_whose_queries_get_a_gradient_from_the_action(folder):
    policy = load_policy(folder[0])
    policy.losses(inputs_of(policy, ["go"]), torch.zeros(1, 1, 7)).sum().backward()
    hub.assert_eligible(policy)
    assert policy.sites.eligible("vlm").all() and policy.sites.eligible("vision")[:, 0].tolist() == [True, True, False, True, True, True, False]


@torch.no_grad()
def test_oft_reads_a_chunk_off_empty_tokens_that_all_see_each_other(oft):
    path, tensors, head, proprio = oft
    policy = load_policy(path)
    inputs = inputs_of(policy)
    found, words = policy.predict(inputs), tensors["language_model.model.embed_tokens.weight"]
    assert found.shape == (2, CHUNK, 7)
    for row in range(2):
        ids = inputs.ids[row, : inputs.mask[row].sum()]
        state = F.linear(F.gelu(F.linear(inputs.state[row], proprio["fc1.weight"], proprio["fc1.bias"])), proprio["fc2.weight"], proprio["fc2.bias"])
        seen = patches(tensors, inputs.pixels[row]).flatten(0, 1)
        sequence = torch.cat([words[ids[:1]], seen, state[None], words[ids[1:]], torch.zeros(CHUNK * 7, hub.LLAMA), words[2:3]])[None]
        start = len(seen) + 1 + len(ids) - 1  # OFT: patches (with the state) and prompt tokens less the first
        x = states(tensors, sequence, False)[0, start : start + CHUNK * 7].reshape(CHUNK, -1)

        def layer(name, x):
            return F.linear(x, head[f"model.{name}.weight"], head[f"model.{name}.bias"])

        def norm(name, x):
            return F.layer_norm(x, x.shape[-1:], head[f"model.{name}.weight"], head[f"model.{name}.bias"])

        x = F.relu(layer("fc1", norm("layer_norm1", x)))
        for block in range(2):
            x = x + F.relu(layer(f"mlp_resnet_blocks.{block}.ffn.1", norm(f"mlp_resnet_blocks.{block}.ffn.0", x)))
        assert torch.allclose(found[row], layer("fc2", norm("layer_norm2", x)), atol=1e-4)


def test_oft_normalises_and_cuts_the_state(oft):
    policy = load_policy(oft[0])
    known = hub.statistics({"action": 7, "proprio": hub.STATE}, ("mean", "std", "q01", "q99", "min", "max"))
    low, high = known["proprio", "q01"].astype(float), known["proprio", "q99"].astype(float)
    x = np.random.default_rng(0).normal(size=(5, hub.STATE)) * 2
    assert np.allclose(policy.normalised_state(x), np.clip(2 * (x - low) / (high - low + 1e-8) - 1, -1, 1), atol=1e-5)


@pytest.mark.parametrize("name, chunk", [("libero_10", 8), ("aloha_fold", 25), ("bridge_dataset", 5)])
def test_the_chunk_is_that_of_the_robot_in_the_statistics(tmp_path, name, chunk):
    hub.openvla(tmp_path / "oft", oft=True, chunk_name=name)
    policy = load_policy(tmp_path / "oft")
    assert policy.chunk_size == chunk
    column = "min" if "aloha" in name else "q01"
    known = hub.statistics({"action": 7, "proprio": hub.STATE}, ("mean", "std", "q01", "q99", "min", "max"))
    assert np.allclose(policy.config.action.low, known["action", column])


@pytest.mark.parametrize("oft", [False, True])
@torch.no_grad()
def test_in_half_precision_actions_are_finite_and_in_single_precision(tmp_path, oft):
    hub.openvla(tmp_path / "base", oft=oft)
    policy = load_policy(tmp_path / "base", dtype=torch.bfloat16)
    found = policy.predict(inputs_of(policy))
    assert policy.dtype == torch.bfloat16 and found.dtype == torch.float32 and bool(found.isfinite().all())


@torch.no_grad()
def test_oft_saved_and_loaded_again_predicts_the_same(oft, tmp_path):
    policy = load_policy(oft[0])
    policy.save(tmp_path / "ours")
    again = load_policy(tmp_path / "ours")
    assert again.chunk_size == CHUNK and torch.equal(policy.predict(inputs_of(policy)), again.predict(inputs_of(again)))


def test_oft_heads_are_eligible_by_gradient_and_can_be_adapted(oft):
    policy = load_policy(oft[0])
    policy.losses(inputs_of(policy, ["go"]), torch.zeros(1, CHUNK, 7)).sum().backward()
    hub.assert_eligible(policy)
    policy.zero_grad()
    add_adapter(policy.model, head_slices(policy.sites, [Head("vlm", 1, 1), Head("vision", 4, 3)], "own"), 2, 2.0)
    policy.losses(inputs_of(policy, ["go"]), torch.zeros(1, CHUNK, 7)).sum().backward()
    assert {name.split(".")[0] for name, p in policy.model.named_parameters() if p.grad is not None} == {"language_model", "fused_featurizer"}


@pytest.mark.parametrize("how, words", [
    ("no head", "lacks its action head"), ("truncated head", "action_head--150000_checkpoint.pt cannot be read"),
    ("two heads", "several files of action_head"), ("film", "vision_backbone: images changed by words"),
    ("diffusion", "actions by diffusion"), ("missing shard", "lacks model-00002-of-00002.safetensors, which"),
    ("missing", "missing: language_model.model.layers.0.mlp.gate_proj.weight"), ("other tower", "missing: fused_featurizer|is missing"),
    ("bins", "256 bins"), ("state", "for 7 action and 4 state dimensions"),
])  # fmt: skip
def test_bad_files_are_refused_with_the_reason(oft, tmp_path, how, words):
    path = oft[0]
    head, config = path / "action_head--150000_checkpoint.pt", path / "config.json"
    if how == "no head":
        load_policy(path).config.save(path)
        head.unlink()
    elif how == "truncated head":
        head.write_bytes(head.read_bytes()[:-2000])
    elif how == "two heads":
        (path / "action_head--1_checkpoint.pt").write_bytes(head.read_bytes())
    elif how in ("film", "diffusion"):
        (path / f"{'vision_backbone' if how == 'film' else 'noisy_action_projector'}--150000_checkpoint.pt").touch()
    elif how == "missing shard":
        (path / "model-00002-of-00002.safetensors").unlink()
    elif how in ("missing", "other tower"):
        gone = "language_model.model.layers.0.mlp.gate_proj.weight" if how == "missing" else "vision_backbone.fused_featurizer."
        hub.save_shards(path, {name: tensor for name, tensor in oft[1].items() if not name.startswith(gone)}, 2)
    elif how == "bins":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"n_action_bins": 1024}))
    elif how == "state":
        found = load_policy(path).config
        found.model_copy(update={"state_names": ("x",)}).save(path)
    with pytest.raises(UserError, match=words):
        load_policy(path)
