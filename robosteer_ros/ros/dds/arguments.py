"""The arguments that follow --ros-args: remaps, parameters, log levels (design.ros2.org: ROS command line arguments)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import yaml

from robosteer_core.errors import UserError
from robosteer_ros.ros.dds import names
from robosteer_ros.ros.dds.exceptions import RCLInvalidROSArgsError, UnknownROSArgsError
from robosteer_ros.ros.parameter_file import matches, read

_LEVELS = {"unset": 0, "debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}
_IGNORED_FLAGS = {"--enable-rosout-logs", "--enable-stdout-logs", "--enable-external-lib-logs", "--disable-external-lib-logs"}
_IGNORED_OPTIONS = {"-e", "--enclave", "--log-config-file", "--log-file-name"}


@dataclass(frozen=True)
class Remap:
    node: str | None  # the node that it is meant for; None: all
    source: str
    target: str


@dataclass
class Arguments:
    """What a process was told. Parameters are (pattern of the node's full name, name, value), later ones win."""

    remaps: list[Remap] = field(default_factory=list)
    parameters: list[tuple[str, str, object]] = field(default_factory=list)
    log_levels: list[tuple[str, int]] = field(default_factory=list)
    rosout: bool = True
    others: list[str] = field(default_factory=list)

    def node_name(self, name: str) -> str:
        return next((r.target for r in self._of(name) if r.source in ("__node", "__name")), name)

    def namespace(self, name: str, namespace: str) -> str:
        return next((r.target for r in self._of(name) if r.source == "__ns"), namespace)

    def topic(self, absolute: str, node_name: str, namespace: str, is_service: bool = False) -> str:
        """The name a node's topic or service has on the graph."""
        for remap in self._of(node_name):
            source = remap.source.removeprefix("rosservice://" if is_service else "rostopic://")
            if source.startswith("__") or "://" in source:
                continue
            if names.expand(source, node_name, namespace) == absolute:
                return names.expand(remap.target, node_name, namespace, is_service)
        return absolute

    def parameters_of(self, full_name: str) -> dict[str, object]:
        return {name: value for pattern, name, value in self.parameters if matches(pattern, full_name)}

    def _of(self, node_name: str):
        return (remap for remap in self.remaps if remap.node in (None, node_name))


def parse(arguments: Sequence[str]) -> Arguments:
    """Read a command line; what comes before --ros-args, or after its closing --, is left to others.

    Raises RCLInvalidROSArgsError or UnknownROSArgsError, naming the argument.
    """
    found = Arguments()
    words = iter(arguments)
    inside = False
    for word in words:
        if word == "--ros-args":
            inside = True
        elif not inside:
            found.others.append(word)
        elif word == "--":
            inside = False
        elif word in ("-r", "--remap"):
            found.remaps.append(_remap(_next(words, word)))
        elif word in ("-p", "--param"):
            found.parameters.append(_parameter(_next(words, word)))
        elif word == "--params-file":
            try:
                found.parameters += read(_next(words, word))
            except UserError as error:
                raise RCLInvalidROSArgsError(f"--params-file: {error}") from error
        elif word == "--log-level":
            found.log_levels.append(_log_level(_next(words, word)))
        elif word == "--disable-rosout-logs":
            found.rosout = False
        elif word in _IGNORED_OPTIONS:
            _next(words, word)
        elif word not in _IGNORED_FLAGS and word != "--disable-stdout-logs":
            raise UnknownROSArgsError(f"Found unknown ROS arguments: {word!r}; expected -r, -p, --params-file or --log-level")
    return found


def _next(words, option: str) -> str:
    try:
        return next(words)
    except StopIteration:
        raise RCLInvalidROSArgsError(f"{option} needs a value after it, found the end of the line") from None


def _split(rule: str, option: str, example: str) -> tuple[str, str]:
    source, sign, target = rule.partition(":=")
    if not sign or not source or not target:
        raise RCLInvalidROSArgsError(f"{option} expects {example}, found {rule!r}")
    return source, target


def _node_prefix(source: str) -> tuple[str | None, str]:
    node, sign, name = source.partition(":")
    return (node, name) if sign and not name.startswith("//") else (None, source)


def _remap(rule: str) -> Remap:
    source, target = _split(rule, "--remap", "FROM:=TO")
    node, name = _node_prefix(source)
    return Remap(node, name, target)


def _parameter(rule: str) -> tuple[str, str, object]:
    source, value = _split(rule, "--param", "NAME:=VALUE")
    node, name = _node_prefix(source)
    try:
        return f"/**/{node}" if node else "/**", name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RCLInvalidROSArgsError(f"--param {name} expects a value in YAML, found {value!r}: {error}") from error


def _log_level(rule: str) -> tuple[str, int]:
    logger, sign, level = rule.partition(":=")
    logger, level = (logger, level) if sign else ("", rule)
    if level.lower() not in _LEVELS:
        raise RCLInvalidROSArgsError(f"--log-level expects one of {', '.join(_LEVELS)}, found {level!r}")
    return logger, _LEVELS[level.lower()]
