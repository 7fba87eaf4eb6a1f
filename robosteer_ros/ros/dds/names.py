"""Names of nodes, topics and services: rules, expansion, remapping (design.ros2.org: topic and service names)."""

from __future__ import annotations

import re

from robosteer_ros.ros.dds.exceptions import (
    InvalidNamespaceException,
    InvalidNodeNameException,
    InvalidServiceNameException,
    InvalidTopicNameException,
)

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_node_name(name: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise InvalidNodeNameException(name, "node name must be alphanumerics and '_', and must not start with a number")


def check_namespace(namespace: str) -> None:
    if not namespace.startswith("/"):
        raise InvalidNamespaceException(namespace, "namespace must be absolute, it must lead with a '/'")
    if namespace != "/" and not all(map(_TOKEN.fullmatch, namespace[1:].split("/"))):
        raise InvalidNamespaceException(namespace, "each part must be alphanumerics and '_', and must not start with a number")


def full_node_name(namespace: str, name: str) -> str:
    return f"/{name}" if namespace == "/" else f"{namespace}/{name}"


def expand(name: str, node_name: str, namespace: str, is_service: bool = False) -> str:
    """The absolute form of a topic's or service's name as a node gives it. Raises Invalid...NameException."""
    error = InvalidServiceNameException if is_service else InvalidTopicNameException
    if not name:
        raise error(name, "it must not be empty")
    if name == "~" or name.startswith("~/"):
        absolute = full_node_name(namespace, node_name) + name[1:]
    else:
        absolute = name if name.startswith("/") else full_node_name(namespace, name)
    absolute = absolute.replace("{node}", node_name).replace("{ns}", namespace.rstrip("/"))
    absolute = absolute.replace("{namespace}", namespace.rstrip("/"))
    if not all(map(_TOKEN.fullmatch, absolute[1:].split("/"))):
        raise error(name, "each part must be alphanumerics and '_', and must not start with a number")
    return absolute
