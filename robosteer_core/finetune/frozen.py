"""What training does not change, computed once: images' features and the backbone's layers below the lowest adapted one."""

from __future__ import annotations

from dataclasses import replace

import torch
from rich.progress import Progress

from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.vla.policy import FlowPolicy, Inputs, Prefix

GIB = 2**30


class FrozenPrefix:
    """The prefix of N demonstrated frames, of which only the layers from `first` on are run at each training step.

    Kept of every frame, where that takes at most `limit_bytes`: the hidden states that enter layer `first`, and the
    keys and values of the layers below. Valid as long as images are not augmented and nothing below `first` is trained.
    """

    def __init__(
        self,
        policy: FlowPolicy,
        demonstrations: Demonstrations,
        first: int,
        *,
        limit_bytes: int = 2 * GIB,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> None:
        self._policy, self._demonstrations, self._first = policy, demonstrations, first
        self._words = longest(policy, demonstrations)
        self._kept: list[torch.Tensor] | None = None
        self.bytes = _bytes(self._frozen(demonstrations.inputs(policy, slice(0, 1)))) * len(demonstrations)
        if self.bytes > limit_bytes:
            self.bytes = 0
            return
        task = progress and progress.add_task("running what is frozen", total=len(demonstrations))
        parts = []  # in the host's memory, of which there is more
        for start in range(0, len(demonstrations), batch_size):
            part = self._frozen(demonstrations.inputs(policy, slice(start, start + batch_size)))
            parts.append([of.cpu() for of in part])
            if progress:
                progress.advance(task, len(parts[-1][0]))
        self._kept = [torch.cat(of) for of in zip(*parts)]

    def prefix(self, rows: torch.Tensor) -> Prefix:
        """The prefix of some of the frames, with gradients from layer `first` on. Its hidden states are left out."""
        if self._kept is None:
            kept = self._frozen(self._demonstrations.inputs(self._policy, rows.numpy()))
        else:
            kept = [of[rows].to(self._policy.device) for of in self._kept]
        return rest(self._policy, kept, self._first)

    def _frozen(self, inputs: Inputs) -> list[torch.Tensor]:
        inputs = replace(inputs, ids=inputs.ids[:, : self._words], mask=inputs.mask[:, : self._words])
        return below(self._policy, inputs, self._first)


def longest(policy: FlowPolicy, demonstrations: Demonstrations) -> int:
    """Tokens of the longest instruction. Padding that every frame has is left out: it takes time and nothing reads it."""
    _, mask = policy.tokens(list(demonstrations.instruction), demonstrations.state)
    return int(mask.sum(1).max())


@torch.no_grad()
def below(policy: FlowPolicy, inputs: Inputs, first: int) -> list[torch.Tensor]:
    """Hidden states entering layer `first`, mask, and the keys and values below it, one after another."""
    embeddings, mask = policy.embed(inputs)
    hidden, pairs = policy.run_backbone(embeddings, mask, for_suffix=True, stop=first)
    return [hidden[-1], mask, *(tensor for pair in pairs for tensor in pair)]


def rest(policy: FlowPolicy, frozen: list[torch.Tensor], first: int) -> Prefix:
    """The prefix, from what `below` found."""
    hidden, mask, *flat = frozen
    _, above = policy.run_backbone(hidden, mask, first=first, for_suffix=True)
    return Prefix([*zip(flat[::2], flat[1::2]), *above], mask, [])


def _bytes(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
