"""Files that are there whole or not at all, and what is said where the disk refuses them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from robosteer_core.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What the user can mend at a path, as against a fault of a program.
_OF_THE_DISK = (*_FULL, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EIO)


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


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """The temporary file to write, which becomes `path` at the end of the block, with the permissions of any new file.

    Raises UserError naming `path` where the disk refuses; what was there before stays, and the temporary file goes.
    """
    with _telling(path):
        temporary = temporary_of(path)
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # safetensors puts a file in its place that nobody else may read
            put(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """As `written`, for a folder of files: it appears whole, or where there is one its files are replaced one by one."""
    with _telling(path):
        part = path.with_name(path.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            yield part
            for file in part.iterdir():
                file.chmod(part.stat().st_mode & 0o666)
            if path.exists():
                for file in part.iterdir():
                    file.replace(path / file.name)
                part.rmdir()
            else:
                part.rename(path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        message = refusal(error, path)
        if message is None:
            raise
        raise UserError(message) from error


def write_text(path: Path, content: str) -> None:
    """Write or replace a file in one step, so that a reader never sees half of it."""
    with written(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def refusal(error: BaseException, path: Path | None = None) -> str | None:
    """What to say of an error by which the disk refused `path` (default: the one that it names), None for any other error."""
    # torch says that a file broke off, and Python before it why.
    cause = error.__context__ if isinstance(error, RuntimeError) else error
    if isinstance(cause, OSError) and cause.errno in _OF_THE_DISK:
        number, reason = cause.errno, cause.strerror
        path = path or (Path(os.fsdecode(cause.filename)) if cause.filename else None)
    elif type(error).__name__ == "SafetensorError" and "I/O error" in str(error):  # not imported: it brings nothing of Python's
        reason = str(error)
        number = errno.ENOSPC if any(f"(os error {full})" in reason for full in _FULL) else None
    else:
        return None
    if path is None and number not in _FULL:
        return None
    place = f"{path}" if path else "a file"
    if number in _FULL:
        free = f"; {_size(shutil.disk_usage(_existing(path)).free)} are free there" if path else ""
        return f"{place} cannot be written: {reason}{free}; make room, or give another place, and run the same again"
    return f"{place}: {reason}; give a path that is there and can be used"


def require_writable(folder: Path) -> None:
    """Raises UserError where nothing can be written in `folder`, which need not be there. Leaves nothing behind."""
    there = _existing(folder)
    try:
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be written: {error.strerror} at {there}; give another place") from error


def require_room(folder: Path, size: int) -> None:
    """Raises UserError where fewer than `size` bytes are free in `folder`, which need not be there."""
    free = shutil.disk_usage(_existing(folder)).free
    if free < size:
        raise UserError(f"what goes to {folder} takes about {_size(size)}; {_size(free)} are free there; make room, or give another place")


def _existing(path: Path) -> Path:
    """`path`, or the nearest above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if os.path.exists(place))


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
