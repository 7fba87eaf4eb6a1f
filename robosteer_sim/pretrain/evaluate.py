"""Success of a policy inside one process, without FCI: quick figures while a base policy is being made."""

from __future__ import annotations

import numpy as np
import torch

from robosteer_core.rig import Rig
from robosteer_core.runtime.runner import EXECUTED
from robosteer_core.vla.policy import FlowPolicy
from robosteer_sim.render import Renderer
from robosteer_sim.rollout import Rollout
from robosteer_sim.world import World

SECONDS = 12.0


def successes(policy: FlowPolicy, rig: Rig, instruction: str, seeds: list[int]) -> tuple[int, list[str]]:
    """How many of the seeds' episodes succeed within 12 s, and how the others failed."""
    world, renderer, good, failures = World(rig), None, 0, []
    for seed in seeds:
        world.reset(instruction, seed)
        if renderer is None:
            renderer = Renderer(world.model, 640, 480)
        else:
            renderer.load(world.model)
        rollout = Rollout(world, rig)
        generator = torch.Generator().manual_seed(seed)
        for tick in range(int(SECONDS * rig.rates.policy_hz)):
            if tick % EXECUTED == 0:
                images = {c.name: renderer.render(world.data, c.name, depth=False)[0][None] for c in rig.cameras}
                actions = sample(policy, images, rollout.state()[None], instruction, generator)
            rollout.apply(actions[tick % EXECUTED])
            if world.success() or world.truth()["failure"]:
                break
        good += world.success()
        if not world.success():
            failures.append(world.truth()["failure"] or "time")
    renderer.close()
    return good, failures


@torch.inference_mode()
def sample(policy, images: dict[str, np.ndarray], state: np.ndarray, instruction: str, generator) -> np.ndarray:
    inputs = policy.inputs(images, state, [instruction])
    noise = torch.randn(1, policy.chunk_size, policy.action_dim, generator=generator)
    return policy.config.action.denormalise(policy.sample(policy.prefix(inputs), inputs.state, noise)[0].numpy())
