"""Read attention heads' outputs, before the output projection, while a policy looks at demonstrations.

Robotic Steering's release reads the action expert: sample x_0 with the normal Euler steps, then run one extra suffix
pass with x_t = x_0 at t = 0 over the same prefix, and keep the first action's token.
"""

from __future__ import annotations

import numpy as np
import torch
from rich.progress import Progress
from torch import nn

from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.vla.policy import FlowPolicy, Inputs
from robosteer_core.vla.sites import AttentionSite

SCORED_PART = "expert"


class HeadTap:
    """While open (`with`), keeps one token of every head of the given layers at each forward pass.

    The reduction to that token happens inside the hook, so no token-level activations are held.
    """

    def __init__(self, model: nn.Module, sites: tuple[AttentionSite, ...], token: int) -> None:
        self._model, self._sites, self._token = model, sites, token
        self._kept: list[torch.Tensor | None] = [None] * len(sites)

    def __enter__(self) -> HeadTap:
        self._handles = [
            self._model.get_submodule(site.o_proj).register_forward_pre_hook(self._hook(index))
            for index, site in enumerate(self._sites)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, index: int):
        site = self._sites[index]

        def keep(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            self._kept[index] = arguments[0][:, self._token].reshape(-1, site.heads, site.head_dim).detach().clone()

        return keep

    def read(self) -> torch.Tensor:
        """(batch, layers, heads, head width) of the last pass."""
        return torch.stack(self._kept, dim=1)


@torch.inference_mode()
def expert_heads(policy: FlowPolicy, inputs: Inputs, noise: torch.Tensor) -> torch.Tensor:
    """Outputs (batch, layers, heads, head width) of the action expert's heads at the first action's token.

    `noise` (batch, chunk, A) starts the sampling of x_0.
    """
    prefix = policy.prefix(inputs)
    sampled = policy.sample(prefix, inputs.state, noise)
    with HeadTap(policy.model, policy.sites.part(SCORED_PART), policy.first_action_token) as tap:
        policy.velocity(prefix, inputs.state, sampled, torch.zeros(len(sampled)))
    return tap.read()


def capture(
    policy: FlowPolicy, demonstrations: Demonstrations, *, seed: int = 0, batch_size: int = 64, progress: Progress | None = None
) -> np.ndarray:
    """`expert_heads` of every frame, (N, layers, heads, head width) float32.

    Each frame has noise of its own, drawn from `seed` and the frame's number in the dataset, so that the result depends
    neither on the batches nor on which other frames are captured.
    """
    task = progress and progress.add_task("reading heads", total=len(demonstrations))
    parts = []
    for start in range(0, len(demonstrations), batch_size):
        batch = slice(start, start + batch_size)
        noise = torch.stack([_noise(policy, seed, int(row)) for row in demonstrations.rows[batch]])
        parts.append(expert_heads(policy, demonstrations.inputs(policy, batch), noise).numpy())
        if progress:
            progress.advance(task, len(noise))
    return np.concatenate(parts)


def _noise(policy: FlowPolicy, seed: int, row: int) -> torch.Tensor:
    drawn = np.random.default_rng([seed, row]).standard_normal((policy.chunk_size, policy.action_dim))
    return torch.from_numpy(drawn.astype(np.float32))
