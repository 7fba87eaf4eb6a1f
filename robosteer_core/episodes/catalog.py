"""The episodes of a dataset as its metadata lists them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

import numpy as np
import pyarrow as pa

from robosteer_core.episodes.columns import column_array
from robosteer_core.episodes.layout import read_parquet
from robosteer_core.episodes.statistics import QUANTILES, quantile_key
from robosteer_core.errors import UserError


@dataclass(frozen=True)
class Clip:
    """One camera's part of an episode: `file` shows the episode from `from_s` to `to_s`."""

    file: Path
    from_s: float
    to_s: float


@dataclass(frozen=True)
class Episode:
    """Frames `first_frame` .. `first_frame + length - 1` of the dataset. `task` is the first of `tasks`.

    `clips` by feature name, only for cameras stored as video. `meta_file` is where this row was read.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    first_frame: int
    data_file: Path
    clips: Mapping[str, Clip]
    meta_file: Path

    @property
    def task(self) -> str:
        return self.tasks[0] if self.tasks else ""


def video_keys(info: Mapping[str, Any]) -> list[str]:
    return [key for key, feature in info["features"].items() if feature["dtype"] == "video"]


def image_keys(info: Mapping[str, Any]) -> list[str]:
    return [key for key, feature in info["features"].items() if feature["dtype"] == "image"]


def meta_files(folder: Path) -> list[Path]:
    return sorted((folder / "meta" / "episodes").glob("*/*.parquet"))


def read_meta_file(folder: Path, info: Mapping[str, Any], path: Path) -> list[Episode]:
    """The rows of one file of `meta/episodes`. Raises UserError when it is unreadable or lacks a column."""
    keys = video_keys(info)
    columns = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index", "dataset_from_index"]
    for key in keys:
        columns += [f"videos/{key}/{part}" for part in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
    episodes = []
    for row in read_parquet(path, columns).to_pylist():
        clips = {
            key: Clip(
                folder
                / info["video_path"].format(
                    video_key=key, chunk_index=row[f"videos/{key}/chunk_index"], file_index=row[f"videos/{key}/file_index"]
                ),
                row[f"videos/{key}/from_timestamp"],
                row[f"videos/{key}/to_timestamp"],
            )
            for key in keys
        }
        data_file = info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
        episodes.append(
            Episode(
                row["episode_index"],
                row["length"],
                tuple(row["tasks"]),
                row["dataset_from_index"],
                folder / data_file,
                clips,
                path,
            )
        )
    return episodes


def read_episodes(folder: Path, info: Mapping[str, Any]) -> list[Episode]:
    """All episodes in order. Raises UserError unless they are numbered 0, 1, ... and their frames follow one another."""
    episodes = [episode for path in meta_files(folder) for episode in read_meta_file(folder, info, path)]
    episodes.sort(key=lambda episode: episode.index)
    next_frame = 0
    for number, episode in enumerate(episodes):
        if episode.index != number or episode.first_frame != next_frame or episode.length < 1:
            raise UserError(
                f"{episode.meta_file}: expected episode {number} to start at frame {next_frame}; found episode "
                f"{episode.index} of {episode.length} frames at {episode.first_frame}; run `robosteer dataset repair`"
            )
        next_frame += episode.length
    return episodes


class RowReader:
    """Reads the rows of episodes from the data files; keeps the last file's columns, so that episodes in turn read it once."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._columns: dict[str, pa.ChunkedArray] = {}

    def rows(self, episode: Episode, key: str) -> pa.ChunkedArray:
        """Column `key` of one episode, in order of its frames.

        Raises UserError when the file is unreadable, or does not hold the episode's frames as the metadata lists them.
        """
        if self._file != episode.data_file:
            self._file, self._columns = episode.data_file, {}
        absent = [name for name in ("episode_index", "frame_index", key) if name not in self._columns]
        if absent:
            table = read_parquet(episode.data_file, absent)
            self._columns |= {name: table[name] for name in absent}
        rows = np.flatnonzero(self._columns["episode_index"].to_numpy() == episode.index)
        first, count = (rows[0], rows[-1] - rows[0] + 1) if len(rows) else (0, 0)
        frames = self._columns["frame_index"].slice(first, count).to_numpy()
        if len(rows) != count or not np.array_equal(frames, np.arange(episode.length)):
            raise UserError(
                f"{episode.data_file}: the metadata lists {episode.length} frames of episode {episode.index}; found "
                f"{len(rows)}, or not in order; run `robosteer dataset repair`, or copy the dataset again"
            )
        return self._columns[key].slice(first, count)

    def array(self, episode: Episode, key: str) -> np.ndarray:
        """One numeric feature of an episode, (N, D) or (N,); raises UserError as `rows` does, or when it is no plain array."""
        try:
            return column_array(self.rows(episode, key))
        except (ValueError, pa.ArrowException) as error:
            raise UserError(f"{episode.data_file}, episode {episode.index}, column {key}: {error}") from error


def episode_statistics(episode: Episode, key: str) -> dict[str, np.ndarray]:
    """One feature's statistics of one episode, from its row in the metadata."""
    names = ["min", "max", "mean", "std", "count", *map(quantile_key, QUANTILES)]
    columns = [f"stats/{key}/{name}" for name in names]
    table = read_parquet(episode.meta_file, ["episode_index", *columns])
    row = table["episode_index"].to_pylist().index(episode.index)
    return {name: np.array(table[column][row].as_py()) for name, column in zip(names, columns)}


def meta_row(values: Mapping[str, Any]) -> pa.Table:
    """One row of `meta/episodes`, each value in the type that LeRobot gives it."""
    return pa.table({key: pa.array([value]) for key, value in values.items()})
