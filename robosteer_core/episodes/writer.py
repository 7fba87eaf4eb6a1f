"""Records demonstrations as a LeRobot v3 dataset, finalised episode by episode."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any, Literal, Mapping

import numpy as np
import pyarrow as pa

from robosteer_core.camera_calibration import CameraCalibration
from robosteer_core.episodes import layout, statistics
from robosteer_core.episodes.catalog import Clip, Episode, RowReader, episode_statistics, meta_row, read_episodes, video_keys
from robosteer_core.episodes.columns import array_column
from robosteer_core.episodes.features import contract_of, features_of, require_same_contract, whole_fps
from robosteer_core.episodes.lock import FolderLock
from robosteer_core.episodes.recording import FOLDER, Recorded, Recording, kept_index, recover
from robosteer_core.episodes.summary import write_summary
from robosteer_core.episodes.video import mkv_to_mp4
from robosteer_core.errors import UserError
from robosteer_core.rig import Rig

log = logging.getLogger(__name__)

INTERRUPTED = "interrupted"


def require_recordable(folder: str | Path, rig: Rig) -> None:
    """Raises UserError where `folder` holds something else than demonstrations under the contract of the rig. Writes nothing."""
    fps = whole_fps(rig, None)
    _require_contract(Path(folder), {"fps": fps, "robot_type": rig.arm.model, "features": features_of(rig, fps)}, rig)


class DatasetWriter:
    """Appends episodes to the dataset in `folder`, which is made when it is not there.

    `begin(task)`, `add(...)` once per frame, then `keep()` or `discard()`; `close()` at the end (or use `with`). A kept
    episode is one data parquet, one MP4 per camera and one parquet of metadata, each written aside, synced and renamed;
    the metadata comes last and commits. Killed at any moment, the next writer on the folder loses no kept episode.
    What it finds of an episode that ran when the process ended becomes, up to its last whole frame, an episode of the
    dataset in `folder/interrupted` (`interrupted="set_aside"`), or of this dataset (`"keep"`); `recovered_frames` tells.

    Raises UserError when the dataset was recorded under another contract, or when another process writes to it.
    """

    def __init__(
        self,
        folder: str | Path,
        rig: Rig,
        *,
        fps: float | None = None,
        image_sizes: Mapping[str, tuple[int, int]] | None = None,
        robot_type: str | None = None,
        interrupted: Literal["set_aside", "keep"] = "set_aside",
        calibrations: Mapping[str, CameraCalibration] | None = None,
    ) -> None:
        """`fps` defaults to the rig's policy rate, `image_sizes` (height, width) by camera to the cameras' own. `calibrations` by camera
        go into the metadata, with the first episode that they hold for; UserError for one of another camera."""
        self.folder = Path(folder)
        self.rig = rig
        self.fps = whole_fps(rig, fps)
        self.features = features_of(rig, self.fps, image_sizes)
        self.recovered_frames = 0
        self._robot_type = robot_type or rig.arm.model
        self._recording: Recording | None = None
        self._calibrations = dict(calibrations or {})
        for name, calibration in self._calibrations.items():
            calibration.require_serial(rig.camera(name).serial, f"the calibration of camera {name!r}")
        self._open(interrupted)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of kept episodes."""
        return len(self._episodes)

    def begin(self, task: str) -> None:
        """Start an episode; `task` is its instruction in words."""
        if self._recording is not None:
            raise UserError("an episode is running; keep or discard it before the next one begins")
        if not task.strip():
            raise UserError("an episode needs a task in words; found an empty one")
        if (self.folder / FOLDER).exists():  # left when an episode could not be written, for instance to a full disk
            self._recover("set_aside")
        self._recording = Recording(self.folder, task, self.features, self.fps)

    def add(
        self,
        *,
        state: np.ndarray,
        action: np.ndarray,
        images: Mapping[str, np.ndarray],
        stamps_ns: Mapping[str, int],
    ) -> None:
        """Append one frame.

        `state` (S,) and `action` (A,) float32 in the rig's units, `images` (height, width, 3) uint8 RGB by camera,
        `stamps_ns` of every camera and of each of `features.STAMPED` on the rig's clock. Images are copied and encoded in
        threads; a frame is on its way to the disk when this returns. Raises UserError, and adds nothing, when it does not fit.
        """
        self._running().add(state, action, images, stamps_ns)

    def keep(self) -> int:
        """Make the running episode part of the dataset; returns its index. Raises UserError when it has no frame."""
        recording = self._running()
        if recording.length == 0:
            raise UserError("the episode has no frames; add some or discard it")
        self._recording = None
        self._commit(recording.keep(len(self)))
        shutil.rmtree(self.folder / FOLDER)
        return len(self._episodes) - 1

    def discard(self) -> None:
        """Drop the running episode."""
        recording, self._recording = self._running(), None
        recording.discard()

    def close(self) -> None:
        """Discard what still runs and let go of the folder. Safe to repeat."""
        if self._recording is not None:
            self.discard()
        self._lock.release()

    def _running(self) -> Recording:
        if self._recording is None:
            raise UserError("no episode is running; call begin(task) first")
        return self._recording

    def _open(self, interrupted: str) -> None:
        found = _require_contract(self.folder, {"fps": self.fps, "robot_type": self._robot_type, "features": self.features}, self.rig)
        try:
            (self.folder / "meta").mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.folder)
        except OSError as error:
            raise UserError(f"cannot write to the dataset folder {self.folder}: {error.strerror}; give a folder that can be written") from error
        try:
            if not found:
                layout.write_json(self.rig.model_dump(mode="json"), self.folder / layout.RIG)
                layout.write_parquet(layout.tasks_table([]), self.folder / layout.TASKS)
                write_summary(self.folder, layout.new_info(self.features, self.fps, self._robot_type), [], 0, {}, {})
            self._load()
            self._recover(interrupted)
            self._note_calibrations()
        except BaseException:
            self.close()
            raise

    def _note_calibrations(self) -> None:
        """Add the calibrations to those that the dataset has, where they are others than its last ones."""
        if not self._calibrations:
            return
        path = self.folder / layout.CALIBRATIONS
        noted = layout.read_json(path) if path.is_file() else []
        cameras = {name: calibration.model_dump(mode="json") for name, calibration in self._calibrations.items()}
        if not noted or noted[-1]["cameras"] != cameras:
            layout.write_json([*noted, {"from_episode": len(self), "cameras": cameras}], path)

    def _load(self) -> None:
        info = layout.read_info(self.folder)
        self._episodes = read_episodes(self.folder, info)
        tasks = layout.read_tasks(self.folder)
        self._tasks = [tasks[index] for index in range(len(tasks))]
        reader = RowReader()
        numeric = [key for key, feature in self.features.items() if feature["dtype"] != "video"]
        self._columns = {key: [reader.array(episode, key) for episode in self._episodes] for key in numeric}
        self._images = {
            key: [episode_statistics(episode, key) for episode in self._episodes] for key in video_keys({"features": self.features})
        }
        if info["total_episodes"] != len(self._episodes):  # the process ended between the commit and the summary
            self._summarise()

    def _recover(self, interrupted: str) -> None:
        for leftover in self.folder.glob("*/**/*.tmp"):
            leftover.unlink()
        left = self.folder / FOLDER
        if not left.is_dir():
            return
        index = kept_index(self.folder)
        committed = index is not None and index < len(self)  # only the clearing up was missing
        recorded = None if committed else recover(self.folder, self.features)
        if recorded is not None:
            self.recovered_frames = recorded.length
            if index is not None or interrupted == "keep":
                self._commit(recorded)
            else:
                self._set_aside(left)
                return
        shutil.rmtree(left)

    def _set_aside(self, left: Path) -> None:
        log.warning("an interrupted episode of %d frames goes to %s", self.recovered_frames, self.folder / INTERRUPTED)
        sizes = {key.removeprefix(layout.IMAGES): tuple(self.features[key]["shape"][:2]) for key in self._images}
        options = {"fps": self.fps, "image_sizes": sizes, "robot_type": self._robot_type, "interrupted": "keep"}
        DatasetWriter(self.folder / INTERRUPTED, self.rig, **options).close()
        os.replace(left, self.folder / INTERRUPTED / FOLDER)
        DatasetWriter(self.folder / INTERRUPTED, self.rig, **options).close()

    def _commit(self, recorded: Recorded) -> None:
        """Write a recorded episode's files, metadata last. Doing it again from the same recording changes nothing."""
        index, length = len(self), recorded.length
        first_frame = sum(episode.length for episode in self._episodes)
        place = {"chunk_index": index // layout.CHUNKS_SIZE, "file_index": index % layout.CHUNKS_SIZE}
        if recorded.task not in self._tasks:
            tasks = [*self._tasks, recorded.task]
            layout.write_parquet(layout.tasks_table(tasks), self.folder / layout.TASKS)
            self._tasks = tasks
        for key, path in recorded.videos.items():
            mkv_to_mp4(path, self.folder / layout.VIDEO.format(video_key=key, **place), self.fps, length)
        frames = np.arange(length)
        columns = dict(recorded.columns) | {
            "timestamp": (frames / self.fps).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(length, index),
            "index": first_frame + frames,
            "task_index": np.full(length, self._tasks.index(recorded.task)),
        }
        columns = {key: columns[key] for key in self._columns}
        data_file = self.folder / layout.DATA.format(**place)
        layout.write_parquet(pa.table({key: array_column(values) for key, values in columns.items()}), data_file)
        found = {key: statistics.of_array(values) for key, values in columns.items()} | recorded.image_statistics
        row = {"episode_index": index, "tasks": [recorded.task], "length": length}
        row |= {f"data/{key}": value for key, value in place.items()}
        row |= {"dataset_from_index": first_frame, "dataset_to_index": first_frame + length}
        for key in recorded.videos:
            row |= {f"videos/{key}/{part}": value for part, value in place.items()}
            row |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": length / self.fps}
        for key, values in statistics.to_json(found).items():
            row |= {f"stats/{key}/{name}": value for name, value in values.items()}
        row |= {f"meta/episodes/{key}": value for key, value in place.items()}
        meta_file = self.folder / layout.EPISODES.format(**place)
        layout.write_parquet(meta_row(row), meta_file)

        clips = {key: Clip(self.folder / layout.VIDEO.format(video_key=key, **place), 0.0, length / self.fps) for key in self._images}
        self._episodes.append(Episode(index, length, (recorded.task,), first_frame, data_file, clips, meta_file))
        for key, values in columns.items():
            self._columns[key].append(values)
        for key, images in recorded.image_statistics.items():
            self._images[key].append(images)
        self._summarise()

    def _summarise(self) -> None:
        """Write what follows from the committed episodes."""
        info = layout.new_info(self.features, self.fps, self._robot_type)
        write_summary(self.folder, info, self._episodes, len(self._tasks), self._columns, self._images)


def _require_contract(folder: Path, info: dict[str, Any], rig: Rig) -> bool:
    """Whether a dataset is in the folder; False when that is absent or empty. Raises UserError where it is one of another contract than
    that of `info` and the rig, and where something else is there."""
    if not (folder / layout.INFO).is_file():
        entries = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
        if entries and not (entries == ["meta"] and not (folder / "meta" / "episodes").exists()):
            raise UserError(
                f"expected a dataset or an empty folder at {folder}; found {', '.join(entries[:5])} and no "
                f"{layout.INFO}; record into a new folder"
            )
        return False
    stored = layout.read_info(folder)
    if not (folder / layout.RIG).is_file():
        raise UserError(f"the dataset {folder} was not recorded by robosteer (it has no {layout.RIG}); record into a new folder")
    wanted = contract_of(info, rig.model_dump(mode="json"))
    require_same_contract(folder, contract_of(stored, layout.read_json(folder / layout.RIG)), wanted)
    return True
