"""Killed with SIGKILL at any moment: earlier episodes are whole, at most the last frames are gone, recording goes on."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robosteer_core.episodes.check import check
from robosteer_core.episodes.reader import Dataset
from robosteer_core.episodes.writer import DatasetWriter

FRAMES = 40
#: The encoder may be this far behind the frames handed in: its queue, and the block that Matroska was writing.
LOST_AT_MOST = 10

RECORD_AND_DIE = """
import os, pickle, signal, sys
from robosteer_core.episodes.writer import DatasetWriter
folder, rig, frames = pickle.load(open(sys.argv[1], "rb"))
writer = DatasetWriter(folder, rig)
writer.begin("touch the blue cube")
for frame in frames:
    writer.add(**frame)
os.kill(os.getpid(), signal.SIGKILL)
"""

#: Keeps an episode and dies just before the n-th file gets its name, for every n, each time on a new dataset.
DIE_AT_EVERY_FILE = """
import os, pickle, shutil, signal, sys
from robosteer_core import files
from robosteer_core.episodes import video
from robosteer_core.episodes.writer import DatasetWriter
folder, rig, frames = pickle.load(open(sys.argv[1], "rb"))
put, counter = files.put, [0, None]

def put_or_die(temporary, path):
    counter[0] += 1
    if counter[0] == counter[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    put(temporary, path)

files.put = video.put = put_or_die
for number in range(1, 100):
    copy = folder.with_name(f"killed{number:02d}")
    shutil.copytree(folder, copy)
    child = os.fork()
    if child == 0:
        counter[:] = 0, number
        writer = DatasetWriter(copy, rig)
        writer.begin("pick up the green cube")
        for frame in frames:
            writer.add(**frame)
        writer.keep()
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        shutil.rmtree(copy)
        break
"""


def run(script: str, tmp_path: Path, *content) -> subprocess.CompletedProcess:
    import pickle

    (tmp_path / "content.pickle").write_bytes(pickle.dumps(content))
    repository = Path(__file__).resolve().parents[3]
    return subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "content.pickle")], cwd=repository, timeout=120, capture_output=True, text=True
    )


@pytest.mark.parametrize("interrupted", ["set_aside", "keep"])
def test_killed_in_mid_episode(tmp_path, demonstrations, rig, frame_of, image_of, record, interrupted):
    before = {path: path.read_bytes() for path in demonstrations.rglob("*") if path.is_file()}
    frames = [frame_of(5, frame) for frame in range(FRAMES)]
    done = run(RECORD_AND_DIE, tmp_path, demonstrations, rig, frames)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert check(demonstrations).problems == []  # readable before anything is recovered

    with DatasetWriter(demonstrations, rig, interrupted=interrupted) as writer:
        assert FRAMES - LOST_AT_MOST <= writer.recovered_frames <= FRAMES
        recovered = writer.recovered_frames
        record(writer, 6, 4, "press the red button")
    folder, index, lengths = (demonstrations, 3, [12, 9, 10, recovered, 4])
    if interrupted == "set_aside":
        folder, index, lengths = demonstrations / "interrupted", 0, [12, 9, 10, 4]
    assert [episode.length for episode in Dataset(demonstrations).episodes] == lengths
    rescued = Dataset(folder)
    assert (rescued.episodes[index].length, rescued.episodes[index].task) == (recovered, "touch the blue cube")
    rows = rescued.arrays().episode == index
    np.testing.assert_array_equal(rescued.arrays().action[rows], [frame["action"] for frame in frames[:recovered]])
    for frame, image in enumerate(rescued.images(index, "wrist")):
        assert np.abs(image - image_of(5, frame, "wrist").astype(int)).mean() < 2.5
    for path in (demonstrations, folder):
        report = check(path)
        assert (report.problems, report.notes) == ([], [])


def test_killed_at_every_step_of_keeping(tmp_path, demonstrations, rig, frame_of):
    frames = [frame_of(7, frame) for frame in range(6)]
    done = run(DIE_AT_EVERY_FILE, tmp_path, demonstrations, rig, frames)
    assert done.returncode == 0, done.stderr
    killed = sorted(tmp_path.glob("killed*"))
    assert len(killed) == 9  # episode.json, kept.json, tasks, 2 videos, data, metadata, stats, info
    kept = []
    for folder in killed:
        DatasetWriter(folder, rig).close()
        report = check(folder)
        assert (report.problems, report.notes) == ([], []), folder
        kept.append(len(report.verified) - 3)
        aside = folder / "interrupted"
        assert kept[-1] == 1 or not aside.exists() or [episode.length for episode in Dataset(aside).episodes] == [6]
        if kept[-1]:
            np.testing.assert_array_equal(Dataset(folder).arrays().action[-6:], [frame["action"] for frame in frames])
            assert Dataset(folder).episodes[3].task == "pick up the green cube"
    assert kept == [0, 0] + [1] * 7  # once the decision to keep is on the disk, the episode is
