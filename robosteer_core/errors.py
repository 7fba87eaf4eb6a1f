"""The one exception that stands for bad input, and settings that raise it."""

from __future__ import annotations

from typing import Any, TypeVar


class UserError(Exception):
    """Input that cannot be used: the message says what was expected, what was found and what to do.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """


Model = TypeVar("Model")


def settings(model: type[Model], **values: Any) -> Model:
    """A pydantic `model` made from what somebody typed. Raises UserError naming every value that it refuses."""
    from pydantic import ValidationError  # here, so that the command line starts without it

    try:
        return model(**values)
    except ValidationError as error:
        refused = ("{}: {} (found {!r})".format(".".join(map(str, e["loc"])), e["msg"], e["input"]) for e in error.errors())
        raise UserError("\n".join(refused)) from error
