"""One writer at a time on a dataset's folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from robosteer_core.errors import UserError


class FolderLock:
    """Held until `release` or the end of the process, however it ends. Raises UserError when another process holds it."""

    def __init__(self, folder: Path) -> None:
        self._descriptor: int | None = os.open(folder / "meta" / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise UserError(f"another process writes to {folder}; wait for it, or record into a new folder") from None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Safe to repeat."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
