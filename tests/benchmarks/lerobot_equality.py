"""Does LeRobot itself read what `robosteer record` wrote: every state, action, time and pixel beside our own reader's.

    python tests/benchmarks/lerobot_equality.py DATASET VENV

VENV is a virtual environment of its own in which `pip install lerobot` has been run (0.4.4, 8 GB with its own PyTorch). In it
LeRobotDataset opens the folder with PyAV as its decoder and hands over each item; here they are compared. Nothing is fetched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from robosteer_core.episodes.reader import Dataset

#: Runs in LeRobot's environment, which has none of robosteer.
READER = """
import json, sys
from pathlib import Path
import numpy as np
import lerobot
from lerobot.datasets.lerobot_dataset import LeRobotDataset
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
data = LeRobotDataset("robosteer/compared", root=folder, video_backend="pyav")
columns = {}
for index in range(len(data)):
    item = data[index]
    for key, value in item.items():
        if key.startswith("observation.images."):
            value = (value.numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0)
        elif key == "task":
            value = np.array(value)
        else:
            value = value.numpy()
        columns.setdefault(key, []).append(value)
np.savez(out, **{key: np.stack(values) for key, values in columns.items()})
print(json.dumps({"version": getattr(lerobot, "__version__", "?"), "frames": len(data), "episodes": data.num_episodes, "fps": data.fps}))
"""


def main(folder: Path, environment: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "read.npz"
        command = [environment / "bin" / "python", "-c", READER, folder.resolve(), out]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": scratch, "PYTHONPATH": ""}
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=offline)
        if done.returncode:
            sys.exit(f"LeRobot did not read {folder}:\n{done.stderr[-3000:]}")
        about = json.loads(done.stdout.splitlines()[-1])
        found = dict(np.load(out))
    data = Dataset(folder)
    arrays = data.arrays()
    assert about["frames"] == len(data) and about["episodes"] == len(data.episodes) and about["fps"] == data.fps, about
    assert found["task"].tolist() == list(arrays.task)
    table = Table("feature", "frames", "largest difference")
    worst = 0.0
    for key in data.features:
        if key.startswith("observation.images."):
            camera, number, differing, largest = key.removeprefix("observation.images."), 0, 0, 0
            for episode in data.episodes:
                for image in data.images(episode.index, camera):
                    apart = np.abs(image.astype(int) - found[key][number])
                    differing, largest, number = differing + int((apart > 0).sum()), max(largest, int(apart.max())), number + 1
            share = differing / found[key].size
            table.add_row(key, str(number), f"{largest} of 255, {share:.2%} of the values differ")
            worst = max(worst, largest)
        else:
            apart = np.abs(np.asarray(data.column(key), np.float64) - found[key].reshape(np.shape(data.column(key)))).max()
            table.add_row(key, str(len(data)), f"{apart:g}")
            worst = max(worst, apart)
    console = Console()
    console.print(f"LeRobot {about['version']} beside robosteer's reader: {about['episodes']} episodes, {about['frames']} frames")
    console.print(table)
    sys.exit(0 if worst == 0 else 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
