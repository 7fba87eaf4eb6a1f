"""Small real recordings: a rig with two cameras of a few pixels, and demonstrations written through the writer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.rig import Rig, load_rig

HEIGHT, WIDTH = 48, 64
BRIDGE_SAMPLE = Path(__file__).resolve().parents[4] / "shared" / "data" / "bridge_sample"
PERIOD_NS = 66_666_667


def _image_of(episode: int, frame: int, camera: str) -> np.ndarray:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    level = 40 + 4 * frame + (60 if camera == "wrist" else 0)
    image = np.stack([level + columns // 2, level + rows // 2, np.full_like(rows, 30 + 20 * episode)], axis=-1)
    return np.clip(image, 0, 255).astype(np.uint8)


def _frame_of(episode: int, frame: int) -> dict:
    time_ns = 1_000_000_000 + frame * PERIOD_NS
    return {
        "state": np.arange(7, dtype=np.float32) * 0.1 + frame * 0.01 + episode,
        "action": np.array([0.01, -0.02, 0.003, 0, 0, 0.001 * frame, float(frame < 6)], np.float32),
        "images": {camera: _image_of(episode, frame, camera) for camera in ("front", "wrist")},
        "stamps_ns": {"front": time_ns - 9_000_000, "wrist": time_ns - 8_000_000, "state": time_ns, "command": time_ns + 1_000_000, "steering": time_ns - 2_000_000},
    }


def _record(writer: DatasetWriter, episode: int, frames: int, task: str) -> int:
    writer.begin(task)
    for frame in range(frames):
        writer.add(**_frame_of(episode, frame))
    return writer.keep()


@pytest.fixture
def image_of():
    """image_of(episode, frame, camera): brightness tells the frame, the gradient and blue tell camera and episode."""
    return _image_of


@pytest.fixture
def frame_of():
    """frame_of(episode, frame): arguments of `DatasetWriter.add`, different in every frame."""
    return _frame_of


@pytest.fixture
def record():
    """record(writer, episode, frames, task) -> index."""
    return _record


@pytest.fixture(scope="session")
def rig() -> Rig:
    """The lab's rig with cameras of a few pixels."""
    rig = load_rig("lab")
    cameras = tuple(camera.model_copy(update={"width": WIDTH, "height": HEIGHT}) for camera in rig.cameras)
    return rig.model_copy(update={"cameras": cameras})


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, rig: Rig) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "demos"
    with DatasetWriter(folder, rig) as writer:
        for episode, (frames, task) in enumerate([(12, "press the red button"), (9, "touch the blue cube"), (10, "press the red button")]):
            _record(writer, episode, frames, task)
    return folder


@pytest.fixture
def demonstrations(tmp_path: Path, recorded: Path) -> Path:
    """A dataset of three episodes of 12, 9 and 10 frames with two tasks; the test's own copy."""
    return Path(shutil.copytree(recorded, tmp_path / "demos"))


@pytest.fixture
def bridge_sample() -> Path:
    if not BRIDGE_SAMPLE.is_dir():
        pytest.skip(f"the real dataset {BRIDGE_SAMPLE} is not on this machine")
    return BRIDGE_SAMPLE
