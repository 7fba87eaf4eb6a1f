"""What is read of a policy while it runs, and the hooks that read it.

A tap is a forward-pre-hook on the projection behind what is read: a head's output is the input of `o_proj`, a neuron's
value the input of `down`. It fires with and without a key-value cache, and in adapted models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from robosteer_core.errors import UserError
from robosteer_core.vla.sites import Sites

#: Which tokens each part has; the first one is read by default.
TOKENS_OF_PART = {"vision": ("mean",), "vlm": ("last_prefix", "mean"), "expert": ("first_action", "mean")}
FEED_FORWARD = "ffn"

#: (batch, tokens, width) -> (batch, width)
Reduction = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Read:
    """One thing to read in all layers of a part: its heads' outputs, or with `neurons` its feed-forward layers' neurons.

    `token`: `first_action`, the token of the chunk's first action; `last_prefix`, the last token of the prefix that is
    no padding, off which OpenVLA and OpenVLA-OFT, which have no expert, read the first action; `mean`, over the tokens that are no padding (of the expert: over the actions' tokens; of the image
    encoder: over all cameras' patches).
    """

    part: str
    token: str
    neurons: bool = False

    @property
    def name(self) -> str:
        """As `parse` takes it."""
        return f"{self.part}{'.' + FEED_FORWARD if self.neurons else ''}:{self.token}"

    @staticmethod
    def parse(text: str) -> Read:
        """PART, PART:TOKEN, PART.ffn or PART.ffn:TOKEN. Raises UserError where a part has no such token."""
        place, _, token = text.partition(":")
        part, _, what = place.partition(".")
        if part not in TOKENS_OF_PART or what not in ("", FEED_FORWARD):
            raise UserError(f"expected PART, PART:TOKEN or PART.{FEED_FORWARD}:TOKEN with a part of {', '.join(TOKENS_OF_PART)}; found {text!r}")
        token = token or TOKENS_OF_PART[part][0]
        if token not in TOKENS_OF_PART[part]:
            raise UserError(f"the part {part} is read at {' or '.join(TOKENS_OF_PART[part])}; found {token!r}")
        return Read(part, token, bool(what))

    def paths(self, sites: Sites) -> tuple[str, ...]:
        """The modules behind it, one for each layer. Raises UserError for a part that the model lacks, and for one whose layers
        differ in width."""
        widths = {site.neurons for site in sites.feed_forward(self.part)} if self.neurons else {site.head_dim for site in sites.part(self.part)}
        if len(widths) > 1:
            raise UserError(f"the layers of the part {self.part} differ in width ({', '.join(map(str, sorted(widths)))}), so they cannot be read together")
        if self.neurons:
            return tuple(site.down for site in sites.feed_forward(self.part))
        return tuple(site.o_proj for site in sites.part(self.part))

    def shape(self, sites: Sites) -> tuple[int, ...]:
        """Of one frame: (layers, heads, head width) or (layers, neurons)."""
        if self.neurons:
            found = sites.feed_forward(self.part)
            return len(found), found[0].neurons
        found = sites.part(self.part)
        return len(found), found[0].heads, found[0].head_dim


class Tap:
    """While open (`with`), keeps a reduction of what enters each of the modules `paths` at the last forward pass, or the first.

    The reduction happens inside the hook, so that no token-level activations are held.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str], reduce: Reduction, *, first: bool = False) -> None:
        self._modules, self._reduce, self._first, self._paths = [model.get_submodule(path) for path in paths], reduce, first, paths
        self._kept: list[torch.Tensor | None] = [None] * len(paths)

    def __enter__(self) -> Tap:
        self._handles = [module.register_forward_pre_hook(self._hook(index)) for index, module in enumerate(self._modules)]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, index: int):
        def keep(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            if self._kept[index] is None or not self._first:
                self._kept[index] = self._reduce(arguments[0].detach())

        return keep

    def read(self) -> torch.Tensor:
        """(batch, layers, width) of that pass. Raises UserError where a layer was never run."""
        idle = [path for path, kept in zip(self._paths, self._kept) if kept is None]
        if idle:
            raise UserError(f"the policy never runs {idle[0]}, so that part cannot be read")
        return torch.stack(self._kept, dim=1)


def one_token(index: int) -> Reduction:
    return lambda values: values[:, index].clone()


def tokens_from(index: int) -> Reduction:
    return lambda values: values[:, index:].mean(1)


def last_index(mask: torch.Tensor) -> torch.Tensor:
    """(batch,) the last token that counts by `mask` (batch, tokens) bool, wherever the padding is."""
    return mask.shape[1] - 1 - mask.flip(1).long().argmax(1)


def last_valid(mask: torch.Tensor) -> Reduction:
    rows, last = torch.arange(len(mask), device=mask.device), last_index(mask)
    return lambda values: values[rows, last]


def mean_valid(mask: torch.Tensor) -> Reduction:
    share = mask / mask.sum(1, keepdim=True)
    return lambda values: torch.einsum("btw,bt->bw", values[:, : mask.shape[1]], share.to(values.dtype))


def mean_of_images(count: int) -> Reduction:
    """`count` frames whose cameras' images follow each other in the batch."""
    return lambda values: values.unflatten(0, (count, -1)).mean((1, 2))
