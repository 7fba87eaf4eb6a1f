"""Hand guiding: the operator leads the arm by the buttons at its hand, and decides by the console or by services."""

from __future__ import annotations

import numpy as np

from robosteer_core.rig import Rig
from robosteer_ros.hardware.teleop.device import TeleopCommand, TeleopDevice


class Guiding(TeleopDevice):
    """The enabling switch are the arm's own buttons: without them it holds its pose. Says nothing itself."""

    guides = True

    def __init__(self, rig: Rig) -> None:
        self._still = TeleopCommand(np.zeros(6), gripper=1.0, deadman=False, stamp_ns=0)

    def read(self) -> TeleopCommand:
        return self._still

    def announce(self, stage: str, episodes: int) -> None:
        pass

    def close(self) -> None:
        pass
