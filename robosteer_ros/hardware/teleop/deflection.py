"""Devices that say by their deflection how fast the hand is to go: stick, puck and key."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_ros.hardware.teleop.device import TeleopCommand, TeleopDevice

logger = logging.getLogger(__name__)

#: No stick rests at exactly zero.
DEAD_ZONE = 0.08


@dataclass(frozen=True)
class Speeds:
    """Of the end effector at full deflection. Raises UserError beyond the rig's limits."""

    m_per_s: float = 0.15
    rad_per_s: float = 0.6

    def require_within(self, rig: Rig) -> None:
        limits = rig.limits
        for name, value, most in (
            ("speed_m_per_s", self.m_per_s, limits.max_speed_m_per_s), ("turn_rad_per_s", self.rad_per_s, limits.max_angular_speed_rad_per_s),
        ):  # fmt: skip
            if not 0 < value <= most:
                raise UserError(f"{name}: expected more than 0 and at most the rig's limit {most:g}, found {value:g}")


@dataclass(frozen=True)
class Hand:
    """What the operator's hand does: `axes` (6,) deflections in [-1, 1], forward (x), left (y), up (z) and turns about
    these, as seen by somebody who stands behind the arm; `pressed` since the last look: `gripper`, and `teleop_link.EVENTS`."""

    axes: np.ndarray
    deadman: bool
    pressed: tuple[str, ...] = ()


class DeflectionDevice(TeleopDevice):
    """Turns deflections into deltas of one policy tick. Pressing `gripper` with the enabling switch held opens or closes."""

    def __init__(self, rig: Rig, speeds: Speeds) -> None:
        speeds.require_within(rig)
        full = np.repeat([speeds.m_per_s, speeds.rad_per_s], 3)
        self._full, self._simulated = full / rig.rates.policy_hz, rig.lab is not None
        self._gripper = 1.0
        self.stage = "waiting"

    @abstractmethod
    def look(self) -> Hand:
        """What the hand does now. Never waits; a device that is gone is released."""

    def begin(self, gripper: float) -> None:
        self._gripper = gripper

    def read(self) -> TeleopCommand:
        hand = self.look()
        if "gripper" in hand.pressed and hand.deadman:
            self._gripper = 0.0 if self._gripper > 0.5 else 1.0
        size = np.abs(hand.axes)
        axes = np.sign(hand.axes) * np.clip((size - DEAD_ZONE) / (1 - DEAD_ZONE), 0, 1)
        return TeleopCommand(
            axes * self._full if hand.deadman else np.zeros(6), self._gripper, hand.deadman,
            0 if self._simulated else time.monotonic_ns(), tuple(name for name in hand.pressed if name != "gripper"),
        )  # fmt: skip

    def announce(self, stage: str, episodes: int) -> None:
        self.stage = stage
