"""Targets whose pose in the camera has been measured already, as observations of a bundle adjustment."""

from __future__ import annotations

import numpy as np

from calibration.adjustment import Blocks, Chain
from calibration.rigid import hat, steps_between

#: A 0.3 m board seen from 0.5 m by a 1280x720 camera [m, rad]; measured in the simulated lab.
TRANSLATION_M, ROTATION_RAD = 0.3e-3, np.deg2rad(0.05)


class SeenTargets:
    """`target` (n, 4, 4) in the camera's optical frame, metres."""

    assumed = {"target_translation": TRANSLATION_M, "target_rotation": ROTATION_RAD}

    def __init__(self, target: np.ndarray) -> None:
        self._target = target

    def __len__(self) -> int:
        return len(self._target)

    def lens_prior(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.empty(0), np.empty(0), np.empty(0)

    def blocks(self, chain: Chain, lens: np.ndarray) -> list[Blocks]:
        predicted = chain.target_in_camera()
        _, shared, own = chain.points(np.zeros((1, 3)))
        translation = predicted[:, None, :3, 3] - self._target[:, None, :3, 3]
        turn = steps_between(self._target, predicted)[:, None, 3:]
        turn_shared, turn_own = chain.turns()
        # To first order, how a rotation vector follows a step at its end.
        follow = np.eye(3) + hat(turn) / 2
        present = np.ones((len(self), 1), bool)
        return [
            Blocks("target_translation", translation, shared, own, present),
            Blocks("target_rotation", turn, follow @ turn_shared[:, None], follow @ turn_own[:, None], present),
        ]
