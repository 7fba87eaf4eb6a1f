"""Opens LeRobot v3 datasets: ours, and those that others wrote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from robosteer_core.episodes import layout, statistics
from robosteer_core.episodes.catalog import Episode, RowReader, read_episodes
from robosteer_core.episodes.images import stored_image
from robosteer_core.episodes.video import clip_images
from robosteer_core.errors import UserError


@dataclass(frozen=True)
class Arrays:
    """Every frame of a dataset in order: `state` (N, S), `action` (N, A), `episode` (N,), `frame` (N,) within it, `task` N texts."""

    state: np.ndarray
    action: np.ndarray
    episode: np.ndarray
    frame: np.ndarray
    task: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.frame)


class Dataset:
    """A dataset folder, read-only. Opening reads the metadata; `len` is the number of frames.

    Raises UserError when the folder is no readable LeRobot v3 dataset, or when its files and its metadata disagree.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.info = layout.read_info(self.folder)
        self.episodes: list[Episode] = read_episodes(self.folder, self.info)
        self._tasks = layout.read_tasks(self.folder)
        self._reader = RowReader()
        counted = {"total_episodes": len(self.episodes), "total_frames": sum(episode.length for episode in self.episodes)}
        for key, count in counted.items():
            if key in self.info and self.info[key] != count:
                raise UserError(
                    f"{self.folder}: {layout.INFO} says {key} {self.info[key]}, meta/episodes lists {count}; "
                    "run `robosteer dataset repair`, or copy the dataset again"
                )

    def __len__(self) -> int:
        return self.episodes[-1].first_frame + self.episodes[-1].length if self.episodes else 0

    @property
    def fps(self) -> float:
        return self.info["fps"]

    @property
    def features(self) -> dict[str, Any]:
        return self.info["features"]

    @property
    def robot_type(self) -> str | None:
        return self.info.get("robot_type")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The texts of all tasks, by task index."""
        return tuple(self._tasks[index] for index in sorted(self._tasks))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras: the features `observation.images.<name>`."""
        return tuple(
            key.removeprefix(layout.IMAGES)
            for key, feature in self.features.items()
            if feature["dtype"] in ("image", "video") and key.startswith(layout.IMAGES)
        )

    @property
    def state_names(self) -> tuple[str, ...]:
        return self._names(layout.STATE)

    @property
    def action_names(self) -> tuple[str, ...]:
        return self._names(layout.ACTION)

    @cached_property
    def rig(self) -> dict[str, Any] | None:
        """The rig under which it was recorded (`robosteer_core.rig.Rig` as a mapping); None in datasets of others."""
        path = self.folder / layout.RIG
        return layout.read_json(path) if path.is_file() else None

    @cached_property
    def stats(self) -> dict[str, statistics.Statistics]:
        """`meta/stats.json`: for every feature min, max, mean, std, count and quantiles."""
        return statistics.from_json(layout.read_json(self.folder / layout.STATS))

    def require(
        self, *, state_dim: int | None = None, action_dim: int | None = None, cameras: Sequence[str] = ()
    ) -> None:
        """Raises UserError naming both shapes unless state and action have these widths and the cameras are there."""
        for key, width in ((layout.STATE, state_dim), (layout.ACTION, action_dim)):
            if width is None:
                continue
            shape = tuple(self._feature(key)["shape"])
            if shape != (width,):
                raise UserError(
                    f"{self.folder}: expected {key} of shape ({width},); found {shape}; use a dataset recorded for this policy"
                )
        absent = [camera for camera in cameras if camera not in self.cameras]
        if absent:
            raise UserError(
                f"{self.folder}: expected camera {absent[0]!r}; found {', '.join(self.cameras) or 'none'}; map a camera of the dataset to it"
            )

    def column(self, key: str) -> np.ndarray:
        """One feature of every frame, (N, D) or (N,) as stored; for instance `stamp_ns.front`, int64 nanoseconds."""
        self._feature(key)
        parts = [self._reader.array(episode, key) for episode in self.episodes]
        shape = tuple(self._feature(key)["shape"])
        width = shape if shape != (1,) else ()
        values = np.concatenate(parts) if parts else np.zeros((0, *width), self._feature(key)["dtype"])
        if values.shape[1:] not in (width, shape):
            raise UserError(f"{self.folder}: {layout.INFO} says {key} has shape {shape}; its files hold {values.shape[1:]}")
        return values

    def arrays(self) -> Arrays:
        """States, actions and where they belong, of every frame."""
        state, action = (np.atleast_2d(self.column(key).T).T for key in (layout.STATE, layout.ACTION))  # (N,) becomes (N, 1)
        tasks = self.column("task_index")
        unknown = set(tasks.tolist()) - set(self._tasks)
        if unknown:
            raise UserError(f"{self.folder}: task_index {min(unknown)} is not in {layout.TASKS}, which lists {sorted(self._tasks)}")
        return Arrays(
            state.astype(np.float32),
            action.astype(np.float32),
            self.column("episode_index"),
            self.column("frame_index"),
            tuple(self._tasks[index] for index in tasks.tolist()),
        )

    def images(self, episode: int, camera: str, first: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Images of frames first..stop-1 of an episode in order, each (height, width, 3) uint8 RGB.

        Decodes as it goes, video or images in the parquet; nothing is kept.
        """
        found = self._episode(episode)
        key = layout.IMAGES + camera
        self.require(cameras=[camera])
        stop = found.length if stop is None else stop
        if not 0 <= first <= stop <= found.length:
            raise UserError(f"episode {episode} has {found.length} frames; asked for {first} to {stop}")
        if first == stop:
            return
        if key in found.clips:
            clip = found.clips[key]
            yield from clip_images(clip.file, clip.from_s, self.fps, first, stop)
            return
        rows = self._reader.rows(found, key).slice(first, stop - first)
        for number, cell in enumerate(rows, first):
            yield stored_image(cell.as_py(), self.folder, f"{found.data_file}, episode {episode}, frame {number}")

    def image(self, index: int, camera: str) -> np.ndarray:
        """The image of frame `index` of the whole dataset, (height, width, 3) uint8 RGB."""
        if not 0 <= index < len(self):
            raise UserError(f"{self.folder} has {len(self)} frames; asked for {index}")
        firsts = [episode.first_frame for episode in self.episodes]
        number = int(np.searchsorted(firsts, index, side="right")) - 1
        frame = index - firsts[number]
        return next(self.images(number, camera, frame, frame + 1))

    def _feature(self, key: str) -> dict[str, Any]:
        if key not in self.features:
            raise UserError(f"{self.folder}: expected the feature {key!r}; found {', '.join(self.features)}")
        return self.features[key]

    def _names(self, key: str) -> tuple[str, ...]:
        """Names of a vector's dimensions; numbers where the dataset gives none."""
        feature = self._feature(key)
        names = feature.get("names")
        if isinstance(names, dict):  # datasets converted from v2 keep {"motors": [...]}
            names = next(iter(names.values()), None)
        width = feature["shape"][0]
        if not isinstance(names, list) or len(names) != width or not all(isinstance(name, str) for name in names):
            return tuple(f"{key}.{number}" for number in range(width))
        return tuple(names)

    def _episode(self, index: int) -> Episode:
        if not 0 <= index < len(self.episodes):
            raise UserError(f"{self.folder} has {len(self.episodes)} episodes; asked for episode {index}")
        return self.episodes[index]
