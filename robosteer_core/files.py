"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file or a folder's list of names to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put(temporary: Path, path: Path) -> None:
    """Give a finished file its name: after this call it is there, whole, even if the power fails."""
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def temporary_of(path: Path) -> Path:
    """Where `path` is written before it is `put`; its suffix keeps it out of every reader's file patterns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(path.name + ".tmp")


def write_text(path: Path, content: str) -> None:
    """Write or replace a file in one step, so that a reader never sees half of it. OSError leaves it as it was."""
    temporary = temporary_of(path)
    try:
        temporary.write_text(content, encoding="utf-8")
        put(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
