"""The address book of a policy: `(part, layer, head)` to the modules and slices that hold a head, and its feed-forward layers.

Parts: `vision` (the image encoder), `vlm` (the backbone), `expert` (the action expert, where there is one).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from robosteer_core.errors import UserError


class Head(NamedTuple):
    part: str
    layer: int
    head: int


@dataclass(frozen=True)
class AttentionSite:
    """One layer's attention. Module paths are relative to `policy.model`.

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


@dataclass(frozen=True)
class FeedForwardSite:
    """One layer's feed-forward network; paths as in `AttentionSite`.

    Neuron n is row n of `up` (and of `gate`, where the network is gated) and column n of `down`, whose input holds the
    neurons' values (batch, tokens, neurons).
    """

    part: str
    layer: int
    neurons: int
    gate: str | None
    up: str
    down: str


@dataclass(frozen=True)
class Layer:
    """Attention and feed-forward network of one layer; `reaches`: whether its queries, and what comes after them in the
    layer, have a way to the action. Where they have none, keys and values may still have one."""

    attention: AttentionSite
    feed_forward: FeedForwardSite
    reaches: bool = True


class Sites:
    """All layers of a model by part."""

    def __init__(self, layers: dict[str, tuple[Layer, ...]]) -> None:
        self._layers = layers

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._layers)

    def layers(self, part: str) -> tuple[Layer, ...]:
        """A part's layers in order. Raises UserError for an unknown part."""
        if part not in self._layers:
            raise UserError(f"expected a part of the model out of {', '.join(self._layers)}; found {part!r}")
        return self._layers[part]

    def part(self, part: str) -> tuple[AttentionSite, ...]:
        """The attention of a part's layers in order. Raises UserError for an unknown part."""
        return tuple(layer.attention for layer in self.layers(part))

    def feed_forward(self, part: str) -> tuple[FeedForwardSite, ...]:
        """The feed-forward networks of a part's layers in order. Raises UserError for an unknown part."""
        return tuple(layer.feed_forward for layer in self.layers(part))

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
        layers, heads = self.layers(part), self.shape(part)[1]
        return np.repeat(np.array([layer.reaches for layer in layers])[:, None], heads, axis=1)

    def eligible_heads(self, part: str) -> list[Head]:
        return [Head(part, int(layer), int(head)) for layer, head in np.argwhere(self.eligible(part))]

    def eligible_feed_forward(self, part: str) -> np.ndarray:
        """(layers,) bool: feed-forward networks whose output reaches the action at all."""
        return np.array([layer.reaches for layer in self.layers(part)])


def layers(
    part: str,
    path: str,
    shape: tuple[int, int, int, int],
    neurons: int,
    *,
    names: tuple[str, str] = ("self_attn", "mlp"),
    output: str = "o_proj",
    gated: bool = True,
    last_reaching: int | None = None,
    start: int = 0,
) -> tuple[Layer, ...]:
    """The layers `path.0`, `path.1`, ... of a transformer; `shape` is (layers, heads, key-value heads, head width).

    `names` are those of the attention and the feed-forward module, `output` that of the output projection; a gated
    network has gate_proj, up_proj and down_proj, another fc1 and fc2. Up to layer `last_reaching` (default the last)
    queries reach the action. Layers are numbered from `start`.
    """
    count, heads, key_value_heads, width = shape
    last = count - 1 if last_reaching is None else last_reaching

    def layer(index: int) -> Layer:
        attention, mlp = (f"{path}.{index}.{name}" for name in names)
        number = start + index
        forward = FeedForwardSite(
            part, number, neurons,
            *((f"{mlp}.gate_proj", f"{mlp}.up_proj", f"{mlp}.down_proj") if gated else (None, f"{mlp}.fc1", f"{mlp}.fc2")),
        )  # fmt: skip
        projections = (f"{attention}.{name}" for name in ("q_proj", "k_proj", "v_proj", output))
        return Layer(AttentionSite(part, number, heads, key_value_heads, width, *projections), forward, index <= last)

    return tuple(layer(index) for index in range(count))


def decoder_layers(part: str, path: str, config, *, last_reaching: int | None = None) -> tuple[Layer, ...]:
    """The layers of a Gemma or Llama of transformers, from its configuration."""
    shape = (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads, config.head_dim)
    return layers(part, path, shape, config.intermediate_size, last_reaching=last_reaching)


def encoder_layers(part: str, path: str, config) -> tuple[Layer, ...]:
    """The layers of a SigLIP vision encoder of transformers, from its configuration."""
    heads = config.num_attention_heads
    shape = (config.num_hidden_layers, heads, heads, config.hidden_size // heads)
    return layers(part, path, shape, config.intermediate_size, output="out_proj", gated=False)
