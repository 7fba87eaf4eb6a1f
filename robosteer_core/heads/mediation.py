"""Causal mediation: how much worse the predicted action becomes when a head says what it says on average elsewhere.

Robotic Steering's baseline (reference/robotic_steering.md, section 6): a head's activation at the scored token is replaced by
its mean over other tasks; the score is the rise of the action's squared error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from robosteer_core.errors import UserError
from robosteer_core.heads.capture import frame_noise
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.heads.tap import Read, last_index
from robosteer_core.vla.policy import FlowPolicy, Policy, Prefix

FRAMES = 64


@torch.inference_mode()
def action_error_rise(
    policy: Policy,
    demonstrations: Demonstrations,
    read: Read,
    stand_in: np.ndarray,
    eligible: np.ndarray,
    *,
    frames: int = FRAMES,
    seed: int = 0,
    progress: Callable[[], object] | None = None,
) -> np.ndarray:
    """(L, H) rise of the mean squared error of the chunk's first action, normalised, without each head; -inf where not eligible.

    `read` says which heads at which token (`expert:first_action` or `vlm:last_prefix`), `stand_in` (L, H, d) what they say
    instead, at every denoising step. Measured on so many frames, spread evenly, with the same noise for all heads.
    `progress()` is called for each eligible head.
    """
    require_mediable(policy, read)
    rows = np.unique(np.linspace(0, len(demonstrations) - 1, min(frames, len(demonstrations))).astype(int))
    inputs, noise = demonstrations.inputs(policy, rows), frame_noise(policy, demonstrations, rows, seed)
    target = policy.normalised_actions(demonstrations.action[rows, None])[:, 0].to(noise.device)
    width = len(policy.config.action_names)
    embeddings, mask = policy.embed(inputs)
    token = last_index(mask) if read.part == "vlm" else torch.full_like(last_index(mask), policy.first_action_token)
    hidden, key_values = policy.run_backbone(embeddings, mask)

    def error(prefix: Prefix) -> float:
        first = policy.sample(prefix, inputs.state, noise)[:, 0]
        return float((first - target)[:, :width].float().square().mean())

    base, rise = error(Prefix(key_values, mask, hidden)), np.full(eligible.shape, -np.inf)
    for site in policy.sites.part(read.part):
        for head in np.flatnonzero(eligible[site.layer]).tolist():
            columns = slice(site.rows(head).start, site.rows(head).stop)
            value = torch.from_numpy(stand_in[site.layer, head]).to(noise.device)
            handle = policy.model.get_submodule(site.o_proj).register_forward_pre_hook(_replacing(token, columns, value))
            try:
                if read.part == "vlm":
                    hidden, key_values = policy.run_backbone(embeddings, mask)
                rise[site.layer, head] = error(Prefix(key_values, mask, hidden)) - base
            finally:
                handle.remove()
            if progress is not None:
                progress()
    return rise


def require_mediable(policy: Policy, read: Read) -> None:
    """Raises UserError where the heads that `read` names cannot be replaced in `policy`."""
    if not isinstance(policy, FlowPolicy):
        raise UserError(f"causal mediation follows a flow; a policy of the family {policy.family} has none; choose another method")
    if read.name not in ("expert:first_action", "vlm:last_prefix"):
        raise UserError(f"causal mediation replaces expert:first_action or vlm:last_prefix; found {read.name}")


def _replacing(token: torch.Tensor, columns: slice, value: torch.Tensor):
    def replace(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        changed = arguments[0].clone()
        changed[torch.arange(len(changed), device=changed.device), token, columns] = value.to(changed.dtype)
        return (changed, *arguments[1:])

    return replace
