"""Files of the published sizes, as shapes without memory: sizes are read from them and every tensor has a place."""

from pathlib import Path

import hub
import pytest
import torch

from robosteer_core.vla import paligemma, pi05, prismatic, smolvla
from robosteer_core.vla.checkpoint import empty

AT = "paligemma_with_expert"


def pi(adaptive):
    """pi0_base and pi05_base: Gemma 2B and 300M, SigLIP So400m at 224 pixels, 32 dimensions, words of PaliGemma."""
    tensors = hub.decoder(f"{AT}.paligemma.model.language_model", 2048, 16384, (8, 1, 256), 18)
    tensors |= hub.siglip(f"{AT}.paligemma.model.vision_tower.vision_model", 27, 1152, 4304, 224, 14)
    tensors |= hub.linear(f"{AT}.paligemma.model.multi_modal_projector.linear", 2048, 1152)
    tensors |= hub.linear(f"{AT}.paligemma.lm_head", 257152, 2048, bias=False) | hub.linear(f"{AT}.gemma_expert.lm_head", 257152, 1024, bias=False)
    norms = {"norm": hub.adaptive} if adaptive else {}
    return tensors | hub.decoder(f"{AT}.gemma_expert.model", 1024, 4096, (8, 1, 256), 18, **norms)


@pytest.mark.parametrize("adaptive", [False, True])
def test_pi0_and_pi05(adaptive):
    with torch.device("meta"):
        tensors = paligemma.renamed(pi(adaptive))
        config = paligemma.config_of(tensors, {"chunk_size": 50}, Path("pi"))
        with empty(torch.bfloat16):
            model = (pi05.Pi05Model if adaptive else pi05.PI0Model)(config)
    if adaptive:
        tensors.pop(paligemma.EXPERT_EMBEDDINGS)
    wanted = {name.removeprefix("model."): tuple(tensor.shape) for name, tensor in tensors.items()}
    core = model.model if adaptive else model
    assert {name: tuple(tensor.shape) for name, tensor in core.state_dict().items()} == wanted
    count = {part: sum(p.numel() for name, p in core.named_parameters() if name.startswith(part)) / 1e9 for part in ("vlm", "vlm.vision", "dit")}
    assert count["vlm"] == pytest.approx(2.92, abs=0.01) and count["vlm.vision"] == pytest.approx(0.41, abs=0.01)
    # The expert of 0.31 billion has 0.26 of embeddings that pi0 never reads; norms that follow time cost pi0.5 0.12.
    assert count["dit"] == pytest.approx(0.31 + (0.12 if adaptive else 0.26), abs=0.01)
    assert config.vlm_config.vision_config.image_size == 224 and config.dit_config.head_dim == 256


def test_smolvla():
    at = "vlm"
    with torch.device("meta"):
        tensors = hub.siglip(f"{at}.vision_model", 12, 768, 3072, 512, 16)
        tensors |= hub.linear(f"{at}.connector.modality_projection.proj", 960, 768 * 16, bias=False)
        tensors |= hub.linear(f"{at}.text_model.embed_tokens", 49280, 960, bias=False)
        tensors |= hub.decoder(f"{at}.text_model", 960, 2560, (15, 5, 64), 16, norm=hub.scale)
        tensors |= hub.decoder("lm_expert", 720, 2048, (15, 5, 64), 16, norm=hub.scale)
        for layer in range(1, 16, 2):
            for name in "kv":
                tensors |= hub.linear(f"lm_expert.layers.{layer}.self_attn.{name}_proj", 320, 320, bias=False)
        tensors |= hub.linear("state_proj", 960, 32) | hub.linear("action_in_proj", 720, 32) | hub.linear("action_out_proj", 32, 720)
        tensors |= hub.linear("action_time_mlp_in", 720, 1440) | hub.linear("action_time_mlp_out", 720, 720)
        sizes = smolvla.sizes_of(tensors, {}, Path("smolvla"))
        with empty(torch.bfloat16):
            model = smolvla.SmolVLAModel(sizes)
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == {name: tensor.shape for name, tensor in tensors.items()}
    # The paper's 450 million, of which 47 are a language head that nothing reads.
    assert (sum(p.numel() for p in model.parameters()) + 49280 * 960) / 1e6 == pytest.approx(450, abs=1)
    assert (sizes.vlm.text_config.num_attention_heads, sizes.vlm.text_config.num_key_value_heads, sizes.vlm.scale_factor) == (15, 5, 4)


def test_openvla():
    first, second = "vision_backbone.featurizer", "vision_backbone.fused_featurizer"
    with torch.device("meta"):
        tensors = hub.timm(first, 1024, 24, registers=4, scales=True, neurons=4096, places=256, patch=14)
        tensors |= hub.timm(second, 1152, 27, neurons=4304, places=256, patch=14)
        tensors |= hub.linear("projector.fc1", 8704, 2176) | hub.linear("projector.fc2", 4096, 8704) | hub.linear("projector.fc3", 4096, 4096)
        tensors |= hub.decoder("language_model.model", 4096, 11008, (32, 32, 128), 32, norm=hub.scale)
        for name in ("model.embed_tokens", "lm_head"):
            tensors |= hub.linear(f"language_model.{name}", 32064, 4096, bias=False)
        found = prismatic.ours(tensors)
        configs = prismatic.configs_of(found, {"text_config": {}}, Path("openvla"))
        with empty(torch.bfloat16):
            model = prismatic.PrismaticModel(*configs)
    there = {name: tensor.shape for name, tensor in model.state_dict().items() if name != prismatic.MASK_TOKEN}
    assert there == {name: tensor.shape for name, tensor in found.items()}
    # 7,541,237,184 parameters lie in the file of openvla-7b; 15.24 million are SigLIP's pooling, which is left out.
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(7_541_237_184 - 15.24e6, abs=0.05e6)
    assert model.sites().shape("vlm") == (32, 32) and model.sites().shape("vision") == (51, 16)
