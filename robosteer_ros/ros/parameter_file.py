"""A file of parameters as ROS 2 takes it: nodes, or patterns of their full names, `ros__parameters` below them, names and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from pathlib import Path

import yaml

from robosteer_core.errors import UserError

_VALUES = "ros__parameters"
#: What every node of ROS 2 has, whatever it is.
_EVERYWHERE, _EVERYWHERE_BELOW = ("use_sim_time", "start_type_description_service"), "qos_overrides."


def read(path: Path | str) -> list[tuple[str, str, object]]:
    """Pattern of the node's full name, name and value of each parameter, in the file's order. Raises UserError with the place."""
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"no file of parameters {path} ({error}); expected a YAML file of ROS 2") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}{where}: {getattr(error, 'problem', error)}; expected a YAML file of ROS 2") from error
    found: list[tuple[str, str, object]] = []

    def walk(pattern: str, section: object) -> None:
        if not isinstance(section, dict):
            expected = f"expected `{_VALUES}`, with names and values below it, or the name of a node"
            raise UserError(f"{path}: {expected}{pattern and f' below {pattern[1:]}'}, found {section!r:.60}")
        for key, below in section.items():
            if key != _VALUES:
                walk(str(key) if str(key).startswith("/") and not pattern else f"{pattern}/{key}", below)
            elif isinstance(below, dict):
                found.extend((pattern, name, value) for name, value in flatten(below).items())
            else:
                walk(f"{pattern}/{key}", below)

    walk("", {} if content is None else content)
    return found


def flatten(nested: dict, prefix: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat: dict[str, object] = {}
    for name, value in nested.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def matches(pattern: str, node: str) -> bool:
    """Whether what stands below `pattern` is meant for the node of this full name."""
    if pattern == "/**":
        return True
    if not pattern.startswith("/"):
        pattern = f"/{pattern}"
    expression = "".join({"/**": "(/.+)?", "**": ".*", "*": "[^/]+"}.get(part, re.escape(part))
                         for part in re.split(r"(/\*\*|\*\*|\*)", pattern))  # fmt: skip
    return re.fullmatch(expression, node) is not None


def require_names(path: Path | str, nodes: Mapping[str, Collection[str]], others: Callable[[], Collection[str]] = frozenset) -> bool:
    """Whether anything in the file is meant for one of `nodes` (full name, names of its parameters). Raises UserError for what such a
    node does not have.

    Under a pattern with * stands what one of the nodes has that it is meant for, or what is in `others()`. What is meant for none
    of the nodes is not looked at.
    """
    wrong, any_meant = [], False
    for pattern, name, _ in read(path):
        meant = [names for node, names in nodes.items() if matches(pattern, node)]
        if not meant:
            continue
        any_meant, known = True, set(_EVERYWHERE).union(*meant)
        if "*" in pattern and name not in known:
            known |= set(others())
        if name not in known and not name.startswith(_EVERYWHERE_BELOW):
            near = get_close_matches(name, known, 1)
            advice = f"did you mean {near[0]!r}? Expected" if near else "expected"
            wrong.append(f"{path}: {pattern} has no parameter {name!r}; {advice} one of {', '.join(sorted(known))}")
    if wrong:
        raise UserError("\n".join(wrong))
    return any_meant
