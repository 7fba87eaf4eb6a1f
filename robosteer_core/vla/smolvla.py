"""SmolVLA (arXiv 2506.01844): the first layers of SmolVLM2, and an expert whose odd layers look at the VLM's keys and values alone.

The state is the prefix's last token; the actions see each other causally. Sizes are read from the weights' shapes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel, SmolVLMConfig, SmolVLMModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import MODEL_FILE, WEIGHTS_FILE, empty, put_tensors, read_json, read_tensors
from robosteer_core.vla.config import PolicyConfig
from robosteer_core.vla.decoder import KeyValue, Rotary, attend, finish, run_layers, split
from robosteer_core.vla.paligemma import image_size, layer_count
from robosteer_core.vla.policy import FlowPolicy, Frame, Inputs, Prefix, prefix_positions, sinusoid
from robosteer_core.vla.sites import Sites, decoder_layers, encoder_layers
from robosteer_core.vla.tokenizer import load_tokenizer

#: What shapes do not tell, of SmolVLM2-500M: width of the language model's heads, heads of the vision tower.
HEAD_WIDTH, VISION_HEADS = 64, 12
#: lerobot turns positions with this base, whatever SmolVLM2's own (100,000) was.
ROPE_BASE = 10_000.0
#: Every so many layers the expert attends to itself as well; in the others to the VLM alone.
SELF_ATTENTION_EVERY = 2
_NAMES = {"vlm.": "model.vlm_with_expert.vlm.model.", "lm_expert.": "model.vlm_with_expert.lm_expert."}
_LANGUAGE_HEAD = "model.vlm_with_expert.vlm.lm_head.weight"


@dataclass(frozen=True)
class SmolVLASizes:
    """`vlm` and `expert` are configurations of transformers; the rest is lerobot's. Times are drawn as in pi0."""

    vlm: SmolVLMConfig
    expert: LlamaConfig
    chunk_size: int = 50
    max_state_dim: int = 32
    max_action_dim: int = 32
    min_period: float = 4e-3
    max_period: float = 4.0
    time_sampling_beta_alpha: float = 1.5
    time_sampling_scale: float = 0.999
    time_sampling_offset: float = 0.001


class SmolVLAModel(nn.Module):
    """The weights: transformers' SmolVLM, a Llama as expert, and the projections."""

    def __init__(self, config: SmolVLASizes) -> None:
        super().__init__()
        self.sizes = config
        self.vlm, self.lm_expert = SmolVLMModel(config.vlm), LlamaModel(config.expert)
        self.lm_expert.embed_tokens = None  # it never reads words
        text, width = config.vlm.text_config, config.expert.hidden_size
        pairs = text.num_key_value_heads * text.head_dim
        for index, layer in enumerate(self.lm_expert.layers):
            if crosses(index):
                layer.self_attn.k_proj, layer.self_attn.v_proj = (nn.Linear(pairs, pairs, bias=False) for _ in "kv")
        self.state_proj = nn.Linear(config.max_state_dim, text.hidden_size)
        self.action_in_proj = nn.Linear(config.max_action_dim, width)
        self.action_out_proj = nn.Linear(width, config.max_action_dim)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)


def crosses(layer: int) -> bool:
    """Whether an expert's layer looks at the VLM's keys and values alone."""
    return layer % SELF_ATTENTION_EVERY != 0


@dataclass(frozen=True)
class CrossFrame(Frame):
    """For layers that look at the VLM alone: their keys and values (None in other layers), made of the VLM's by their own
    projections; the rotary angles, counted from 0; and the mask (B, 1, 1, prefix)."""

    cross: list[KeyValue | None]
    cross_rotary: Rotary
    cross_mask: torch.Tensor


class SmolVLAPolicy(FlowPolicy):
    """A SmolVLA checkpoint. Its suffix is [a_1, a_2, ...]."""

    family = "smolvla"
    first_action_token = 0
    model: SmolVLAModel

    def _sites(self) -> Sites:
        """The expert reads the VLM's last layer by its keys and values alone, so queries and outputs of that do not reach it."""
        config = self.sizes
        text = config.vlm.text_config
        return Sites({
            "vision": encoder_layers("vision", "vlm.vision_model.encoder.layers", config.vlm.vision_config),
            "vlm": decoder_layers("vlm", "vlm.text_model.layers", text, last_reaching=text.num_hidden_layers - 2),
            "expert": decoder_layers("expert", "lm_expert.layers", config.expert),
        })  # fmt: skip

    @property
    def vision_size(self) -> int:
        return self.sizes.vlm.vision_config.image_size

    @property
    def backbone(self):
        return self.model.vlm.text_model

    @property
    def expert(self):
        return self.model.lm_expert

    @property
    def image_rule(self) -> str:
        return "smolvla" if self.config.preprocessing == "lerobot" else self.config.preprocessing

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        vlm = self.model.vlm
        features = vlm.connector(vlm.vision_model(pixel_values=pixels.to(self.dtype).flatten(0, 1)).last_hidden_state)
        return features.reshape(pixels.shape[0], -1, features.shape[-1]) * features.shape[-1] ** 0.5

    def embed(self, inputs: Inputs, features: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.image_features(inputs.pixels) if features is None else features
        text = self.backbone.embed_tokens(inputs.ids)
        state = self.model.state_proj(inputs.state.to(self.dtype))[:, None]
        ones = torch.ones(len(text), features.shape[1] + 1, dtype=torch.bool, device=text.device)
        mask = torch.cat([ones[:, :-1], inputs.mask.bool(), ones[:, -1:]], dim=1)
        return torch.cat([features, text * text.shape[-1] ** 0.5, state], dim=1), mask

    def run_backbone(
        self, hidden: torch.Tensor, mask: torch.Tensor, *, first: int = 0, stop: int | None = None, for_suffix: bool = False
    ) -> tuple[list[torch.Tensor], list[KeyValue]]:
        # The state sees images and words; they do not see it.
        tokens = mask.shape[1]
        block = torch.ones(tokens, tokens, dtype=torch.bool, device=mask.device)
        block[:-1, -1] = False
        seen = (mask[:, None, :] & block)[:, None]
        return run_layers(self.backbone, hidden, prefix_positions(mask), seen, first=first, stop=stop, for_suffix=for_suffix)

    def frame(self, prefix: Prefix) -> CrossFrame:
        there, tokens = prefix.mask.device, self.chunk_size
        places = torch.arange(tokens, device=there)[None]
        like = torch.empty(0, dtype=self.dtype, device=there)
        causal = torch.ones(tokens, tokens, dtype=torch.bool, device=there).tril()
        before = prefix.mask[:, None, :].expand(-1, tokens, -1)
        mask = torch.cat([before, causal.expand(len(before), -1, -1)], dim=-1)[:, None]
        rotary = self.expert.rotary_emb(like, position_ids=prefix.mask.long().sum(-1, keepdim=True) + places)
        from_zero = self.expert.rotary_emb(like, position_ids=places)
        return CrossFrame(rotary, mask, self._cross(prefix), from_zero, prefix.mask[:, None, None, :])

    def _cross(self, prefix: Prefix) -> list[KeyValue | None]:
        found: list[KeyValue | None] = []
        for index, layer in enumerate(self.expert.layers):
            if not crosses(index):
                found.append(None)
                continue
            attention, (key, value) = layer.self_attn, (pair.transpose(1, 2).flatten(2) for pair in prefix.key_values[index])
            found.append((split(attention.k_proj(key), attention.head_dim), split(attention.v_proj(value), attention.head_dim)))
        return found

    def time_features(self, time: torch.Tensor) -> torch.Tensor:
        config = self.sizes
        return sinusoid(time, config.expert.hidden_size, config.min_period, config.max_period).to(self.dtype)

    def step(self, prefix: Prefix, frame: CrossFrame, state: torch.Tensor, noisy: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        model = self.model
        hidden = model.action_in_proj(noisy.to(self.dtype))
        hidden = torch.cat([hidden, features[:, None, :].expand_as(hidden)], dim=2)
        hidden = model.action_time_mlp_out(F.silu(model.action_time_mlp_in(hidden)))
        for index, layer in enumerate(self.expert.layers):
            attention, normed = layer.self_attn, layer.input_layernorm(hidden)
            query, mask = split(attention.q_proj(normed), attention.head_dim), frame.mask
            if frame.cross[index] is None:
                key, value = (split(projection(normed), attention.head_dim) for projection in (attention.k_proj, attention.v_proj))
                query, key = apply_rotary_pos_emb(query, key, *frame.rotary)
                key, value = (torch.cat(pair, dim=2) for pair in zip(prefix.key_values[index], (key, value)))
            else:
                query, _ = apply_rotary_pos_emb(query, query, *frame.cross_rotary)
                (key, value), mask = frame.cross[index], frame.cross_mask
            hidden = finish(layer, hidden, attend(query, key, value, mask, attention.scaling))
        return model.action_out_proj(self.expert.norm(hidden)).float()

    def _save_model(self, folder: Path) -> None:
        """As lerobot does; its file of the sizes too, as far as we read it."""
        tensors = {}
        for name, tensor in self.model.state_dict().items():
            theirs = next((name.replace(ours, there, 1) for ours, there in _NAMES.items() if name.startswith(ours)), f"model.{name}")
            tensors[theirs] = tensor.contiguous()
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        said = {key: getattr(self.sizes, key) for key in ("chunk_size", "max_state_dim", "max_action_dim", "min_period", "max_period")}
        (folder / MODEL_FILE).write_text(json.dumps({"type": "smolvla"} | said, indent=2) + "\n")


def sizes_of(tensors: Mapping[str, torch.Tensor], said: Mapping[str, Any], source: Path) -> SmolVLASizes:
    """The sizes of a model from its tensors under our names; `said` is its config.json. Raises UserError where one is missing."""

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise UserError(f"the weights in {source} are not those of a SmolVLA: {name} is missing")
        return tuple(tensors[name].shape)

    def llama(path: str) -> dict[str, Any]:
        query, key, up = (shape(f"{path}.layers.0.{name}.weight") for name in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj"))
        return {
            "model_type": "llama", "hidden_size": query[1], "head_dim": HEAD_WIDTH, "num_attention_heads": max(1, query[0] // HEAD_WIDTH),
            "num_key_value_heads": max(1, key[0] // HEAD_WIDTH), "intermediate_size": up[0], "rms_norm_eps": 1e-5,
            "num_hidden_layers": layer_count(tensors, f"{path}.layers"), "vocab_size": words,
            "rope_parameters": {"rope_theta": ROPE_BASE, "rope_type": "default"},
        }  # fmt: skip

    words = shape("vlm.text_model.embed_tokens.weight")[0]
    patch = shape("vlm.vision_model.embeddings.patch_embedding.weight")
    text, tower = llama("vlm.text_model"), "vlm.vision_model.encoder.layers"
    vision = {
        "hidden_size": patch[0], "patch_size": patch[-1], "image_size": image_size({n: t.shape for n, t in tensors.items()}, source),
        "intermediate_size": shape(f"{tower}.0.mlp.fc1.weight")[0], "num_attention_heads": VISION_HEADS,
        "num_hidden_layers": layer_count(tensors, tower),
    }  # fmt: skip
    shuffle = round((shape("vlm.connector.modality_projection.proj.weight")[1] / patch[0]) ** 0.5)
    expert = llama("lm_expert")
    if expert["num_hidden_layers"] != text["num_hidden_layers"]:
        raise UserError(
            f"{source}: expected an expert with as many layers as the VLM, {text['num_hidden_layers']}; found {expert['num_hidden_layers']}"
        )
    plain = ("chunk_size", "max_state_dim", "max_action_dim", "min_period", "max_period")
    return SmolVLASizes(
        SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=shuffle), LlamaConfig(**expert),
        **{key: said[key] for key in plain if key in said},
    )  # fmt: skip


def load(folder: Path, config: PolicyConfig, dtype: torch.dtype = torch.float32) -> SmolVLAPolicy:
    """Read a checkpoint of ours or of lerobot. Raises UserError where it is missing something or does not fit."""
    said = read_json(folder / MODEL_FILE)
    tokenizer = load_tokenizer(folder, config)
    tensors: dict[str, torch.Tensor] = {}
    head = None
    for name, tensor in read_tensors(folder).items():
        if name == _LANGUAGE_HEAD:
            head = tensor  # nothing reads it, but it is the word embeddings where these are missing
            continue
        ours = next((name.replace(theirs, ours, 1) for ours, theirs in _NAMES.items() if name.startswith(theirs)), name.removeprefix("model."))
        tensors[ours] = tensor
    if head is not None:
        tensors.setdefault("vlm.text_model.embed_tokens.weight", head)
    with empty(dtype):
        model = SmolVLAModel(sizes_of(tensors, said, folder))
    put_tensors(model, tensors, folder)
    return SmolVLAPolicy(model, config, tokenizer, folder)
