"""The lab's cameras as processes: lab server, camera process, shared memory, SDK, driver."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.hardware.realsense import RealSense
from robosteer_sim.studio import Studio

MS = 1_000_000
TASK = "press the red button"


def segments(rig):
    return sorted(name for name in os.listdir("/dev/shm") if rig.name in name)


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump(mode="json") | {"width": 320, "height": 240} for camera in load_rig("lab").cameras]
    return new_rig(name=f"cameras{os.getpid()}", cameras=cameras)


@pytest.fixture(scope="module")
def lab(rig_file, start_lab):
    with start_lab(rig_file) as process:
        yield process


@pytest.fixture(scope="module")
def cameras(lab, rig_file, start):
    with start("sim", "cameras", "--rig", str(rig_file), line="drawing") as process:
        yield process


@pytest.fixture
def policy(lab, rig):
    """A participant like the policy, that also sees the physics state."""
    with LabLink(rig.lab.control, "policy", 2, state=True) as link:
        yield link


def test_what_comes_out_of_the_sdk_is_what_the_physics_looked_like_at_the_stamp(rig, cameras, policy):
    with RealSense(rig.cameras[0], rig) as front, RealSense(rig.cameras[1], rig) as wrist, Studio(rig) as studio:
        for seed in (3, 4):
            start_ns = policy.reset(TASK, seed)["now_ns"]
            studio.build(TASK, seed)
            for k in range(8):
                state = policy.wait(start_ns + -(-k * 1000 // 15) * MS)
                studio.pose(state.qpos)
                for camera in (front, wrist):
                    frame = camera.read(state.now_ns)
                    assert frame.stamp_ns == state.now_ns
                    colour, depth = studio.draw(rig.camera(frame.camera))
                    np.testing.assert_array_equal(frame.colour, colour)
                    np.testing.assert_array_equal(frame.depth, depth)
                    assert frame.intrinsics.fx == pytest.approx(studio.format(rig.camera(frame.camera)).intrinsics.fx, rel=1e-6)
        assert front.statistics.repeated == front.statistics.jumped_back == wrist.statistics.jumped_back == 0


def test_frames_of_a_held_scene_are_there_before_anything_moves(rig, cameras, policy):
    with RealSense(rig.cameras[0], rig) as front:
        now_ns = policy.reset(TASK, 5, hold=True)["now_ns"]
        assert policy.wait(0).now_ns == now_ns
        assert front.read(now_ns).stamp_ns == now_ns
        policy.reset(TASK, 5)  # lets the scene go


def test_lab_time_does_not_run_away_from_a_camera_process_that_stands_still(rig, cameras, policy):
    start_ns = policy.wait(0).now_ns
    policy.leave()
    with LabLink(rig.lab.control, "observer") as observer:
        cameras.send_signal(signal.SIGSTOP)
        try:
            seen, last = observer.now_ns(), None
            while seen != last:  # until it stands
                time.sleep(0.2)
                last, seen = seen, observer.now_ns()
            stopped_ns = seen
            time.sleep(0.3)
            assert observer.now_ns() == stopped_ns >= start_ns
        finally:
            cameras.send_signal(signal.SIGCONT)
        policy.wait(stopped_ns + 100 * MS)


def test_a_second_camera_process_on_the_same_lab_is_refused_and_the_first_goes_on(rig, rig_file, cameras, policy):
    """Refused at once, although the policy holds lab time and the lab cannot answer."""
    second = subprocess.run(
        [sys.executable, "-m", "robosteer_core.cli", "sim", "cameras", "--rig", str(rig_file)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert second.returncode == 2 and "written by another process" in second.stderr
    now_ns = policy.wait(0).now_ns
    with RealSense(rig.cameras[0], rig) as front:
        policy.wait(now_ns + 100 * MS)
        assert front.read(now_ns + 34 * MS).stamp_ns > now_ns


def test_a_killed_camera_process_frees_the_lab_and_its_successor_goes_on(rig, rig_file, cameras, start):
    with RealSense(rig.cameras[0], rig) as front:
        with LabLink(rig.lab.control, "policy", 2) as policy:
            now_ns = policy.wait(0).now_ns
            policy.wait(now_ns + 200 * MS)
            before = front.read(now_ns)
            cameras.kill()
            cameras.wait(10)
            assert len(segments(rig)) == 2, "left behind, to be replaced"
            assert policy.wait(now_ns + 300 * MS).now_ns == now_ns + 300 * MS, "the lab must not wait for the dead"
        with start("sim", "cameras", "--rig", str(rig_file), line="drawing") as successor:
            with LabLink(rig.lab.control, "policy", 2) as policy:
                state = policy.wait(policy.joined_ns + 100 * MS)
                frame = front.read(policy.joined_ns + 34 * MS)
                assert frame.number > before.number and policy.joined_ns < frame.stamp_ns <= state.now_ns
            successor.terminate()
            assert successor.wait(20) == 0
    assert segments(rig) == [], "a clean stop leaves nothing in shared memory"
