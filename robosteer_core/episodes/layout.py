"""Where a LeRobot v3.0 dataset keeps what.

Source: huggingface/lerobot 0.4.4, src/lerobot/datasets/utils.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robosteer_core.errors import UserError
from robosteer_core.files import write_text, written

CODEBASE_VERSION = "v3.0"
CHUNKS_SIZE = 1000  # files per chunk folder

INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
RIG = "meta/rig.json"  # ours; LeRobot ignores it
CALIBRATIONS = "meta/calibrations.json"  # likewise
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
#: Columns of every dataset, which LeRobot adds by itself.
DEFAULT_FEATURES = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}


def write_json(content: Any, path: Path) -> None:
    write_text(path, json.dumps(content, indent=4, ensure_ascii=False))


def write_parquet(table: pa.Table, path: Path) -> None:
    with written(path) as temporary:
        pq.write_table(table, temporary, compression="snappy")


def read_json(path: Path) -> Any:
    """Raises UserError naming the file when it is absent or no JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"expected the file {path}; it is not there; run `robosteer dataset check` on its dataset") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not readable JSON: {error}; run `robosteer dataset check` on its dataset") from error


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Raises UserError naming the file when it is absent, truncated, no parquet, or lacks a column."""
    try:
        file = pq.ParquetFile(path, memory_map=True)
        stored = file.schema_arrow.names
        absent = [column for column in columns or [] if column not in stored]
        if absent:
            raise UserError(f"{path}: expected the column {absent[0]!r}; found {', '.join(stored)}")
        return file.read(columns=columns, use_threads=False)
    except FileNotFoundError:
        raise UserError(f"expected the file {path}; it is not there; restore it or run `robosteer dataset repair`") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is truncated or no parquet file ({error}); restore it or run `robosteer dataset repair`"
        ) from error


def read_info(folder: Path) -> dict:
    """`meta/info.json` of a dataset folder. Raises UserError when it is no LeRobot v3 dataset."""
    if not folder.is_dir():
        raise UserError(f"expected a dataset folder at {folder}; there is no such folder; record or copy a dataset there")
    if not (folder / INFO).is_file():
        raise UserError(
            f"expected a LeRobot v3 dataset in {folder}; its {INFO} is missing; give the folder that holds meta/, data/ "
            "and, with cameras stored as video, videos/"
        )
    info = read_json(folder / INFO)
    absent = [key for key in ("codebase_version", "fps", "features", "data_path") if key not in info]
    if not isinstance(info, dict) or absent:
        raise UserError(f"{folder / INFO}: expected the keys codebase_version, fps, features, data_path; missing: {absent}")
    version = str(info["codebase_version"])
    if version.split(".")[0] != CODEBASE_VERSION.split(".")[0]:
        raise UserError(
            f"{folder / INFO}: expected codebase_version {CODEBASE_VERSION}; found {version}; "
            "convert it with lerobot's own convert_dataset_v21_to_v30 script"
        )
    return info


def new_info(features: dict, fps: int, robot_type: str) -> dict:
    """`meta/info.json` of a dataset without episodes."""
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": robot_type,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {},
        "data_path": DATA,
        "video_path": VIDEO,
        "features": features,
    }


def tasks_table(tasks: list[str]) -> pa.Table:
    """`meta/tasks.parquet` as pandas writes it: the task's text is the index of the frame, which LeRobot relies on."""
    index = "__index_level_0__"
    pandas = {
        "index_columns": [index],
        "column_indexes": [
            {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": {"encoding": "UTF-8"}}
        ],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None},
            {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.3.3",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def read_tasks(folder: Path) -> dict[int, str]:
    """Text of each task by its index."""
    table = read_parquet(folder / TASKS)
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or len(texts) != 1:
        raise UserError(f"{folder / TASKS}: expected a column task_index and one of texts; found {table.column_names}")
    return dict(zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist()))
