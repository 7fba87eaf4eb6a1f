"""The running episode on disk, in a form that survives a kill at any moment.

`.recording/` beside the dataset's own folders holds `episode.json`, one MKV per camera and `frames.log`, to which each
frame's state, action and stamps are appended with a checksum. `kept.json` is the decision to keep the episode, with the
index it is to have; what follows can be done again from these files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from robosteer_core.episodes.features import STAMP
from robosteer_core.episodes.layout import ACTION, IMAGES, STATE, read_json, write_json
from robosteer_core.episodes.statistics import ImageHistogram
from robosteer_core.episodes.video import VideoRecorder, decodable_frames
from robosteer_core.errors import UserError
from robosteer_core.files import sync

FOLDER = ".recording"


@dataclass(frozen=True)
class Recorded:
    """A recorded episode before it is part of a dataset: `columns` by feature (N, D) or (N,); N is `length`.

    `videos` and `image_statistics` by camera feature; the videos may hold more than N frames.
    """

    task: str
    columns: Mapping[str, np.ndarray]
    videos: Mapping[str, Path]
    image_statistics: Mapping[str, dict]

    @property
    def length(self) -> int:
        return len(self.columns[STATE])


def _record_type(features: Mapping[str, Any]) -> np.dtype:
    fields = [(STATE, "<f4", (features[STATE]["shape"][0],)), (ACTION, "<f4", (features[ACTION]["shape"][0],))]
    fields += [(key, "<i8") for key in features if key.startswith(STAMP)]
    return np.dtype([*fields, ("checksum", "<u4")])


class Recording:
    """Writes the running episode. `folder` is the dataset's; raises UserError when a frame does not fit `features`."""

    def __init__(self, folder: Path, task: str, features: Mapping[str, Any], fps: int) -> None:
        self.folder = folder / FOLDER
        self.task = task
        self.length = 0
        self._features = features
        self._type = _record_type(features)
        self.folder.mkdir()
        write_json({"task": task}, self.folder / "episode.json")
        self._log = os.open(self.folder / "frames.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._records: list[np.ndarray] = []
        self._cameras = {
            key.removeprefix(IMAGES): VideoRecorder(self.folder / f"{key.removeprefix(IMAGES)}.mkv", *feature["shape"][:2], fps)
            for key, feature in features.items()
            if key.startswith(IMAGES)
        }

    def add(
        self, state: np.ndarray, action: np.ndarray, images: Mapping[str, np.ndarray], stamps_ns: Mapping[str, int]
    ) -> None:
        record = np.zeros((), self._type)
        for key, value in ((STATE, state), (ACTION, action)):
            value = np.asarray(value)
            if list(value.shape) != list(self._features[key]["shape"]):
                raise UserError(f"{key}: expected shape {tuple(self._features[key]['shape'])}; found {value.shape}")
            if not np.isfinite(value).all():
                raise UserError(f"{key}: expected finite numbers; found {value} in frame {self.length}")
            record[key] = value
        expected = {key.removeprefix(STAMP) for key in self._type.names if key.startswith(STAMP)}
        for what, found, wanted in (("stamps", stamps_ns, expected), ("images", images, self._cameras)):
            if set(found) != set(wanted):
                raise UserError(f"{what}: expected one each of {sorted(wanted)}; found {sorted(found)}")
        for source, stamp_ns in stamps_ns.items():
            record[STAMP + source] = stamp_ns
        for name, camera in self._cameras.items():
            camera.check(images[name])
        for name, camera in self._cameras.items():
            camera.add(images[name])
        record["checksum"] = zlib.crc32(record.tobytes()[: -self._type["checksum"].itemsize])
        try:
            os.write(self._log, record.tobytes())
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error}; discard the episode and make room") from error
        self._records.append(record)
        self.length += 1

    def keep(self, index: int) -> Recorded:
        """Finish the files and put on record that this becomes episode `index`; needs at least one frame."""
        os.fsync(self._log)
        os.close(self._log)
        for camera in self._cameras.values():
            camera.close()
            sync(camera.path)
        write_json({"task": self.task, "index": index}, self.folder / "kept.json")
        return Recorded(
            self.task,
            _columns(np.array(self._records)),
            {IMAGES + name: camera.path for name, camera in self._cameras.items()},
            {IMAGES + name: camera.histogram.statistics() for name, camera in self._cameras.items()},
        )

    def discard(self) -> None:
        os.close(self._log)
        for camera in self._cameras.values():
            with contextlib.suppress(UserError):  # a frame that could not be written is not missed
                camera.close()
        shutil.rmtree(self.folder)


def _columns(records: np.ndarray) -> dict[str, np.ndarray]:
    return {key: records[key] for key in records.dtype.names if key != "checksum"}


def kept_index(folder: Path) -> int | None:
    """Index that the recording left in a dataset's folder was to have; None when its process ended before `keep`."""
    path = folder / FOLDER / "kept.json"
    return read_json(path)["index"] if path.is_file() else None


def recover(folder: Path, features: Mapping[str, Any]) -> Recorded | None:
    """The longest prefix of a recording that was left behind: whole log records with a decodable image of every camera.

    None when not one frame is whole. Leaves the files as they are.
    """
    left = folder / FOLDER
    head = next((path for path in (left / "kept.json", left / "episode.json") if path.is_file()), None)
    if head is None or not (left / "frames.log").is_file():
        return None
    record_type = _record_type(features)
    content = (left / "frames.log").read_bytes()
    records = np.frombuffer(content[: len(content) - len(content) % record_type.itemsize], record_type)
    payload = record_type.itemsize - record_type["checksum"].itemsize
    whole = 0
    while whole < len(records) and zlib.crc32(records[whole].tobytes()[:payload]) == records[whole]["checksum"]:
        whole += 1
    videos = {key: left / f"{key.removeprefix(IMAGES)}.mkv" for key in features if key.startswith(IMAGES)}
    histograms = {}
    for key, path in videos.items():
        histograms[key] = ImageHistogram()
        for image in decodable_frames(path):
            histograms[key].add(image)
        whole = min(whole, histograms[key].images)
    if whole == 0:
        return None
    statistics = {key: histogram.statistics() for key, histogram in histograms.items()}
    return Recorded(read_json(head)["task"], _columns(records[:whole]), videos, statistics)
