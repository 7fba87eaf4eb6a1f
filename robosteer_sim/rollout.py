"""Episodes inside one process by one action per tick: what makes training data quickly."""

from __future__ import annotations

import numpy as np

from robosteer_core.rig import Rig
from robosteer_core.runtime.pose import Pose
from robosteer_sim.direct_arm import DirectArm
from robosteer_sim.world import World


class Rollout:
    """The arm of `world` from the scene that it holds now, moved by actions of the rig's Cartesian delta space.

    Raises Refused in `apply` when a reflex has stopped the arm.
    """

    def __init__(self, world: World, rig: Rig) -> None:
        self._arm = DirectArm(world, rig)

    @property
    def commanded(self) -> Pose:
        """The last set-point that went to the arm."""
        return self._arm.state().commanded

    def measured(self) -> Pose:
        return self._arm.state().measured

    def state(self) -> np.ndarray:
        """(7,) float32, as `ArmState.vector`."""
        return self._arm.state().vector()

    def apply(self, action: np.ndarray) -> None:
        """Execute one action (7,) until the next tick of the policy."""
        self._arm.apply(action)
