"""Trials inside one process: the lab's physics, cameras and arm without FCI and without other processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from robosteer_core.evaluation.trials import Trial
from robosteer_core.evaluation.venue import Stage, Venue
from robosteer_core.rig import Rig
from robosteer_core.runtime.observation import ArmState, Observation
from robosteer_sim.direct_arm import DirectArm
from robosteer_sim.direct_cameras import DirectCameras
from robosteer_sim.world import World


class LabVenue(Venue):
    """`robosteer eval --through lab`."""

    def __init__(self, rig: Rig, folder: Path, alone: bool) -> None:
        self._rig, self._world, self._cameras = rig, World(rig), DirectCameras(rig)

    def begin(self, trial: Trial) -> Stage:
        self._world.reset(trial.task, trial.seed, trial.variation)
        self._cameras.scene(trial.task, trial.seed, trial.variation)
        return DirectStage(self._rig, self._world, self._cameras)

    def close(self) -> None:
        self._cameras.close()


class DirectStage(Stage):
    """The scene that `world` holds now, its arm about to move."""

    def __init__(self, rig: Rig, world: World, cameras: DirectCameras) -> None:
        self._world, self._cameras = world, cameras
        self.arm = self.clock = DirectArm(world, rig)

    def observe(self, stamp_ns: int, instruction: str, arm: ArmState | None = None) -> Observation:
        frames = self._cameras.frames(stamp_ns, self._world.data.qpos)
        return Observation(stamp_ns, frames, arm or self.arm.state(), instruction)

    def truth(self) -> dict:
        return self._world.truth()

    def interventions(self) -> Counter[str]:
        return self.arm.statistics.interventions

    def close(self) -> None:
        """Nothing goes on by itself."""
