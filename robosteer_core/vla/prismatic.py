"""The weights of OpenVLA: a Prismatic VLM, that is DINOv2 and SigLIP side by side, a projector and Llama 2.

OpenVLA's own code builds the towers with timm; here they are transformers' of the same structure. timm fuses queries,
keys and values, puts no position on DINOv2's class token, and both towers are read before their last block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)  # fmt: skip

from robosteer_core.errors import UserError
from robosteer_core.vla.paligemma import layer_count
from robosteer_core.vla.sites import Sites, decoder_layers, layers

#: What shapes do not tell: heads of both vision towers (ViT-L and So400m), and the width of Llama 2's.
VISION_HEADS, HEAD_WIDTH = 16, 128
#: ImageNet's mean and deviation of red, green and blue, by which DINOv2 takes its images; SigLIP takes [-1, 1].
_DINO_MEAN, _DINO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_BLOCK = r"^vision_backbone\.{tower}\.blocks\.(\d+)\."
#: timm's names within a tower, and transformers', DINOv2's and SigLIP's.
_DINO = {
    "attn.proj": "attention.o_proj", "attn.q": "attention.q_proj", "attn.k": "attention.k_proj", "attn.v": "attention.v_proj",
    "ls1.scale_factor": "layer_scale1.lambda1", "ls2.scale_factor": "layer_scale2.lambda1",
}  # fmt: skip
_SIGLIP = {
    "attn.proj": "self_attn.out_proj", "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
    "norm1": "layer_norm1", "norm2": "layer_norm2",
}  # fmt: skip
_WHOLE = {
    "vision_backbone.featurizer.cls_token": "featurizer.embeddings.cls_token",
    "vision_backbone.featurizer.reg_token": "featurizer.embeddings.register_tokens",
    "vision_backbone.featurizer.patch_embed.proj.weight": "featurizer.embeddings.patch_embeddings.projection.weight",
    "vision_backbone.featurizer.patch_embed.proj.bias": "featurizer.embeddings.patch_embeddings.projection.bias",
    "vision_backbone.featurizer.norm.weight": "featurizer.layernorm.weight",
    "vision_backbone.featurizer.norm.bias": "featurizer.layernorm.bias",
    "vision_backbone.fused_featurizer.patch_embed.proj.weight": "fused_featurizer.embeddings.patch_embedding.weight",
    "vision_backbone.fused_featurizer.patch_embed.proj.bias": "fused_featurizer.embeddings.patch_embedding.bias",
    "vision_backbone.fused_featurizer.norm.weight": "fused_featurizer.post_layernorm.weight",
    "vision_backbone.fused_featurizer.norm.bias": "fused_featurizer.post_layernorm.bias",
}
_DINO_PLACES, _SIGLIP_PLACES = "featurizer.embeddings.position_embeddings", "fused_featurizer.embeddings.position_embedding.weight"
#: Of DINOv2, for pretraining; no file of timm has it.
MASK_TOKEN = "featurizer.embeddings.mask_token"


class Projector(nn.Module):
    """From both towers' features of a patch to a token of the language model."""

    def __init__(self, vision: int, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(vision, 4 * vision), nn.Linear(4 * vision, width), nn.Linear(width, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(features)))))


class PrismaticModel(nn.Module):
    """`featurizer` is DINOv2, `fused_featurizer` SigLIP, as OpenVLA names them. `text` is the language model's
    configuration; under the name of `config` PEFT would take this for a model of transformers."""

    def __init__(self, dino: Dinov2WithRegistersConfig, siglip: SiglipVisionConfig, text: LlamaConfig) -> None:
        super().__init__()
        self.text = text
        self.featurizer, self.fused_featurizer = Dinov2WithRegistersModel(dino), SiglipVisionModel(siglip)
        self.projector = Projector(dino.hidden_size + siglip.hidden_size, text.hidden_size)
        self.language_model = LlamaForCausalLM(text)
        for name, values in (("dino_mean", _DINO_MEAN), ("dino_std", _DINO_STD)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None], persistent=False)

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, patches, width of the language model)."""
        dtype = self.projector.fc1.weight.dtype
        for_dino = (((pixels + 1) / 2 - self.dino_mean) / self.dino_std).to(dtype)
        registers = self.featurizer.config.num_register_tokens
        first = _before_last(self.featurizer.embeddings(for_dino), self.featurizer.encoder.layer)[:, 1 + registers :]
        second = _before_last(self.fused_featurizer.embeddings(pixels.to(dtype)), self.fused_featurizer.encoder.layers)
        return self.projector(torch.cat([first, second], dim=-1))

    def sites(self) -> Sites:
        """`vision` counts DINOv2's layers first, then SigLIP's; the last of each is in the file and never run."""
        dino, siglip = self.featurizer.config, self.fused_featurizer.config
        heads = dino.num_attention_heads, dino.num_attention_heads
        first = layers(
            "vision", "featurizer.encoder.layer", (dino.num_hidden_layers, *heads, dino.hidden_size // heads[0]),
            dino.hidden_size * dino.mlp_ratio, names=("attention", "mlp"), gated=False, last_reaching=dino.num_hidden_layers - 2,
        )  # fmt: skip
        second = layers(
            "vision", "fused_featurizer.encoder.layers", (siglip.num_hidden_layers, *heads, siglip.hidden_size // heads[0]),
            siglip.intermediate_size, output="out_proj", gated=False, last_reaching=siglip.num_hidden_layers - 2, start=len(first),
        )  # fmt: skip
        return Sites({"vision": first + second, "vlm": decoder_layers("vlm", "language_model.model.layers", self.text)})


def _before_last(hidden: torch.Tensor, blocks: nn.ModuleList) -> torch.Tensor:
    for block in blocks[:-1]:
        hidden = block(hidden, attention_mask=None)
    return hidden


def ours(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of an OpenVLA file under our names, queries, keys and values apart. SigLIP's pooling, never run, is left out."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith("vision_backbone.fused_featurizer.attn_pool."):
            continue
        if name == "vision_backbone.featurizer.pos_embed":
            # timm adds positions to patches alone, transformers to the class token too.
            found[_DINO_PLACES] = torch.cat([torch.zeros_like(tensor[:, :1]), tensor], dim=1)
        elif name == "vision_backbone.fused_featurizer.pos_embed":
            found[_SIGLIP_PLACES] = tensor[0]
        else:
            for key, value in _split(name, tensor):
                found[_name(key)] = value
    return found


def theirs(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The way back, for saving."""
    found: dict[str, torch.Tensor] = {}
    whole = {ours: name for name, ours in _WHOLE.items()}
    for name, tensor in tensors.items():
        if name == MASK_TOKEN:
            continue
        if name == _DINO_PLACES:
            found["vision_backbone.featurizer.pos_embed"] = tensor[:, 1:].contiguous()
        elif name == _SIGLIP_PLACES:
            found["vision_backbone.fused_featurizer.pos_embed"] = tensor[None].contiguous()
        else:
            found[whole.get(name) or _back(name)] = tensor.contiguous()
    for name in [name for name in found if ".attn.q." in name]:
        parts = [found.pop(name.replace(".attn.q.", f".attn.{part}.")) for part in "qkv"]
        found[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
    return found


def _split(name: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    if ".attn.qkv." not in name:
        return [(name, tensor)]
    return [(name.replace(".attn.qkv.", f".attn.{part}."), value) for part, value in zip("qkv", tensor.chunk(3))]


_TOWERS = (("featurizer", "layer", _DINO), ("fused_featurizer", "layers", _SIGLIP))


def _name(name: str) -> str:
    for tower, blocks, names in _TOWERS:
        match = re.match(_BLOCK.format(tower=tower), name)
        if match:
            rest = name[match.end() :]
            for timm, own in names.items():
                rest = own + rest.removeprefix(timm) if rest == timm or rest.startswith(timm + ".") else rest
            return f"{tower}.encoder.{blocks}.{match[1]}.{rest}"
    return _WHOLE.get(name, name)


def _back(name: str) -> str:
    for tower, blocks, names in _TOWERS:
        start = f"{tower}.encoder.{blocks}."
        if name.startswith(start):
            number, _, rest = name.removeprefix(start).partition(".")
            for timm, own in names.items():
                rest = timm + rest.removeprefix(own) if rest == own or rest.startswith(own + ".") else rest
            return f"vision_backbone.{tower}.blocks.{number}.{rest}"
    return name


def configs_of(tensors: Mapping[str, torch.Tensor], said: Mapping[str, Any], source: Path) -> tuple[Any, Any, LlamaConfig]:
    """Configurations of both towers and the language model from the tensors, under our names; `said` is config.json.

    Raises UserError where a tensor that tells a size is missing.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise UserError(f"the weights in {source} are not those of an OpenVLA: {name} is missing")
        return tuple(tensors[name].shape)

    patch = shape("featurizer.embeddings.patch_embeddings.projection.weight")
    dino = Dinov2WithRegistersConfig(
        hidden_size=patch[0], patch_size=patch[-1], image_size=round((shape(_DINO_PLACES)[1] - 1) ** 0.5) * patch[-1],
        num_attention_heads=VISION_HEADS, num_hidden_layers=layer_count(tensors, "featurizer.encoder.layer"),
        mlp_ratio=shape("featurizer.encoder.layer.0.mlp.fc1.weight")[0] // patch[0],
        num_register_tokens=shape("featurizer.embeddings.register_tokens")[1],
    )  # fmt: skip
    patch = shape("fused_featurizer.embeddings.patch_embedding.weight")
    siglip = SiglipVisionConfig(
        hidden_size=patch[0], patch_size=patch[-1], image_size=round(shape(_SIGLIP_PLACES)[0] ** 0.5) * patch[-1], vision_use_head=False,
        intermediate_size=shape("fused_featurizer.encoder.layers.0.mlp.fc1.weight")[0], num_attention_heads=VISION_HEADS,
        num_hidden_layers=layer_count(tensors, "fused_featurizer.encoder.layers"), hidden_act="gelu",  # timm's, not SigLIP's own tanh
    )  # fmt: skip
    at = "language_model.model.layers.0"
    query, key = shape(f"{at}.self_attn.q_proj.weight"), shape(f"{at}.self_attn.k_proj.weight")
    text = LlamaConfig(
        hidden_size=query[1], head_dim=HEAD_WIDTH, num_attention_heads=max(1, query[0] // HEAD_WIDTH),
        num_key_value_heads=max(1, key[0] // HEAD_WIDTH), intermediate_size=shape(f"{at}.mlp.up_proj.weight")[0],
        num_hidden_layers=layer_count(tensors, "language_model.model.layers"), vocab_size=shape("language_model.lm_head.weight")[0],
        rms_norm_eps=(said.get("text_config") or {}).get("rms_norm_eps", 1e-6),  # what OpenVLA's configuration leaves unsaid
    )  # fmt: skip
    return dino, siglip, text
