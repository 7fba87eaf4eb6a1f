"""What every teleoperation device gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TeleopCommand:
    """The operator's wish for one policy tick.

    `delta` (6,): translation [m] and rotation vector [rad] in the base frame; `gripper` opening in [0, 1], 1 is open;
    `deadman` whether the enabling switch is held: without it `delta` is zero. `stamp_ns` when the hand moved, on the
    rig's clock, 0 where the device does not know it. `events` since the last read, in order, of `teleop_link.EVENTS`.
    """

    delta: np.ndarray
    gripper: float
    deadman: bool
    stamp_ns: int
    events: tuple[str, ...] = ()


class TeleopDevice(ABC):
    """Read once per policy tick. One that `guides` commands nothing: the operator leads the arm itself."""

    guides = False

    @abstractmethod
    def read(self) -> TeleopCommand:
        """The latest command. Never waits. A device that has fallen silent counts as released."""

    def begin(self, gripper: float) -> None:
        """The arm begins to follow; its hand is open by `gripper` in [0, 1] and stays so until the operator says otherwise."""

    @abstractmethod
    def announce(self, stage: str, episodes: int) -> None:
        """Tell the operator the session's stage (`Teleoperation.stage`) and how many episodes are kept."""

    @abstractmethod
    def close(self) -> None: ...
