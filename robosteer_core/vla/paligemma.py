"""What pi0 and pi0.5 share: PaliGemma with an action expert, their names in checkpoints, and sizes read from them.

lerobot's files prefix every name with `model.`, openpi's do not; older ones name the parts of PaliGemma in another order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PI0Config
from transformers.models.pi0.modeling_pi0 import PI0Model

from robosteer_core.errors import UserError
from robosteer_core.vla.decoder import KeyValue, run_layers
from robosteer_core.vla.policy import FlowPolicy, Frame, Inputs, Prefix, prefix_positions
from robosteer_core.vla.sites import Sites, decoder_layers, encoder_layers

#: Heads per layer in every published size of Gemma in openpi, and in SigLIP So400m: what shapes do not tell.
GEMMA_HEADS, VISION_HEADS = 8, 16

_RENAMED = (
    (r"^model\.(?=paligemma_with_expert\.|state_proj\.|action_|time_mlp_)", ""),
    (r"^paligemma_with_expert\.paligemma\.language_model\.lm_head\.", "paligemma_with_expert.paligemma.lm_head."),
    (r"^paligemma_with_expert\.paligemma\.(?=(language_model|vision_tower|multi_modal_projector)\.)", "paligemma_with_expert.paligemma.model."),
    (r"^paligemma_with_expert\.paligemma\.model\.language_model\.model\.", "paligemma_with_expert.paligemma.model.language_model."),
    (r"^paligemma_with_expert\.paligemma\.model\.vision_tower\.vision_model\.", "paligemma_with_expert.paligemma.model.vision_tower."),
    (r"^paligemma_with_expert\.paligemma\.model\.", "model.vlm."),
    (r"^paligemma_with_expert\.gemma_expert\.model\.", "model.dit."),
)  # fmt: skip
_LANGUAGE_HEAD, _EXPERT_HEAD = "paligemma_with_expert.paligemma.lm_head.weight", "paligemma_with_expert.gemma_expert.lm_head.weight"
EMBEDDINGS, EXPERT_EMBEDDINGS = "model.vlm.language_model.embed_tokens.weight", "model.dit.embed_tokens.weight"


def renamed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of an openpi or lerobot file under the names of transformers' pi0; the projections keep theirs.

    The word embeddings are tied to the language head, and a file may hold both or either. Where both are there the
    embeddings count: a finetuned file's head has been left behind.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    head = found.pop(_LANGUAGE_HEAD, None)
    if head is not None:
        found.setdefault(EMBEDDINGS, head)
    expert = found.pop(_EXPERT_HEAD, None)
    if expert is not None:
        found.setdefault(EXPERT_EMBEDDINGS, expert)
    return found


def config_of(tensors: Mapping[str, torch.Tensor], said: Mapping[str, Any], source: Path) -> PI0Config:
    """The sizes of a model from its tensors, under the names that `renamed` gives; `said` is its config.json.

    Raises UserError where a tensor that tells a size is missing.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise UserError(f"the weights in {source} are not those of PaliGemma with an action expert: {name} is missing")
        return tuple(tensors[name].shape)

    def gemma(path: str) -> dict[str, Any]:
        query, key = (shape(f"{path}.layers.0.self_attn.{name}_proj.weight") for name in "qk")
        width = query[0] // GEMMA_HEADS
        return {
            "model_type": "gemma", "hidden_size": query[1], "num_attention_heads": GEMMA_HEADS, "head_dim": width,
            "num_key_value_heads": max(1, key[0] // max(1, width)), "num_hidden_layers": layer_count(tensors, f"{path}.layers"),
            "intermediate_size": shape(f"{path}.layers.0.mlp.up_proj.weight")[0], "vocab_size": shape(EMBEDDINGS)[0],
        }  # fmt: skip

    tower = "model.vlm.vision_tower"
    patch = shape(f"{tower}.embeddings.patch_embedding.weight")
    text = gemma("model.vlm.language_model")
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": patch[0], "patch_size": patch[-1],
        "image_size": image_size({name: tensor.shape for name, tensor in tensors.items()}, source),
        "intermediate_size": shape(f"{tower}.encoder.layers.0.mlp.fc1.weight")[0], "num_attention_heads": VISION_HEADS,
        "num_hidden_layers": layer_count(tensors, f"{tower}.encoder.layers"), "vision_use_head": False,
    }  # fmt: skip
    vlm = {
        "model_type": "paligemma", "text_config": text, "vision_config": vision, "projection_dim": text["hidden_size"],
        "hidden_size": text["hidden_size"], "image_token_index": text["vocab_size"],
    }  # fmt: skip
    times = ("beta_alpha", "beta_beta", "scale", "offset")
    plain = [*(f"time_sampling_{name}" for name in times), "min_period", "max_period", "num_inference_steps"]
    width = said.get("action_dim", 32)  # openpi's one width for both
    return PI0Config(
        vlm_config=vlm, dit_config=gemma("model.dit"), chunk_size=said.get("chunk_size", said.get("action_horizon", 50)),
        max_action_dim=said.get("max_action_dim", width), max_state_dim=said.get("max_state_dim", width),
        **{key: said[key] for key in plain if key in said},
    )  # fmt: skip


def image_size(shapes: Mapping[str, tuple[int, ...]], source: Path) -> int:
    """Pixels of a side of the images that a SigLIP takes, from the shapes of a file. Raises UserError where it has none."""
    keys = ("patch_embedding.weight", "position_embedding.weight")
    found = {key: shape for name, shape in shapes.items() for key in keys if name.endswith(key)}
    if len(found) < 2:
        raise UserError(f"the weights in {source} hold no vision tower: patch_embedding or position_embedding is missing")
    return round(found["position_embedding.weight"][0] ** 0.5) * found["patch_embedding.weight"][-1]


def layer_count(names: Mapping[str, Any], path: str) -> int:
    """How many layers `path.0`, `path.1`, ... there are: one more than the highest number."""
    pattern = re.compile(re.escape(path) + r"\.(\d+)\.")
    return 1 + max((int(match[1]) for match in map(pattern.match, names) if match), default=-1)


class PaliGemmaPolicy(FlowPolicy):
    """PaliGemma runs over images and words; a Gemma of the same depth runs over its keys and values."""

    def _sites(self) -> Sites:
        """The backbone reaches the actions through keys and values alone, so queries and outputs of its last layer do not."""
        config = self.sizes
        text = config.vlm_config.text_config
        return Sites({
            "vision": encoder_layers("vision", "model.vlm.vision_tower.encoder.layers", config.vlm_config.vision_config),
            "vlm": decoder_layers("vlm", "model.vlm.language_model.layers", text, last_reaching=text.num_hidden_layers - 2),
            "expert": decoder_layers("expert", "model.dit.layers", config.dit_config),
        })  # fmt: skip

    @property
    def core(self) -> PI0Model:
        return self.model.model

    @property
    def vision_size(self) -> int:
        return self.sizes.vlm_config.vision_config.image_size

    @property
    def backbone(self):
        return self.core.vlm.language_model

    @property
    def expert(self):
        return self.core.dit

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.core.vlm.get_image_features(pixels.to(self.dtype).flatten(0, 1)).pooler_output
        return features.reshape(pixels.shape[0], -1, features.shape[-1])

    def embed(self, inputs: Inputs, features: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.image_features(inputs.pixels) if features is None else features
        text = self.core.vlm.get_input_embeddings()(inputs.ids)
        seen = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        return torch.cat([features, text], dim=1), torch.cat([seen, inputs.mask.bool()], dim=1)

    def run_backbone(
        self, hidden: torch.Tensor, mask: torch.Tensor, *, first: int = 0, stop: int | None = None, for_suffix: bool = False
    ) -> tuple[list[torch.Tensor], list[KeyValue]]:
        positions = prefix_positions(mask)
        return run_layers(self.backbone, hidden, positions, mask[:, None, None, :], first=first, stop=stop, for_suffix=for_suffix)

    def frame(self, prefix: Prefix) -> Frame:
        there, before = prefix.mask.device, self.first_action_token
        tokens = before + self.chunk_size
        positions = prefix.mask.long().sum(-1, keepdim=True) + torch.arange(tokens, device=there)
        # What comes before the actions (pi0's state) looks at the prefix and itself; the actions look at everything.
        block = torch.ones(tokens, tokens, dtype=torch.bool, device=there)
        block[:before, before:] = False
        mask = torch.cat([prefix.mask[:, None, :].expand(-1, tokens, -1), block.expand(len(prefix.mask), -1, -1)], dim=-1)
        like = torch.empty(0, dtype=self.dtype, device=there)
        return Frame(self.expert.rotary_emb(like, position_ids=positions), mask[:, None])
