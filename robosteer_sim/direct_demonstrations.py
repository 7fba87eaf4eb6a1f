"""Demonstrations of the scripted operator recorded inside one process: what `robosteer record` writes, without FCI."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from robosteer_core.episodes.features import STAMPED
from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.json_lines import Refused
from robosteer_sim.demonstrate import TAIL_TICKS, TREMOR_M, Outcome
from robosteer_sim.direct_arm import DirectArm
from robosteer_sim.direct_cameras import DirectCameras
from robosteer_sim.operator import Operator
from robosteer_sim.world import World

logger = logging.getLogger(__name__)


def record_directly(
    rig: Rig, task: str, episodes: int, seed: int, folder: Path, on_episode: Callable[[Outcome], None], variation: str = "none"
) -> Outcome:
    """Write a dataset of `episodes` successful demonstrations to `folder`, in scenes of seeds `seed`, `seed` + 1, ...; it appears
    whole or not at all.

    Raises UserError for an unknown task or variation, where there is a folder already, and when more than half of all episodes fail.
    """
    if folder.exists():
        raise UserError(f"expected no folder at {folder} yet; found one; give another")
    world, part, outcome = World(rig), folder.with_name(folder.name + ".part"), Outcome()
    shutil.rmtree(part, ignore_errors=True)  # of a call that was killed
    world.reset(task, seed, variation)  # what is unknown is refused before anything is made
    try:
        with closing(DirectCameras(rig)) as cameras, DatasetWriter(part, rig) as writer:
            while outcome.kept < episodes:
                scene = seed + outcome.kept + outcome.discarded
                good = _episode(rig, world, cameras, writer, task, scene, variation)
                outcome.kept += good
                outcome.discarded += not good
                on_episode(outcome)
                if outcome.discarded > max(3, outcome.kept):
                    raise UserError(f"{outcome.discarded} of {outcome.kept + outcome.discarded} episodes of {task!r} failed; giving up")
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.rename(folder)
    return outcome


def _episode(rig: Rig, world: World, cameras: DirectCameras, writer: DatasetWriter, task: str, seed: int, variation: str) -> bool:
    world.reset(task, seed, variation)
    cameras.scene(task, seed, variation)
    arm, operator, tail = DirectArm(world, rig), Operator(task, seed, TREMOR_M), TAIL_TICKS
    writer.begin(task)
    refused = None
    for _ in range(int(operator.task.longest_s * rig.rates.policy_hz)):
        truth = world.truth()
        tail -= truth["success"]
        if tail < 0 or truth["failure"] or refused:
            break
        now_ns, action = arm.now_ns(), operator.act(truth)
        frames = cameras.frames(now_ns, world.data.qpos)
        writer.add(
            state=arm.state().vector(), action=action.astype(np.float32),
            images={name: frame.colour for name, frame in frames.items()},
            stamps_ns={name: frame.stamp_ns for name, frame in frames.items()} | dict.fromkeys(STAMPED, now_ns),
        )  # fmt: skip
        try:
            arm.apply(action)
        except Refused as refusal:
            refused = str(refusal)
    if not truth["success"]:
        logger.warning("seed %d of %r failed: %s", seed, task, refused or truth["failure"] or "out of time")
        writer.discard()
        return False
    writer.keep()
    return True
