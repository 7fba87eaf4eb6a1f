"""Which tasks and variations there are to be tried; told by the package that has the scenes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.metadata import entry_points

from robosteer_core.errors import UserError

GROUP = "robosteer.catalogues"
ALL = "all"


class Catalogue(ABC):
    """The tasks of a lab. An entry point of the group `robosteer.catalogues` names the class."""

    #: The instructions that `--task all` stands for, and the cells of `--variation all`.
    tasks: tuple[str, ...]
    variations: tuple[str, ...]

    @abstractmethod
    def check_task(self, text: str) -> None:
        """Raises UserError where the lab has no such task."""

    @abstractmethod
    def check_variation(self, text: str) -> None:
        """Raises UserError where the lab has no such variation."""

    @abstractmethod
    def seconds(self, task: str) -> float:
        """Robot time that a trial of the task may take."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes with whatever scenes, physics and operator depend on."""


def load_catalogue(name: str = "lab") -> Catalogue:
    """Raises UserError where no installed package brings it."""
    for point in entry_points(group=GROUP, name=name):
        return point.load()()
    raise UserError(f"no lab {name!r} to take tasks from; install the extra `sim`: pip install -e '.[sim]'")


def expand_tasks(catalogue: Catalogue, asked: list[str]) -> tuple[str, ...]:
    """The tasks that the words on the command line name. Raises UserError for unknown ones."""
    return _expand(asked, catalogue.tasks, catalogue.check_task)


def expand_variations(catalogue: Catalogue, asked: list[str]) -> tuple[str, ...]:
    """The variations that the words name; `all` stands for each of them, the one called `all` among them."""
    return _expand(asked, catalogue.variations, catalogue.check_variation)


def _expand(asked: list[str], everything: tuple[str, ...], check) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for word in asked:
        if word == ALL:
            found |= dict.fromkeys(everything)
        else:
            check(word)
            found[word] = None
    return tuple(found)
