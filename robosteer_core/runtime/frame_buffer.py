"""Camera frames in shared memory: the wire from the simulated lab's cameras to the camera driver, and from the camera node to
everybody on its machine.

One segment per camera, a file in /dev/shm: a header (`HEADER`), then `slots` slots, each a `SLOT` record, the colour
(height, width, 3) uint8 RGB and the depth (height, width) uint16. Frame number i of the segment's life (from 0) lies in
slot i % slots. The writer makes the slot's sequence odd, fills the slot, sets the sequence to 2 i + 2 and rings with
i + 1 frames written; a reader that finds any other sequence before or after its copy has been overtaken. A segment
appears under its name only when its header is complete, and its writer holds a lock (flock) on it for life: a segment
without a lock was left by a killed process and is removed by the next writer.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Camera, Rig
from robosteer_core.runtime.doorbell import Doorbell
from robosteer_core.runtime.frame import Intrinsics

FOLDER = Path("/dev/shm")
LAB_SERIAL = "lab:"
SLOTS = 4
_MAGIC = 0x52425333
_ALIGNMENT = 64

HEADER = np.dtype(
    [
        ("magic", "<u4"), ("slots", "<u4"), ("width", "<u4"), ("height", "<u4"), ("fps", "<u4"), ("closed", "<u4"),
        ("fx", "<f8"), ("fy", "<f8"), ("cx", "<f8"), ("cy", "<f8"), ("depth_unit_m", "<f8"), ("written", "<u4"),
        ("trouble", "S500"),
    ]
)  # fmt: skip
SLOT = np.dtype([("sequence", "<u8"), ("stamp_ns", "<i8"), ("depth_stamp_ns", "<i8"), ("number", "<i8")])


@dataclass(frozen=True)
class BufferFormat:
    """What a segment carries: `depth_unit_m` metres per count of depth, `fps` frames per second of the lab's clock."""

    intrinsics: Intrinsics
    depth_unit_m: float
    fps: int


@dataclass(frozen=True)
class BufferedFrame:
    """A copy of one slot: `colour` (height, width, 3) uint8 RGB, `depth` (height, width) uint16, each with its stamp."""

    stamp_ns: int
    depth_stamp_ns: int
    number: int
    colour: np.ndarray
    depth: np.ndarray


def segment_name(rig: Rig, camera: Camera) -> str:
    """Name of the segment of a lab camera: from the rig, the lab's control port and the name in the serial.

    Raises UserError for a camera that is not of the lab.
    """
    if rig.lab is None or not camera.serial.startswith(LAB_SERIAL):
        raise UserError(
            f"camera {camera.name!r} has serial {camera.serial!r}; expected {LAB_SERIAL}<name> in a rig with a section `lab`"
        )
    return _name(rig.name, rig.lab.control.rpartition(":")[2], camera.serial.removeprefix(LAB_SERIAL))


def graph_segment_name(rig: Rig, camera: Camera, domain_id: int, namespace: str) -> str:
    """Name of the segment that a camera's node writes, in a ROS domain and a namespace."""
    return _name(rig.name, f"ros{domain_id}", namespace.strip("/"), camera.name)


def _name(*parts: str) -> str:
    return "robosteer-" + "-".join(re.sub(r"[^A-Za-z0-9_.]", "_", part) for part in parts)


class _Segment:
    """The mapped file and the arrays that lie in it."""

    def __init__(self, name: str, file: int, size: int) -> None:
        self.name = name
        self._file = file
        self._map = mmap.mmap(file, size)
        self._header = np.ndarray((), HEADER, self._map)
        self._bell = Doorbell(self._map, HEADER.fields["written"][1])

    def _lay_out(self, width: int, height: int, slots: int) -> None:
        start, stride = _sizes(width, height)
        self._slots, self._colours, self._depths = [], [], []
        for index in range(slots):
            offset = start + index * stride
            self._slots.append(np.ndarray((), SLOT, self._map, offset))
            offset += _aligned(SLOT.itemsize)
            self._colours.append(np.ndarray((height, width, 3), np.uint8, self._map, offset))
            offset += _aligned(height * width * 3)
            self._depths.append(np.ndarray((height, width), "<u2", self._map, offset))

    def _unmap(self) -> None:
        self._bell.release()
        self._header = None
        self._slots, self._colours, self._depths = [], [], []
        self._map.close()
        os.close(self._file)


class FrameWriter(_Segment):
    """Creates the segment `name` and writes frames into it. Use as a context manager, or call `close`.

    Raises UserError when a living process writes under this name already, or /dev/shm has no room.
    """

    def __init__(self, name: str, buffer_format: BufferFormat, slots: int = SLOTS) -> None:
        refuse_second_writer(name)
        _remove_abandoned()
        lens = buffer_format.intrinsics
        start, stride = _sizes(lens.width, lens.height)
        size = start + slots * stride
        draft = FOLDER / f".{name}.{os.getpid()}"
        try:
            file = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise UserError(_no_room(size, error)) from error
        fcntl.flock(file, fcntl.LOCK_EX)
        super().__init__(name, file, size)
        self.format = buffer_format
        self._written = 0
        header = self._header
        for key in ("width", "height", "fx", "fy", "cx", "cy"):
            header[key] = getattr(lens, key)
        header["fps"], header["depth_unit_m"] = buffer_format.fps, buffer_format.depth_unit_m
        header["slots"], header["magic"] = slots, _MAGIC
        self._lay_out(lens.width, lens.height, slots)
        os.rename(draft, FOLDER / name)

    def write(
        self, stamp_ns: int, number: int, colour: np.ndarray, depth: np.ndarray, depth_stamp_ns: int | None = None
    ) -> None:
        """Publish a frame: `colour` (height, width, 3) uint8 RGB, `depth` (height, width) uint16; both captured at
        `stamp_ns`, unless depth has a stamp of its own."""
        index = self._written % len(self._slots)
        slot = self._slots[index]
        slot["sequence"] = 2 * self._written + 1
        slot["stamp_ns"], slot["number"] = stamp_ns, number
        slot["depth_stamp_ns"] = stamp_ns if depth_stamp_ns is None else depth_stamp_ns
        self._colours[index][...] = colour
        self._depths[index][...] = depth
        slot["sequence"] = 2 * self._written + 2
        self._written += 1
        self._bell.ring(self._written)

    def say(self, trouble: str) -> None:
        """Why no frames come, for who waits for one; empty when they come again."""
        self._header["trouble"] = trouble.encode()[: self._header["trouble"].itemsize]

    def close(self) -> None:
        """Tell the readers that nothing more will come, and remove the segment."""
        if self._header is None:
            return
        self._header["closed"] = 1
        if _is_same(self.name, self._file):
            (FOLDER / self.name).unlink()
        self._unmap()

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FrameReader(_Segment):
    """Reads the segment `name` that another process writes. Raises UserError when there is none; `of` and `start` say in it
    what writes the segment and how to start that."""

    def __init__(self, name: str, of: str = "a lab camera", start: str = "robosteer sim cameras") -> None:
        try:
            file = os.open(FOLDER / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UserError(f"no frames of {of} at {FOLDER / name}; start them: {start}") from None
        super().__init__(name, file, os.fstat(file).st_size)
        header = self._header
        if header["magic"] != _MAGIC:
            self._unmap()
            raise UserError(f"{FOLDER / name} has another layout than this version's; restart: {start}")
        width, height = int(header["width"]), int(header["height"])
        lens = Intrinsics(width, height, *(float(header[key]) for key in ("fx", "fy", "cx", "cy")))
        self.format = BufferFormat(lens, float(header["depth_unit_m"]), int(header["fps"]))
        self._lay_out(width, height, int(header["slots"]))

    @property
    def written(self) -> int:
        """How many frames have been written since the segment was created."""
        return self._bell.count

    def wait(self, seen: int, timeout_s: float) -> int:
        """Block until other than `seen` frames have been written, at most `timeout_s`; returns how many have been."""
        return self._bell.wait(seen, timeout_s)

    def oldest(self) -> int:
        """Index of the oldest frame that the writer will not overwrite next."""
        return max(0, self.written - len(self._slots) + 1)

    @property
    def trouble(self) -> str:
        """Why no frames come, as the writer has it."""
        return self._header["trouble"].item().decode(errors="ignore")

    def stamp_ns(self, index: int) -> int | None:
        """Stamp of the frame with this index; None when it has been overwritten."""
        slot = self._slots[index % len(self._slots)]
        stamp_ns = int(slot["stamp_ns"])
        return stamp_ns if slot["sequence"] == 2 * index + 2 else None

    def read(self, index: int) -> BufferedFrame | None:
        """Copy the frame with this index (0 is the first ever written); None when it has been overwritten."""
        slot = self._slots[index % len(self._slots)]
        if slot["sequence"] != 2 * index + 2:
            return None
        frame = BufferedFrame(
            int(slot["stamp_ns"]),
            int(slot["depth_stamp_ns"]),
            int(slot["number"]),
            self._colours[index % len(self._slots)].copy(),
            self._depths[index % len(self._slots)].copy(),
        )
        return frame if slot["sequence"] == 2 * index + 2 else None

    def alive(self) -> bool:
        """Whether the writer still runs."""
        return not self._header["closed"] and _is_locked(self._file)

    def replaced(self) -> bool:
        """Whether another segment, of a writer started later, has taken the name."""
        return (FOLDER / self.name).exists() and not _is_same(self.name, self._file)

    def close(self) -> None:
        if self._header is not None:
            self._unmap()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _sizes(width: int, height: int) -> tuple[int, int]:
    """Bytes before the first slot, and bytes per slot."""
    return _aligned(HEADER.itemsize), _aligned(SLOT.itemsize) + _aligned(height * width * 3) + _aligned(height * width * 2)


def _is_same(name: str, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(FOLDER / name), os.fstat(file))
    except FileNotFoundError:
        return False


def _is_locked(file: int) -> bool:
    """Whether somebody holds the writer's lock. A lock taken through another descriptor counts, also our own."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def refuse_second_writer(name: str) -> None:
    """Raises UserError when a living process writes the segment `name`."""
    try:
        file = os.open(FOLDER / name, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        # A reader that asks whether the writer lives holds a lock for a moment; a writer holds it always.
        for _ in range(5):
            if not _is_locked(file):
                return
            time.sleep(0.01)
    finally:
        os.close(file)
    raise UserError(f"the frames of {FOLDER / name} are being written by another process; end it first")


def _remove_abandoned() -> None:
    """Remove the segments whose writers were killed: nobody else would, and each takes memory."""
    for path in FOLDER.glob("robosteer-*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_same(path.name, file):
                    path.unlink()
            finally:
                os.close(file)


def _no_room(size: int, error: OSError) -> str:
    free = f"{shutil.disk_usage(FOLDER).free / 1e6:.0f} MB are free" if FOLDER.is_dir() else "there is no such folder"
    return (
        f"cannot create {size / 1e6:.0f} MB of shared memory in {FOLDER}: {error.strerror}; {free}. "
        "Free some, or give a container more (docker run --shm-size=256m)"
    )
