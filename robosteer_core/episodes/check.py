"""Reads every file of a dataset and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from robosteer_core.episodes import layout
from robosteer_core.episodes.catalog import Episode, RowReader, image_keys, meta_files, read_meta_file, video_keys
from robosteer_core.episodes.features import STAMP
from robosteer_core.episodes.images import stored_image
from robosteer_core.episodes.recording import FOLDER
from robosteer_core.episodes.video import clip_frames
from robosteer_core.errors import UserError
from robosteer_core.rig import Rig

#: LeRobot refuses a timestamp further than this from k / fps.
TIME_TOLERANCE_S = 1e-4


@dataclass
class Report:
    """What `check` found. `verified` are the episodes of the longest prefix in which everything is right."""

    folder: Path
    listed: int = 0
    verified: list[Episode] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "dataset": str(self.folder),
            "episodes": self.listed,
            "verified_episodes": len(self.verified),
            "verified_frames": sum(episode.length for episode in self.verified),
            "problems": self.problems,
            "notes": self.notes,
        }


def check(folder: str | Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Report:
    """Verify a dataset: metadata, every row, every image, every video frame, and that their counts agree.

    `progress(done, total)` is called after each episode. Raises UserError when the folder holds no LeRobot v3 dataset at all.
    """
    folder = Path(folder)
    info = layout.read_info(folder)
    report = Report(folder)
    tasks: dict[int, str] | None = None
    try:
        tasks = layout.read_tasks(folder)
    except UserError as error:
        report.problems.append(str(error))
    _check_info(info, report)
    episodes = _listed(folder, info, report)
    report.listed = len(episodes)
    reader = RowReader()
    whole = True
    for number, episode in enumerate(episodes):
        found = episode_problems(folder, info, tasks, episode, reader)
        report.problems += [f"episode {episode.index}: {problem}" for problem in found]
        expected_start = sum(verified.length for verified in report.verified)
        whole = whole and not found and episode.index == number and episode.first_frame == expected_start
        if whole:
            report.verified.append(episode)
        progress(number + 1, len(episodes))
    _check_summary(folder, info, tasks, episodes, report)
    _check_strays(folder, episodes, report)
    if (folder / FOLDER).is_dir():
        report.notes.append(f"{folder / FOLDER}: an episode is being recorded, or was interrupted; the recorder recovers it at its next start")
    return report


def episode_problems(folder: Path, info: dict, tasks: dict[int, str] | None, episode: Episode, reader: RowReader) -> list[str]:
    """What is wrong with one episode's rows and images; empty when it is whole."""
    numeric = [key for key, feature in info["features"].items() if feature["dtype"] not in ("video", "image", "string")]
    try:
        columns = {key: reader.array(episode, key) for key in numeric}
    except UserError as error:
        return [str(error)]
    problems = []
    for key, values in columns.items():
        shape = tuple(info["features"][key]["shape"])
        if values.shape[1:] not in (shape, () if shape == (1,) else shape):
            problems.append(f"{key} has shape {values.shape[1:]} in {episode.data_file}; {layout.INFO} says {shape}")
        if not np.isfinite(values).all():
            problems.append(f"{key} holds values that are not finite, the first in frame {int(np.argwhere(~np.isfinite(values))[0, 0])}")
    steps = np.arange(episode.length)
    if not np.array_equal(columns["index"], episode.first_frame + steps):
        problems.append(f"index does not run from {episode.first_frame} to {episode.first_frame + episode.length - 1}")
    if np.abs(columns["timestamp"] - steps / info["fps"]).max() > TIME_TOLERANCE_S:
        problems.append(f"timestamp is not frame_index / {info['fps']}")
    if tasks is not None:
        named = {tasks.get(index) for index in columns["task_index"].tolist()}
        if None in named or not named <= set(episode.tasks):
            problems.append(f"task_index stands for {sorted(map(str, named))}; the metadata says {list(episode.tasks)}")
    for key in numeric:
        # The same stamp twice is no damage: what was newest at one tick may be so at the next.
        if key.startswith(STAMP) and (back := np.diff(columns[key]) < 0).any():
            problems.append(f"{key} runs backwards at frame {int(np.argmax(back)) + 1}")
    return problems + _image_problems(folder, info, episode, reader)


def _image_problems(folder: Path, info: dict, episode: Episode, reader: RowReader) -> list[str]:
    problems = []
    for key in video_keys(info):
        clip, (height, width, _) = episode.clips[key], info["features"][key]["shape"]
        try:
            for frame in clip_frames(clip.file, clip.from_s, info["fps"], 0, episode.length):
                if (frame.height, frame.width) != (height, width):
                    raise UserError(f"{clip.file} is {frame.height}x{frame.width}; {layout.INFO} says {height}x{width}")
        except UserError as error:
            problems.append(str(error))
        if abs((clip.to_s - clip.from_s) * info["fps"] - episode.length) > 0.5:
            problems.append(f"{key} is said to last {clip.to_s - clip.from_s:.3f} s; {episode.length} frames take {episode.length / info['fps']:.3f} s")
    for key in image_keys(info):
        shape = tuple(info["features"][key]["shape"])
        try:
            for number, cell in enumerate(reader.rows(episode, key)):
                image = stored_image(cell.as_py(), folder, f"{episode.data_file}, frame {number}")
                if image.shape not in (shape, (*shape[1:], shape[0])):  # some writers state channels first
                    raise UserError(f"{episode.data_file}, frame {number}: {key} is {image.shape}; {layout.INFO} says {shape}")
        except UserError as error:
            problems.append(str(error))
    return problems


def _check_info(info: dict, report: Report) -> None:
    absent = [key for key in layout.DEFAULT_FEATURES if key not in info["features"]]
    if absent:
        raise UserError(f"{report.folder / layout.INFO}: expected the features {', '.join(layout.DEFAULT_FEATURES)}; missing: {', '.join(absent)}")
    if not info["fps"] > 0:
        raise UserError(f"{report.folder / layout.INFO}: expected fps above 0; found {info['fps']}")
    path = report.folder / layout.RIG
    if path.is_file():
        try:
            Rig.model_validate(layout.read_json(path))
        except (UserError, ValidationError) as error:
            report.problems.append(f"{path} is no valid rig: {error}")


def _listed(folder: Path, info: dict, report: Report) -> list[Episode]:
    episodes = []
    for path in meta_files(folder):
        try:
            episodes += read_meta_file(folder, info, path)
        except UserError as error:
            report.problems.append(str(error))
    episodes.sort(key=lambda episode: episode.index)
    next_frame = 0
    for number, episode in enumerate(episodes):
        if (episode.index, episode.first_frame) != (number, next_frame):
            report.problems.append(
                f"{episode.meta_file}: expected episode {number} to start at frame {next_frame}; found episode "
                f"{episode.index} at frame {episode.first_frame}"
            )
            break
        next_frame += episode.length
    return episodes


def _check_summary(folder: Path, info: dict, tasks: dict | None, episodes: list[Episode], report: Report) -> None:
    counted = {"total_episodes": len(episodes), "total_frames": sum(episode.length for episode in episodes)}
    if tasks is not None:
        counted["total_tasks"] = len(tasks)
    for key, count in counted.items():
        if info.get(key, count) != count:
            report.problems.append(f"{folder / layout.INFO} says {key} {info[key]}; found {count}")
    if not episodes:
        return
    try:
        stats = layout.read_json(folder / layout.STATS)
        frames = [stats[key]["count"][0] for key in (layout.STATE, layout.ACTION) if key in info["features"]]
        if any(count != counted["total_frames"] for count in frames):
            report.problems.append(f"{folder / layout.STATS} counts {frames[0]} frames; found {counted['total_frames']}")
    except UserError as error:
        report.problems.append(str(error))
    except (KeyError, IndexError, TypeError):
        report.problems.append(f"{folder / layout.STATS} lacks the statistics of {layout.STATE} or {layout.ACTION}")


def _check_strays(folder: Path, episodes: list[Episode], report: Report) -> None:
    """Data files that no episode names: LeRobot loads every file under data/."""
    named = {episode.data_file for episode in episodes}
    for path in sorted((folder / "data").glob("*/*.parquet")):
        if path not in named:
            report.problems.append(f"{path} belongs to no episode of the metadata")
