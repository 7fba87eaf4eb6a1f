"""The files that sum a dataset up: stats.json, and info.json last."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from robosteer_core.episodes import layout, statistics
from robosteer_core.episodes.catalog import Episode


def write_summary(
    folder: Path,
    info: Mapping[str, Any],
    episodes: Sequence[Episode],
    tasks: int,
    columns: Mapping[str, Sequence[np.ndarray]],
    image_statistics: Mapping[str, Sequence[statistics.Statistics]],
) -> None:
    """`info` with its counts and splits set to these episodes; statistics of `columns` and images, one entry an episode each."""
    if episodes:
        found = {key: statistics.of_array(np.concatenate(parts)) for key, parts in columns.items()}
        found |= {key: statistics.combine(parts) for key, parts in image_statistics.items()}
        layout.write_json(statistics.to_json(found), folder / layout.STATS)
    counts = {
        "total_episodes": len(episodes),
        "total_frames": sum(episode.length for episode in episodes),
        "total_tasks": tasks,
        "splits": {"train": f"0:{len(episodes)}"} if episodes else {},
    }
    layout.write_json({**info, **counts}, folder / layout.INFO)
