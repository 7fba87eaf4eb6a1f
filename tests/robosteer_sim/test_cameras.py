"""The process of the lab's cameras: when frames are due, and what it says when it cannot draw."""

import os
import subprocess
import sys
import time

import pytest
import yaml

from robosteer_core.rig import load_rig
from robosteer_sim.cameras import Shutter, due_ns, frame_number

MS = 1_000_000


def test_frames_are_due_on_the_grid_that_policies_and_set_points_use():
    assert [due_ns(number, 30) // MS for number in range(7)] == [0, 34, 67, 100, 134, 167, 200]
    assert {due_ns(2 * k, 30) for k in range(300)} == {due_ns(k, 15) for k in range(300)}


@pytest.mark.parametrize("fps", [1, 6, 15, 30, 60, 90])
def test_the_number_of_a_frame_follows_from_lab_time_alone(fps):
    for number in range(200):
        due = due_ns(number, fps)
        assert frame_number(due, fps) == number
        assert frame_number(due - MS, fps) == number - 1


def test_each_frame_is_taken_once_at_its_time_and_once_after_a_jump():
    cameras = load_rig("lab").cameras
    shutter = Shutter(cameras)
    taken, now = [], 0
    while now < 500 * MS:
        taken.append((now // MS, [number for _, number in shutter.due(now)]))
        now = shutter.next_ns(now)
    assert taken[:4] == [(0, [0, 0]), (34, [1, 1]), (67, [2, 2]), (100, [3, 3])]
    assert [number for _, numbers in taken for number in numbers[:1]] == list(range(15))
    assert [number for _, number in shutter.due(3000 * MS)] == [90, 90]
    assert shutter.due(3000 * MS) == []
    assert shutter.next_ns(3000 * MS) == 3034 * MS


def test_cameras_of_different_rates_are_taken_each_at_its_own():
    front, wrist = load_rig("lab").cameras
    shutter = Shutter((front, wrist.model_copy(update={"fps": 15})))
    taken, now = [], 0
    while now <= 134 * MS:
        taken.append((now // MS, [camera.name for camera, _ in shutter.due(now)]))
        now = shutter.next_ns(now)
    assert taken == [(0, ["front", "wrist"]), (34, ["front"]), (67, ["front", "wrist"]), (100, ["front"]), (134, ["front", "wrist"])]


def start_cameras(rig, **environment):
    clean = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    return subprocess.run(
        [sys.executable, "-m", "robosteer_core.cli", "sim", "cameras", "--rig", str(rig)],
        capture_output=True, text=True, timeout=60, env={**clean, **environment},
    )  # fmt: skip


@pytest.fixture
def rig_file(tmp_path):
    rig = load_rig("lab").model_dump(mode="json")
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump({**rig, "name": f"test{os.getpid()}", "lab": {"control": "127.0.0.1:9"}}))
    return path


def test_without_egl_the_command_ends_with_one_message_and_code_2(rig_file):
    done = start_cameras(rig_file, __EGL_VENDOR_LIBRARY_FILENAMES="/nonexistent.json")
    assert done.returncode == 2
    assert "apt-get install libegl1 libgl1-mesa-dri libgl1" in done.stderr and "MUJOCO_GL" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_without_a_lab_the_command_names_its_address_and_ends_with_code_2(rig_file):
    start = time.monotonic()
    done = start_cameras(rig_file)
    assert done.returncode == 2
    assert "127.0.0.1:9" in done.stderr and "robosteer sim serve" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - start < 30
    assert not [name for name in os.listdir("/dev/shm") if f"test{os.getpid()}" in name]
