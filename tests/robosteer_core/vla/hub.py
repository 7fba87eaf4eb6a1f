"""Checkpoint folders in the layouts of the hub, at small sizes and with random weights: names and files as published."""

import json

import numpy as np
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

WIDTH, EXPERT, LAYERS, HEADS, HEAD, VOCABULARY = 32, 24, 3, 8, 4, 130
VISION, PATCH, IMAGE = 32, 4, 8
CHUNK, STATE, ACTION, PADDED = 5, 4, 3, 8
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")


def characters(path, *special):
    """A tokenizer whose tokens are the printable characters: what is in a prompt can be read off its ids."""
    words = [*special, "\n", *map(chr, range(32, 127)), "\u2581"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(list(special))
    tokenizer.save(str(path))
    return tokenizer


def linear(name, out, into, bias=True):
    return {f"{name}.weight": torch.randn(out, into) * into**-0.5} | ({f"{name}.bias": torch.randn(out) * 0.1} if bias else {})


def decoder(path, width, neurons, heads=(HEADS, 1, HEAD), layers=LAYERS, norm=lambda name, width: {f"{name}.weight": torch.randn(width) * 0.1}):
    """A Gemma or Llama under a path."""
    tensors, (queries, pairs, size) = {}, heads
    for layer in range(layers):
        at = f"{path}.layers.{layer}"
        for name, count in (("q", queries), ("k", pairs), ("v", pairs)):
            tensors |= linear(f"{at}.self_attn.{name}_proj", count * size, width, bias=False)
        tensors |= linear(f"{at}.self_attn.o_proj", width, queries * size, bias=False)
        for name, out, into in (("gate", neurons, width), ("up", neurons, width), ("down", width, neurons)):
            tensors |= linear(f"{at}.mlp.{name}_proj", out, into, bias=False)
        tensors |= norm(f"{at}.input_layernorm", width) | norm(f"{at}.post_attention_layernorm", width)
    return tensors | norm(f"{path}.norm", width)


def layer_norm(name, width):
    return {f"{name}.weight": 1 + torch.randn(width) * 0.1, f"{name}.bias": torch.randn(width) * 0.1}


def siglip(path, layers=2, width=VISION, neurons=40, size=IMAGE, patch=PATCH):
    tensors = {f"{path}.embeddings.patch_embedding.weight": torch.randn(width, 3, patch, patch) * 0.1,
               f"{path}.embeddings.patch_embedding.bias": torch.randn(width) * 0.1,
               f"{path}.embeddings.position_embedding.weight": torch.randn((size // patch) ** 2, width) * 0.1}  # fmt: skip
    for layer in range(layers):
        at = f"{path}.encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors |= linear(f"{at}.self_attn.{name}", width, width)
        tensors |= linear(f"{at}.mlp.fc1", neurons, width) | linear(f"{at}.mlp.fc2", width, neurons)
        tensors |= layer_norm(f"{at}.layer_norm1", width) | layer_norm(f"{at}.layer_norm2", width)
    return tensors | layer_norm(f"{path}.post_layernorm", width)


def adaptive(name, width):
    return linear(f"{name}.dense", 3 * width, width)


def pi_tensors(pi05):
    """A pi0 or pi0.5 under openpi's names; word embeddings as the language head alone, as openpi's converter writes them."""
    torch.manual_seed(3)
    model = "paligemma_with_expert"
    tensors = decoder(f"{model}.paligemma.model.language_model", WIDTH, 48)
    tensors |= siglip(f"{model}.paligemma.model.vision_tower.vision_model")
    tensors |= linear(f"{model}.paligemma.model.multi_modal_projector.linear", WIDTH, VISION)
    tensors |= {f"{model}.paligemma.lm_head.weight": torch.randn(VOCABULARY, WIDTH) * 0.1}
    norms = {"norm": adaptive} if pi05 else {}
    tensors |= decoder(f"{model}.gemma_expert.model", EXPERT, 40, **norms)
    tensors |= linear(f"{model}.gemma_expert.lm_head", VOCABULARY, EXPERT, bias=False)
    tensors |= linear("action_in_proj", EXPERT, PADDED) | linear("action_out_proj", PADDED, EXPERT)
    if pi05:
        return tensors | linear("time_mlp_in", EXPERT, EXPERT) | linear("time_mlp_out", EXPERT, EXPERT)
    tensors |= linear("state_proj", EXPERT, PADDED)
    return tensors | linear("action_time_mlp_in", EXPERT, 2 * EXPERT) | linear("action_time_mlp_out", EXPERT, EXPERT)


def statistics(names, columns, seed=0):
    """Numbers of a dataset: `columns` in increasing order for each of `names` with its width."""
    random = np.random.default_rng(seed)
    found = {}
    for name, width in names.items():
        start = random.normal(size=width)
        for step, column in enumerate(columns):
            found[name, column] = (start if column == "mean" else np.abs(start) + 0.5 if column == "std" else start + step).astype(np.float32)
    return found


def write_json(path, content):
    path.write_text(json.dumps(content))


def openpi(folder, pi05=False, dtype=torch.float32, robots=("franka",)):
    """As openpi's converter leaves it: `config.json`, one file of weights, `assets/<robot>/norm_stats.json`."""
    folder.mkdir()
    tensors = {name: tensor.to(dtype) for name, tensor in pi_tensors(pi05).items()}
    save_file(tensors, folder / "model.safetensors")
    write_json(folder / "config.json", {"action_dim": PADDED, "action_horizon": CHUNK, "paligemma_variant": "gemma_2b",
                                        "action_expert_variant": "gemma_300m", "precision": "float32"})  # fmt: skip
    known = statistics({"state": STATE, "actions": ACTION}, ("mean", "std", "q01", "q99"))
    for robot in robots:
        (folder / "assets" / robot).mkdir(parents=True)
        content = {key: {column: known[key, column].tolist() for column in ("mean", "std", "q01", "q99")} for key in ("state", "actions")}
        write_json(folder / "assets" / robot / "norm_stats.json", {"norm_stats": content})
    characters(folder / "tokenizer.json", "<pad>", "<eos>", "<bos>", "<unk>")
    return tensors


def lerobot(folder, family, tensors, *, shards=1, said=None, renamed=None):
    """As lerobot's `save_pretrained` leaves it, with the processors and their statistics; `renamed` inputs, theirs to the policy's."""
    folder.mkdir()
    tensors = {f"model.{name}": tensor for name, tensor in tensors.items()}
    save_shards(folder, tensors, shards)
    rule = "QUANTILES" if family == "pi05" else "MEAN_STD"
    features = {f"observation.images.{name}": {"type": "VISUAL", "shape": [3, 224, 224]} for name in CAMERAS}
    write_json(folder / "config.json", {
        "type": family, "n_obs_steps": 1, "chunk_size": CHUNK, "n_action_steps": CHUNK, "max_state_dim": PADDED, "max_action_dim": PADDED,
        "input_features": features | {"observation.state": {"type": "STATE", "shape": [STATE]}},
        "output_features": {"action": {"type": "ACTION", "shape": [ACTION]}},
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": rule, "ACTION": rule}, "tokenizer_max_length": 90,
        "num_inference_steps": 4, "image_resolution": [IMAGE, IMAGE], "dtype": "float32", "device": "cpu", "license": "apache-2.0",
    } | (said or {}))  # fmt: skip
    known = statistics({"observation.state": STATE, "action": ACTION}, ("mean", "std", "q01", "q99"))
    for name, step in (("policy_preprocessor", "normalizer_processor"), ("policy_postprocessor", "unnormalizer_processor")):
        file = f"{name}_step_3_{step}.safetensors"
        save_arrays({f"{key}.{column}": value for (key, column), value in known.items()}, folder / file)
        steps = [{"registry_name": "rename_observations_processor", "config": {"rename_map": renamed or {}}},
                 {"registry_name": "to_batch_processor", "config": {}},
                 {"registry_name": step, "config": {"eps": 1e-8}, "state_file": file}]  # fmt: skip
        write_json(folder / f"{name}.json", {"name": name, "steps": steps})
    return known


def save_shards(folder, tensors, shards):
    if shards == 1:
        return save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    names, places = sorted(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name].contiguous() for name in names[number::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})


# SmolVLM2's heads are 64 wide, 12 in the vision tower; the rest is small.
SMOL_WIDTH, SMOL_EXPERT, SMOL_HEADS, SMOL_VISION, SMOL_IMAGE, SMOL_VOCABULARY = 48, 36, (3, 1, 64), 24, 16, 110


def smolvla_tensors():
    """A SmolVLA under lerobot's names, less the leading `model.`."""
    torch.manual_seed(4)
    at, expert = "vlm_with_expert", "vlm_with_expert.lm_expert"
    tensors = siglip(f"{at}.vlm.model.vision_model", width=SMOL_VISION, size=SMOL_IMAGE)
    tensors |= linear(f"{at}.vlm.model.connector.modality_projection.proj", SMOL_WIDTH, SMOL_VISION * 4, bias=False)
    tensors |= {f"{at}.vlm.model.text_model.embed_tokens.weight": torch.randn(SMOL_VOCABULARY, SMOL_WIDTH) * 0.1}
    tensors |= linear(f"{at}.vlm.lm_head", SMOL_VOCABULARY, SMOL_WIDTH, bias=False)
    tensors |= decoder(f"{at}.vlm.model.text_model", SMOL_WIDTH, 64, SMOL_HEADS, layers=4, norm=scale)
    tensors |= decoder(expert, SMOL_EXPERT, 56, SMOL_HEADS, layers=4, norm=scale)
    for layer in (1, 3):
        for name in "kv":
            tensors |= linear(f"{expert}.layers.{layer}.self_attn.{name}_proj", 64, 64, bias=False)
    tensors |= linear("state_proj", SMOL_WIDTH, PADDED) | linear("action_in_proj", SMOL_EXPERT, PADDED)
    tensors |= linear("action_out_proj", PADDED, SMOL_EXPERT) | linear("action_time_mlp_in", SMOL_EXPERT, 2 * SMOL_EXPERT)
    return tensors | linear("action_time_mlp_out", SMOL_EXPERT, SMOL_EXPERT)


def scale(name, width):
    return {f"{name}.weight": 1 + torch.randn(width) * 0.1}


def smolvla(folder, tensors=None, **more):
    said = {"resize_imgs_with_padding": [SMOL_IMAGE, SMOL_IMAGE], "num_steps": 4, "tokenizer_max_length": 20, "vlm_model_name":
            "HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "num_vlm_layers": 16, "num_expert_layers": 0, "self_attn_every_n_layers": 2,
            "attention_mode": "cross_attn", "add_image_special_tokens": False, "prefix_length": 0}  # fmt: skip
    tensors = smolvla_tensors() if tensors is None else tensors
    lerobot(folder, "smolvla", tensors, said=said | more)
    characters(folder / "tokenizer.json", "<|endoftext|>", "<|im_start|>", "<|im_end|>")
    return tensors


# Both of OpenVLA's towers have 16 heads, its Llama heads 128 wide; the rest is small.
DINO, SIGLIP, LLAMA, LLAMA_HEADS, WORDS = 64, 48, 40, (2, 2, 128), 384
BINNED = 320  # words of the vocabulary that are not there to pad it


def timm(path, width, depth, registers=0, scales=False, neurons=None, places=4, patch=4):
    """A vision transformer as timm names its parts."""
    tensors = {f"{path}.pos_embed": torch.randn(1, places, width) * 0.1, f"{path}.patch_embed.proj.weight": torch.randn(width, 3, patch, patch) * 0.1,
               f"{path}.patch_embed.proj.bias": torch.randn(width) * 0.1}  # fmt: skip
    if registers:
        tensors |= {f"{path}.cls_token": torch.randn(1, 1, width), f"{path}.reg_token": torch.randn(1, registers, width)}
    neurons = neurons or 2 * width
    for block in range(depth):
        at = f"{path}.blocks.{block}"
        tensors |= linear(f"{at}.attn.qkv", 3 * width, width) | linear(f"{at}.attn.proj", width, width)
        tensors |= linear(f"{at}.mlp.fc1", neurons, width) | linear(f"{at}.mlp.fc2", width, neurons)
        tensors |= layer_norm(f"{at}.norm1", width) | layer_norm(f"{at}.norm2", width)
        if scales:
            tensors |= {f"{at}.{name}.scale_factor": torch.randn(width) for name in ("ls1", "ls2")}
    return tensors | layer_norm(f"{path}.norm", width)


def openvla_tensors():
    torch.manual_seed(5)
    first, second = "vision_backbone.featurizer", "vision_backbone.fused_featurizer"
    tensors = timm(first, DINO, 3, registers=4, scales=True) | timm(second, SIGLIP, 4)
    tensors |= {f"{second}.attn_pool.latent": torch.randn(1, 1, SIGLIP)} | linear(f"{second}.attn_pool.kv", 2 * SIGLIP, SIGLIP)
    both = DINO + SIGLIP
    tensors |= linear("projector.fc1", 4 * both, both) | linear("projector.fc2", LLAMA, 4 * both) | linear("projector.fc3", LLAMA, LLAMA)
    tensors |= decoder("language_model.model", LLAMA, 56, LLAMA_HEADS, norm=scale)
    tensors |= {"language_model.model.embed_tokens.weight": torch.randn(WORDS, LLAMA)}
    return tensors | linear("language_model.lm_head", WORDS, LLAMA, bias=False)


def openvla(folder, tensors=None, datasets=("bridge_orig",), oft=False, shards=2, chunk_name="libero_spatial_no_noops"):
    """As `openvla/openvla-7b` lies on the hub; with `oft` as OpenVLA-OFT's merged checkpoints do, head and projector beside."""
    folder.mkdir()
    tensors = openvla_tensors() if tensors is None else tensors
    save_shards(folder, tensors, shards)
    known = statistics({"action": 7, "proprio": STATE}, ("mean", "std", "q01", "q99", "min", "max"))
    described = {key: {column: known[key, column].tolist() for column in ("mean", "std", "q01", "q99", "min", "max")} for key in ("action", "proprio")}
    described["action"]["mask"] = [True] * 6 + [False]
    norm_stats = {name: described | {"num_transitions": 10} for name in datasets}
    write_json(folder / "config.json", {
        "model_type": "openvla", "architectures": ["OpenVLAForActionPrediction"], "arch_specifier": "no-align+fused-gelu-mlp", "n_action_bins": 256,
        "image_sizes": [IMAGE, IMAGE], "image_resize_strategy": "resize-naive", "llm_backbone_id": "llama2-7b-pure", "pad_to_multiple_of": 64,
        "text_config": {"model_type": "llama", "pad_token_id": 0, "torch_dtype": "bfloat16", "vocab_size": WORDS}, "norm_stats": norm_stats,
        "use_fused_vision_backbone": True, "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
    })  # fmt: skip
    characters(folder / "tokenizer.json", "<unk>", "<s>", "</s>")
    if not oft:
        return tensors, {}, {}
    write_json(folder / "dataset_statistics.json", {chunk_name: described})
    torch.manual_seed(6)
    head = layer_norm("model.layer_norm1", 7 * LLAMA) | linear("model.fc1", 24, 7 * LLAMA) | layer_norm("model.layer_norm2", 24)
    head |= linear("model.fc2", 7, 24)
    for block in range(2):
        at = f"model.mlp_resnet_blocks.{block}.ffn"
        head |= layer_norm(f"{at}.0", 24) | linear(f"{at}.1", 24, 24)
    proprio = linear("fc1", LLAMA, STATE) | linear("fc2", LLAMA, LLAMA)
    torch.save({f"module.{name}": tensor for name, tensor in head.items()}, folder / "action_head--150000_checkpoint.pt")
    torch.save(proprio, folder / "proprio_projector--150000_checkpoint.pt")
    return tensors, head, proprio


def assert_eligible(policy):
    """Eligible heads and feed-forward layers are those whose rows got a gradient from what was just run backwards."""
    for part in policy.sites.parts:
        for site, forward, heads, layer in zip(
            policy.sites.part(part), policy.sites.feed_forward(part), policy.sites.eligible(part), policy.sites.eligible_feed_forward(part)
        ):
            gradient = policy.model.get_submodule(site.q_proj).weight.grad
            for head in range(site.heads):
                assert (gradient is not None and bool(gradient[list(site.rows(head))].abs().sum() > 0)) == heads[head], (site, head)
            gradient = policy.model.get_submodule(forward.up).weight.grad
            assert (gradient is not None and bool(gradient.abs().sum() > 0)) == layer, forward


#: By family, a function that writes a small checkpoint of it into a folder, in a layout of the hub.
FAMILIES = {
    "pi0": openpi,
    "pi05": lambda path: openpi(path, pi05=True),
    "smolvla": smolvla,
    "openvla": openvla,
    "openvla_oft": lambda path: openvla(path, oft=True),
}
