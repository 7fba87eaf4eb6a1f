"""Cuts a damaged dataset back to its longest verified prefix and puts its summary right."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc

from robosteer_core.episodes import layout
from robosteer_core.episodes.catalog import Episode, RowReader, episode_statistics, image_keys, meta_files, video_keys
from robosteer_core.episodes.check import Report
from robosteer_core.episodes.lock import FolderLock
from robosteer_core.episodes.summary import write_summary
from robosteer_core.errors import UserError
from robosteer_core.files import sync

SIDECAR = "dropped"


@dataclass
class Repair:
    """What was done. `dropped` are the files moved or copied to `dropped_to` before they were cut, relative to the dataset."""

    kept: int
    listed: int
    dropped_to: Path | None = None
    dropped: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)


def repair(folder: str | Path, report: Report) -> Repair:
    """Make the dataset hold the episodes that `report` verified, and no others.

    Files of other episodes move to `dropped/<number>/` with their paths; of a file that they share with verified ones a
    copy goes there first. `meta/info.json` is written last: interrupted, the repair can be run again. Raises UserError
    when a recorder is writing to the dataset, or when the tasks cannot be told.
    """
    folder = Path(folder)
    done = Repair(len(report.verified), report.listed)
    if not report.problems:
        return done
    with FolderLock(folder):
        info = layout.read_info(folder)
        _rebuild_tasks(folder, report.verified, done)
        _drop(folder, report.verified, done)
        _summarise(folder, info, report.verified)
    done.rewritten += [layout.STATS, layout.INFO]
    return done


def _rebuild_tasks(folder: Path, episodes: list[Episode], done: Repair) -> None:
    """Write tasks.parquet again from the episodes' own texts when it cannot be read."""
    try:
        layout.read_tasks(folder)
        return
    except UserError:
        pass
    reader = RowReader()
    tasks: dict[int, str] = {}
    for episode in episodes:
        indices = set(reader.array(episode, "task_index").tolist())
        if len(indices) != 1 or len(episode.tasks) != 1 or tasks.setdefault(indices.pop(), episode.task) != episode.task:
            raise UserError(f"{folder / layout.TASKS} is unreadable and episode {episode.index} has several tasks; restore the file")
    if sorted(tasks) != list(range(len(tasks))):
        raise UserError(f"{folder / layout.TASKS} is unreadable and no whole episode tells task {len(tasks) - 1}; restore the file")
    if (folder / layout.TASKS).exists():
        _set_aside(folder, folder / layout.TASKS, done)
    layout.write_parquet(layout.tasks_table([tasks[index] for index in range(len(tasks))]), folder / layout.TASKS)
    done.rewritten.append(layout.TASKS)


def _drop(folder: Path, episodes: list[Episode], done: Repair) -> None:
    kept = {episode.index for episode in episodes}
    data_files = {episode.data_file for episode in episodes}
    videos = {clip.file for episode in episodes for clip in episode.clips.values()}
    meta = {episode.meta_file for episode in episodes}
    # Metadata first: an episode must leave the list before its data leave the folder.
    for path in meta_files(folder):
        _cut(folder, path, kept, done) if path in meta else _set_aside(folder, path, done)
    for path in sorted((folder / "data").glob("*/*.parquet")):
        _cut(folder, path, kept, done) if path in data_files else _set_aside(folder, path, done)
    for path in sorted((folder / "videos").glob("*/*/*.mp4")):
        if path not in videos:
            _set_aside(folder, path, done)


def _cut(folder: Path, path: Path, kept: set[int], done: Repair) -> None:
    """Leave only the kept episodes' rows in a parquet file."""
    table = layout.read_parquet(path)
    rows = pc.is_in(table["episode_index"], value_set=pc.cast(list(kept), table["episode_index"].type))
    if pc.all(rows).as_py():
        return
    _set_aside(folder, path, done, copy=True)
    layout.write_parquet(table.filter(rows), path)
    done.rewritten.append(str(path.relative_to(folder)))


def _set_aside(folder: Path, path: Path, done: Repair, copy: bool = False) -> None:
    if done.dropped_to is None:
        number = 1
        while (folder / SIDECAR / f"{number:03d}").exists():
            number += 1
        done.dropped_to = folder / SIDECAR / f"{number:03d}"
    target = done.dropped_to / path.relative_to(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target) if copy else os.replace(path, target)
    sync(target.parent)
    done.dropped.append(str(path.relative_to(folder)))


def _summarise(folder: Path, info: dict, episodes: list[Episode]) -> None:
    reader = RowReader()
    numeric = [key for key, feature in info["features"].items() if feature["dtype"] not in ("video", "image", "string")]
    columns = {key: [reader.array(episode, key) for episode in episodes] for key in numeric}
    images = {key: [episode_statistics(episode, key) for episode in episodes] for key in video_keys(info) + image_keys(info)}
    write_summary(folder, info, episodes, len(layout.read_tasks(folder)), columns, images)
