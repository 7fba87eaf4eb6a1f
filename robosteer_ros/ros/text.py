"""Messages as text, as `ros2` prints and reads them. Works on the classes of either backend."""

from __future__ import annotations

import sys

import yaml

from robosteer_core.errors import UserError

LONGEST = 128
"""Elements or characters of a field that are printed; `ros2 topic echo` cuts there as well."""


def to_yaml(message, longest: int = LONGEST) -> str:
    """A message in YAML; what is longer than `longest` ends in '...'."""
    return yaml.safe_dump(_plain(message, longest), sort_keys=False, allow_unicode=True, width=sys.maxsize)


def _plain(value, longest: int):
    if hasattr(value, "get_fields_and_field_types"):
        return {name: _plain(getattr(value, name), longest) for name in value.get_fields_and_field_types()}
    if isinstance(value, bytes):
        value = "".join(map(chr, value))
    if isinstance(value, str):
        return value if len(value) <= longest else value[:longest] + "..."
    if isinstance(value, (bool, int, float)):
        return value
    values = value[:longest]
    values = values.tolist() if hasattr(values, "tolist") else values
    return [_plain(one, longest) for one in values] + ["..."] * (len(value) > longest)


def fill(message, values: object) -> None:
    """Set the fields of a message from what somebody typed, nested as the fields are. Raises UserError naming the field."""
    if not isinstance(values, dict):
        raise UserError(f"expected fields and values such as '{{data: true}}' for {type(message).__name__}, found {values!r}")
    fields = message.get_fields_and_field_types()
    for name, value in values.items():
        if name not in fields:
            raise UserError(f"{type(message).__name__} has no field {name!r}; it has {', '.join(fields) or 'none'}")
        current = getattr(message, name)
        if hasattr(current, "get_fields_and_field_types"):
            fill(current, value)
            continue
        try:
            setattr(message, name, _of_kind(value, fields[name]))
        except (AssertionError, TypeError, ValueError) as error:
            raise UserError(f"{name} of {type(message).__name__} is of type {fields[name]}, found {value!r}") from error


def _of_kind(value, kind: str):
    """A value of YAML, where a whole number stands for a floating-point one as well."""
    from robosteer_ros.ros import interface

    inner = kind.removeprefix("sequence<").partition("[")[0].rstrip(">").partition(",")[0]
    if isinstance(value, list):
        return [_of_kind(one, inner) for one in value]
    if isinstance(value, dict):
        package, _, noun = inner.partition("/")
        message = interface(f"{package}/msg/{noun}")()
        fill(message, value)
        return message
    if inner in ("float", "double") and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return bytes((value,)) if inner == "octet" and isinstance(value, int) else value
