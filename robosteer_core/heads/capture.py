"""Read what attention heads and feed-forward layers put out while a policy looks at demonstrations.

Robotic Steering's release reads the action expert: sample x_0 with the normal Euler steps, then run one extra suffix
pass with x_t = x_0 at t = 0 over the same prefix, and keep the first action's token. That pass is denoising step S of S;
any earlier one may be read instead, at x_t after that many steps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from rich.progress import Progress

from robosteer_core.errors import UserError
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.heads.tap import Read, Tap, last_valid, mean_of_images, mean_valid, one_token, tokens_from
from robosteer_core.vla.policy import FlowPolicy, Inputs, Policy, Prefix

SCORED_PART = "expert"
DEFAULT_READ = Read(SCORED_PART, "first_action")


def default_read(parts: Collection[str]) -> Read:
    """Where heads are read in a policy of these `parts` if nobody says: in the expert, as the release; in the backbone where there is none."""
    return DEFAULT_READ if SCORED_PART in parts else Read.parse("vlm")


@torch.inference_mode()
def read_batch(
    policy: Policy, inputs: Inputs, noise: torch.Tensor, reads: Sequence[Read], step: int | None = None
) -> dict[str, torch.Tensor]:
    """What `reads` name, by their names, each (batch, *Read.shape) float32 on the CPU.

    `noise` (batch, chunk, A) starts the sampling. The expert is read at denoising step `step`, 0 (x_t is the noise) to
    the policy's number of steps (x_t is the sampled x_0, the default). Without a read of the expert nothing is sampled. A
    policy without a flow is read where it predicts the first action.
    """
    require_step(policy, step)
    of_part = {part: [read for read in reads if read.part == part] for part in ("vision", "vlm", "expert")}
    taps: dict[str, Tap] = {}

    def tapped(part: str, reduction, **options) -> ExitStack:
        stack = ExitStack()
        for read in of_part[part]:
            taps[read.name] = stack.enter_context(Tap(policy.model, read.paths(policy.sites), reduction(read), **options))
        return stack

    def of_prefix(read: Read):
        return last_valid(mask) if read.token == "last_prefix" else mean_valid(mask)

    with tapped("vision", lambda _: mean_of_images(len(inputs.ids))):
        embeddings, mask = policy.embed(inputs)
    if not isinstance(policy, FlowPolicy):
        with tapped("expert", of_prefix), tapped("vlm", of_prefix, first=True):
            policy.predict(inputs, torch.Generator().manual_seed(0))
        return _read(policy, taps, reads)
    with tapped("vlm", of_prefix):
        hidden, key_values = policy.run_backbone(embeddings, mask)
    if of_part["expert"]:
        prefix, first = Prefix(key_values, mask, hidden), policy.first_action_token
        noisy, time = noisy_actions(policy, prefix, inputs.state, noise, step)
        with tapped("expert", lambda read: one_token(first) if read.token == "first_action" else tokens_from(first)):
            policy.velocity(prefix, inputs.state, noisy, time)
    return _read(policy, taps, reads)


def require_step(policy: Policy, step: int | None) -> None:
    """Raises UserError for a denoising step that the policy does not take; None is the last."""
    if step is None:
        return
    if not isinstance(policy, FlowPolicy):
        raise UserError(f"a policy of the family {policy.family} has no denoising steps; leave the step out")
    steps = policy.config.flow_steps
    if not 0 <= step <= steps:
        raise UserError(f"the policy takes {steps} denoising steps; expected a step of 0 to {steps}; found {step}")


def _read(policy: Policy, taps: dict[str, Tap], reads: Sequence[Read]) -> dict[str, torch.Tensor]:
    return {read.name: taps[read.name].read().reshape(-1, *read.shape(policy.sites)).float().cpu() for read in reads}


def noisy_actions(
    policy: FlowPolicy, prefix: Prefix, state: torch.Tensor, noise: torch.Tensor, step: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """x_t (batch, chunk, A) after `step` Euler steps (default all), and its t (batch,)."""
    steps = policy.config.flow_steps
    if step is None or step == steps:
        return policy.sample(prefix, state, noise), torch.zeros(len(noise), device=noise.device)
    actions = noise
    for done in range(step):
        time = torch.full((len(noise),), 1.0 - done / steps, device=noise.device)
        actions = actions - policy.velocity(prefix, state, actions, time) / steps
    return actions, torch.full((len(noise),), 1.0 - step / steps, device=noise.device)


def capture(
    policy: Policy,
    demonstrations: Demonstrations,
    read: Read = DEFAULT_READ,
    *,
    step: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> np.ndarray:
    """One read of every frame, (N, *Read.shape) float32.

    Each frame has noise of its own, drawn from `seed` and the frame's number in the dataset, so that the result depends
    neither on the batches nor on which other frames are captured.
    """
    task = progress and progress.add_task("reading heads", total=len(demonstrations))
    parts = []
    for start in range(0, len(demonstrations), batch_size):
        batch = slice(start, start + batch_size)
        noise = frame_noise(policy, demonstrations, batch, seed)
        parts.append(read_batch(policy, demonstrations.inputs(policy, batch), noise, [read], step)[read.name].numpy())
        if progress:
            progress.advance(task, len(noise))
    return np.concatenate(parts)


def frame_noise(policy: Policy, demonstrations: Demonstrations, batch: slice | np.ndarray, seed: int) -> torch.Tensor:
    """(batch, chunk, A) standard normal, each frame's from `seed` and its number in the dataset."""
    shape = policy.chunk_size, policy.action_dim
    drawn = [np.random.default_rng([seed, int(row)]).standard_normal(shape).astype(np.float32) for row in demonstrations.rows[batch]]
    return torch.from_numpy(np.stack(drawn)).to(policy.device)
