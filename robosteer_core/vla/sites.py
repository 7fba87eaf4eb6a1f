"""The address book of attention heads: `(part, layer, head)` to the modules and slices that hold it.

Parts of a pi0: `vision` (the image encoder), `vlm` (the backbone), `expert` (the action expert).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import nn

from robosteer_core.errors import UserError

PARTS = ("vision", "vlm", "expert")


class Head(NamedTuple):
    part: str
    layer: int
    head: int


@dataclass(frozen=True)
class AttentionSite:
    """One layer's attention. Module paths are relative to the transformers model (`policy.model`).

    Query head h holds rows `rows(h)` of q_proj's weight and the same columns of o_proj's; `o_proj`'s input reshapes to
    (batch, tokens, heads, head_dim). Consecutive `heads / key_value_heads` query heads share one key-value head.
    """

    part: str
    layer: int
    heads: int
    key_value_heads: int
    head_dim: int
    q_proj: str
    k_proj: str
    v_proj: str
    o_proj: str

    def rows(self, head: int) -> range:
        """Rows of q_proj, which are the columns of o_proj, of a query head."""
        return range(head * self.head_dim, (head + 1) * self.head_dim)

    def group(self, head: int) -> int:
        """The key-value head that a query head reads. Its rows of k_proj and v_proj are `rows(group)`."""
        return head * self.key_value_heads // self.heads


class Sites:
    """All attention layers of a model. `last_reaching` says up to which layer of a part query heads reach the action."""

    def __init__(self, found: dict[str, tuple[AttentionSite, ...]], last_reaching: dict[str, int]) -> None:
        self._found, self._last_reaching = found, last_reaching

    def part(self, part: str) -> tuple[AttentionSite, ...]:
        """A part's layers in order. Raises UserError for an unknown part."""
        if part not in self._found:
            raise UserError(f"expected a part of the model out of {', '.join(self._found)}; found {part!r}")
        return self._found[part]

    def site(self, head: Head) -> AttentionSite:
        """The layer that holds a head. Raises UserError where the model has no such head."""
        layers = self.part(head.part)
        if not (0 <= head.layer < len(layers) and 0 <= head.head < layers[head.layer].heads):
            raise UserError(
                f"no head {tuple(head)} in this model: {head.part} has layers 0 to {len(layers) - 1} "
                f"with heads 0 to {layers[0].heads - 1}"
            )
        return layers[head.layer]

    def shape(self, part: str) -> tuple[int, int]:
        """Layers and heads of a part."""
        layers = self.part(part)
        return len(layers), layers[0].heads

    def eligible(self, part: str) -> np.ndarray:
        """(layers, heads) bool: heads whose queries and outputs reach the action at all."""
        layers, heads = self.shape(part)
        return np.repeat((np.arange(layers) <= self._last_reaching[part])[:, None], heads, axis=1)

    def eligible_heads(self, part: str) -> list[Head]:
        return [Head(part, int(layer), int(head)) for layer, head in np.argwhere(self.eligible(part))]


def pi0_sites(model: nn.Module) -> Sites:
    """Sites of a transformers `PI0ForConditionalGeneration`.

    The backbone reaches the actions through keys and values alone, so queries and outputs of its last layer do not.
    """
    config = model.config
    text, vision, expert = config.vlm_config.text_config, config.vlm_config.vision_config, config.dit_config
    found = {
        "vision": _layers("vision", vision.num_hidden_layers, vision.num_attention_heads, vision.num_attention_heads,
                          vision.hidden_size // vision.num_attention_heads, "model.vlm.vision_tower.encoder.layers", "out_proj"),
        "vlm": _layers("vlm", text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads, text.head_dim,
                       "model.vlm.language_model.layers", "o_proj"),
        "expert": _layers("expert", expert.num_hidden_layers, expert.num_attention_heads, expert.num_key_value_heads,
                          expert.head_dim, "model.dit.layers", "o_proj"),
    }  # fmt: skip
    last = {part: len(layers) - 1 for part, layers in found.items()}
    return Sites(found, last | {"vlm": last["vlm"] - 1})


def _layers(part: str, layers: int, heads: int, key_value_heads: int, head_dim: int, path: str, output: str) -> tuple[AttentionSite, ...]:
    def module(layer: int, name: str) -> str:
        return f"{path}.{layer}.self_attn.{name}"

    return tuple(
        AttentionSite(
            part, layer, heads, key_value_heads, head_dim,
            *(module(layer, name) for name in ("q_proj", "k_proj", "v_proj", output)),
        )
        for layer in range(layers)
    )  # fmt: skip
