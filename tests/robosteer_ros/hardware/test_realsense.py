"""The RealSense driver behind the real SDK, on lab frames from shared memory and on a recorded camera."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from drawn_camera import FORMAT, HEIGHT, WIDTH, Lab, tick

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame import CameraError
from robosteer_ros.hardware.realsense import RealSense


@pytest.fixture
def rig():
    rig = load_rig("lab")
    cameras = tuple(camera.model_copy(update={"width": WIDTH, "height": HEIGHT}) for camera in rig.cameras)
    return rig.model_copy(update={"name": f"test{os.getpid()}", "cameras": cameras})


@pytest.fixture
def lab(rig):
    lab = Lab(rig, rig.cameras[0])
    yield lab
    lab.writer.close()


def until(condition, timeout_s=5.0):
    """Wait for something that another thread is about to count."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def test_a_lab_frame_keeps_bytes_depth_stamp_number_and_intrinsics_through_the_sdk(rig, lab):
    with RealSense(lab.camera, rig) as camera:
        for k in (3, 4, 6):
            lab.draw(k)
            frame = camera.read(tick(k))
            colour, depth = lab.sent[k]
            assert (frame.camera, frame.stamp_ns, frame.number) == ("front", tick(k), k)
            np.testing.assert_array_equal(frame.colour, colour)
            np.testing.assert_array_equal(frame.depth, depth)
            assert frame.depth_unit_m == 0.001
            assert frame.intrinsics == FORMAT.intrinsics


def test_stamps_survive_the_sdk_to_the_nanosecond_for_days_of_lab_time(rig, lab):
    week = 7 * 24 * 3600 * 30
    with RealSense(lab.camera, rig) as camera:
        for k in (week + 1, week + 2):
            lab.draw(k)
            assert camera.read(tick(k)).stamp_ns == tick(k)


def test_reading_waits_for_a_frame_that_is_not_drawn_yet(rig, lab):
    with RealSense(lab.camera, rig) as camera:
        lab.draw(1)
        assert camera.read(tick(1)).number == 1
        late = threading.Timer(0.1, lab.draw, [2])
        late.start()
        assert camera.read(tick(2)).number == 2
        late.join()


def test_a_frame_drawn_before_the_driver_started_is_delivered(rig, lab):
    """The lab holds its time until somebody has seen the frame: none would follow it."""
    lab.draw(1)
    lab.draw(2)
    with RealSense(lab.camera, rig) as camera:
        assert camera.read(tick(2)).number == 2


def test_reading_gives_the_newest_frame_and_the_same_frame_until_another_comes(rig, lab):
    with RealSense(lab.camera, rig) as camera:
        for k in (1, 2, 3):
            lab.draw(k)
            until(lambda: camera.statistics.frames == k)
        frame = camera.read(tick(1))
        assert frame.number == 3
        assert camera.read(tick(2)) is frame


def test_every_frame_comes_out_although_no_other_follows_it_and_python_is_busy(rig, lab):
    """In lockstep a frame that the SDK swallows would stop the lab."""
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [sum(range(2000)) for _ in iter(stop.is_set, True)])
    busy.start()
    rng = np.random.default_rng(1)
    k = 0
    try:
        with RealSense(lab.camera, rig) as camera:
            for _ in range(300):
                k += int(rng.choice([1, 1, 1, 2, 30]))
                lab.draw(k)
                assert camera.read(tick(k), timeout_s=10.0).number == k
    finally:
        stop.set()
        busy.join()


def test_repeated_frames_are_counted_and_not_delivered_and_a_counter_that_restarts_goes_on(rig, lab):
    with RealSense(lab.camera, rig) as camera:
        lab.draw(10)
        camera.read(tick(10))
        lab.draw(11, number=10)
        until(lambda: camera.statistics.repeated == 1)
        assert camera.read(0).number == 10, "it may not be delivered"
        lab.draw(12, number=4)
        assert camera.read(tick(12)).number == 4, "its stamp says that it is new; time held for it would stand for ever"
        lab.draw(13, number=5)
        assert camera.read(tick(13)).number == 5
        lab.draw(15, number=7)
        assert camera.read(tick(15)).number == 7
        until(lambda: camera.statistics.frames == 4)
        statistics = camera.statistics
        assert (statistics.repeated, statistics.jumped_back, statistics.missed) == (1, 1, 1)


def test_a_lab_whose_time_begins_anew_is_seen_anew(rig, lab):
    """Not the last image of the lab before, for as long as that one had run."""
    with RealSense(lab.camera, rig) as camera:
        lab.draw(100)
        before = camera.read(tick(100))
        lab.draw(1)
        until(lambda: camera.statistics.jumped_back == 1)
        lab.draw(2)
        until(lambda: camera.statistics.frames == 2)
        after = camera.read(tick(2))
        assert after.number == 2 and after.stamp_ns == tick(2) < before.stamp_ns


def test_silence_names_the_camera_the_age_of_its_last_frame_and_what_to_check(rig, lab):
    with RealSense(lab.camera, rig) as camera:
        with pytest.raises(CameraError, match=r"'front' \(lab:front\).*none has come.*robosteer sim serve"):
            camera.read(0, timeout_s=0.05)
        lab.draw(30)
        camera.read(tick(30))
        with pytest.raises(CameraError, match=r"number 30, came 0\.\d s ago and was captured 500 ms too early"):
            camera.read(tick(45), timeout_s=0.05)
        lab.writer.close()
        with pytest.raises(CameraError, match="have ended; start them: robosteer sim cameras"):
            camera.read(tick(45), timeout_s=0.05)


def test_frames_go_on_when_the_lab_cameras_are_restarted(rig, lab):
    with RealSense(lab.camera, rig) as camera:
        lab.draw(1)
        camera.read(tick(1))
        lab.writer.close()
        again = Lab(rig, lab.camera)
        again.draw(5)
        assert camera.read(tick(5)).number == 5
        again.writer.close()


def test_a_camera_can_be_stopped_and_started_again(rig, lab):
    camera = RealSense(lab.camera, rig)
    for k in (1, 2):
        camera.start()
        lab.draw(k)
        assert camera.read(tick(k)).number == k
        camera.stop()
        camera.stop()
    with pytest.raises(CameraError, match="not started"):
        camera.read(0)


def test_two_cameras_stream_side_by_side(rig, lab):
    wrist = Lab(rig, rig.cameras[1])
    with RealSense(lab.camera, rig) as front_camera, RealSense(wrist.camera, rig) as wrist_camera:
        for k in range(1, 20):
            lab.draw(k)
            wrist.draw(k)
            assert front_camera.read(tick(k)).camera == "front"
            np.testing.assert_array_equal(wrist_camera.read(tick(k)).colour, wrist.sent[k][0])
    wrist.writer.close()


def test_without_a_lab_that_draws_the_message_says_what_to_start(rig):
    with pytest.raises(UserError, match="robosteer sim cameras"):
        RealSense(rig.cameras[0], rig).start()


def test_a_rig_with_another_image_size_than_the_lab_draws_is_refused(rig, lab):
    larger = lab.camera.model_copy(update={"width": 640, "height": 480})
    with pytest.raises(UserError, match="the rig says 640x480 at 30 Hz, the lab draws 160x120 at 30 Hz"):
        RealSense(larger, rig).start()


def test_a_lab_camera_without_its_rig_is_refused(rig):
    with pytest.raises(UserError, match="give its rig"):
        RealSense(rig.cameras[0])


def test_a_program_that_never_stops_its_camera_still_ends_cleanly(rig, lab, tmp_path):
    (tmp_path / "rig.yaml").write_text(__import__("yaml").safe_dump(rig.model_dump(mode="json")))
    script = f"""
from robosteer_core.rig import load_rig
from robosteer_ros.hardware.realsense import RealSense
rig = load_rig({str(tmp_path / "rig.yaml")!r})
camera = RealSense(rig.cameras[0], rig)
camera.start()
print(camera.read(0).number)
"""
    lab.draw(8)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")
