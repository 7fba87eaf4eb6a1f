"""The compiled model library, as the file that the Panda's robot server sends to its client.

It is built with the package (`ext-modules` in pyproject.toml) where there is a C compiler. Not to be imported: libfranka
loads it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from robosteer_core.errors import UserError

MODULE = "robosteer_sim.panda._model_library"


def library_path() -> Path:
    """Where the library lies. Raises UserError where it was not built, saying what to install."""
    spec = find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise UserError(
            "the Panda's robot server hands its model to the client as a compiled library, and this installation has none: "
            "there was no C compiler when robosteer was installed. Install one (Debian, Ubuntu: sudo apt-get install gcc "
            "libc6-dev), then robosteer again: pip install -e '.[sim,panda]'"
        )
    return Path(spec.origin)
