"""What the controller asks of an arm, whatever binding drives it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from robosteer_core.runtime.pose import Pose
from robosteer_core.runtime.reading import ArmFault, Reading

__all__ = ["ArmDriver", "ArmFault", "Reading"]

#: Share of the robot's limits of velocity and acceleration with which it goes home: "slow return home".
HOME_DYNAMICS = 0.15
#: The robot's answer to a recovery may overtake the state that shows it: so many states are looked at.
_RECOVERY_STATES = 500


class ArmDriver(ABC):
    """One connected arm.

    One thread calls the methods that move it. `read` may be called by others while a motion runs: it then returns what
    the control loop saw last, at once. With no motion running it waits for the robot's next packet.
    """

    @abstractmethod
    def read(self) -> Reading:
        """The latest state. Raises ArmFault when the connection is lost."""

    @property
    @abstractmethod
    def moving(self) -> bool:
        """Whether a motion is running. Never waits."""

    @abstractmethod
    def begin_tracking(self, pose: Pose) -> None:
        """Start following set-points, `pose` being the first. Returns at once."""

    @abstractmethod
    def track(self, pose: Pose, twist: np.ndarray) -> None:
        """The next set-point: pose and twist (6,) [m/s, rad/s] of the end effector in the base frame. Never waits."""

    @abstractmethod
    def begin_home(self) -> None:
        """Start moving to the rig's home position, slowly. Returns at once."""

    @abstractmethod
    def begin_stop(self) -> None:
        """Bring the running motion, whichever it is, to rest. Returns at once; `moving` tells when it is done."""

    @abstractmethod
    def raise_fault(self) -> None:
        """Raise ArmFault if the last motion ended by a fault. Never waits."""

    def await_recovery(self, has_errors: Callable[[], bool]) -> None:
        """After the robot's answer to a recovery. Raises ArmFault when its states go on telling of errors."""
        for _ in range(_RECOVERY_STATES):
            if not has_errors():
                return
        raise ArmFault(f"the robot did not recover; its mode is {self.read().robot_mode}")

    @abstractmethod
    def free_for_guiding(self) -> None:
        """Let the arm at rest be led in all directions and turns while the buttons at its hand are pressed. Raises ArmFault."""

    @abstractmethod
    def recover(self) -> None:
        """Clear the robot's errors after a fault. Raises ArmFault if it refuses."""


def describe(error: BaseException) -> str:
    """One line: the robot's error names first, as libfranka quotes them (`["cartesian_reflex"]`), then its whole message."""
    text = " ".join(str(error).split()) or type(error).__name__
    names = error_names(text)
    return f"{names}: {text}" if names else text


def error_names(text: str) -> str:
    """The names of errors in a text of libfranka's, which quotes them; separated by commas."""
    return ", ".join(re.findall(r'"(\w+)"', text))
