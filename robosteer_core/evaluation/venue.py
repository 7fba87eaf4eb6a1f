"""Where trials take place: inside one process, or through FCI and the nodes of the rig."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path

from robosteer_core.errors import UserError
from robosteer_core.evaluation.trials import Trial
from robosteer_core.rig import Rig
from robosteer_core.runtime.observation import ArmState, Observation
from robosteer_core.runtime.runner import ArmLink, Clock

GROUP = "robosteer.venues"


class Interrupted(UserError):
    """A trial was cut short by something outside of it, e.g. the network to the robot: its outcome counts for nothing."""


class Stage(ABC):
    """One trial's: its scene is up, the arm tracks, `clock` stands at the first tick. A context manager; its end stops
    the arm."""

    clock: Clock
    arm: ArmLink

    @abstractmethod
    def observe(self, stamp_ns: int, instruction: str, arm: ArmState | None = None) -> Observation:
        """Everything there is to see at `stamp_ns`, which is now."""

    @abstractmethod
    def truth(self) -> dict:
        """Where everything is, and whether the task has been done."""

    @abstractmethod
    def interventions(self) -> Counter[str]:
        """How often each software limit has acted in this trial."""

    def interruption(self) -> str | None:
        """What outside of the trial made the arm refuse; None where it was the robot's reflex or the watchdog."""
        return None

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Venue(ABC):
    """A place for trials, one at a time. An entry point of the group `robosteer.venues` names the class.

    `folder` is for what the place has to write (logs of its processes). A context manager.
    """

    @abstractmethod
    def __init__(self, rig: Rig, folder: Path, alone: bool) -> None:
        """`alone`: no other worker is at work, so that what runs at the rig's addresses may be used."""

    @abstractmethod
    def begin(self, trial: Trial) -> Stage:
        """Put up the trial's scene and start the arm."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Venue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def venue_class(name: str) -> type[Venue]:
    """Raises UserError naming those that are installed."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise UserError(f"trials go through {', '.join(sorted(found)) or 'nothing that is installed'}; found {name!r}")
    return found[name].load()
