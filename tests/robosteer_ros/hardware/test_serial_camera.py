"""A camera found by its serial number: the SDK's own discovery and pipeline, on a camera that the SDK has recorded."""

import time
from contextlib import contextmanager

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import Camera
from robosteer_core.runtime.frame import CameraError
from robosteer_ros.hardware.realsense import RealSense
from robosteer_ros.hardware.realsense_sdk import rs

SERIAL, WIDTH, HEIGHT, FRAMES = "829212071824", 64, 48, 40


def video_stream(kind, pixel, uid, bytes_per_pixel):
    lens = rs.intrinsics()
    lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy = WIDTH, HEIGHT, 60.0, 61.0, 31.5, 23.5
    lens.model, lens.coeffs = rs.distortion.inverse_brown_conrady, [0.0] * 5
    stream = rs.video_stream()
    stream.type, stream.index, stream.uid, stream.fmt, stream.bpp = kind, 0, uid, pixel, bytes_per_pixel
    stream.width, stream.height, stream.fps, stream.intrinsics = WIDTH, HEIGHT, 30, lens
    return stream


def record(path, domain, first_stamp_ms):
    """Let the SDK record FRAMES frames, each grey with the value of its number; stamps 1000/30 ms apart."""
    device = rs.software_device()
    device.register_info(rs.camera_info.name, "Intel RealSense D435")
    device.register_info(rs.camera_info.serial_number, SERIAL)
    depth_sensor, colour_sensor = device.add_sensor("Stereo Module"), device.add_sensor("RGB Camera")
    depth_sensor.add_read_only_option(rs.option.depth_units, 0.001)
    depth_profile = depth_sensor.add_video_stream(video_stream(rs.stream.depth, rs.format.z16, 0, 2))
    colour_profile = colour_sensor.add_video_stream(video_stream(rs.stream.color, rs.format.rgb8, 1, 3))
    identity = rs.extrinsics()
    identity.rotation, identity.translation = np.eye(3).ravel().tolist(), [0.0, 0.0, 0.0]
    depth_profile.register_extrinsics_to(colour_profile, identity)
    colour_profile.register_extrinsics_to(depth_profile, identity)
    config, pipeline = rs.config(), rs.pipeline()
    pipeline.set_device(device)
    config.enable_stream(rs.stream.depth, WIDTH, HEIGHT, rs.format.z16, 30)
    config.enable_stream(rs.stream.color, WIDTH, HEIGHT, rs.format.rgb8, 30)
    config.enable_record_to_file(str(path))
    pipeline.start(config)
    for number in range(1, FRAMES + 1):
        for sensor, profile, pixels in (
            (depth_sensor, depth_profile, np.full((HEIGHT, WIDTH), 500 + number, np.uint16)),
            (colour_sensor, colour_profile, np.full((HEIGHT, WIDTH, 3), number, np.uint8)),
        ):
            frame = rs.software_video_frame()
            frame.pixels = pixels
            frame.bpp = pixels.nbytes // (WIDTH * HEIGHT)
            frame.stride = WIDTH * frame.bpp
            frame.timestamp, frame.domain = first_stamp_ms + number * 1000 / 30, domain
            frame.frame_number, frame.profile = number, profile.as_video_stream_profile()
            sensor.on_video_frame(frame)
        time.sleep(0.005)
    pipeline.stop()


@contextmanager
def connected(path):
    """A context in which the recorded camera is connected, playing in real time."""
    context = rs.context()
    device = context.load_device(str(path))
    yield context
    del device  # the context forgets a recording that nobody holds


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("camera") / "recorded.db3"
    start_ms = time.time() * 1e3
    record(path, rs.timestamp_domain.system_time, start_ms)
    return path, start_ms


CAMERA = Camera(name="front", serial=SERIAL, width=WIDTH, height=HEIGHT, fps=30, mount="fixed")


def test_a_connected_camera_streams_with_capture_times_on_the_monotonic_clock(recording):
    path, start_ms = recording
    with connected(path) as context, RealSense(CAMERA, context=context) as camera:
        frame = camera.read(0)
        later = camera.read(frame.stamp_ns + 1)
    for one in (frame, later):
        assert (one.colour == one.number).all()
        assert set(np.unique(one.depth)) <= {0, 500 + one.number}
        captured_ms = start_ms + one.number * 1000 / 30
        age_ms = time.time() * 1e3 - captured_ms
        assert (time.monotonic_ns() - one.stamp_ns) / 1e6 == pytest.approx(age_ms, abs=5)
    assert later.number > frame.number
    assert later.stamp_ns - frame.stamp_ns == pytest.approx((later.number - frame.number) * 1e9 / 30, abs=5e6)


def test_a_camera_with_its_own_clock_is_placed_at_arrival_and_keeps_its_intervals(tmp_path):
    path = tmp_path / "own_clock.db3"
    record(path, rs.timestamp_domain.hardware_clock, 123.0)
    before_ns = time.monotonic_ns()
    with connected(path) as context, RealSense(CAMERA, context=context) as camera:
        frames = [camera.read(0)]
        while len(frames) < 5:
            frames.append(camera.read(frames[-1].stamp_ns + 1))
    assert before_ns < frames[0].stamp_ns <= frames[-1].stamp_ns <= time.monotonic_ns()
    assert frames[-1].stamp_ns - frames[0].stamp_ns <= (frames[-1].number - frames[0].number) * 1e9 / 30 + 1e6


def test_an_unknown_serial_lists_what_is_connected(recording):
    other = CAMERA.model_copy(update={"serial": "000000000000"})
    message = f"no RealSense camera with serial number 000000000000; connected: {SERIAL}"
    with connected(recording[0]) as context, pytest.raises(UserError, match=message):
        RealSense(other, context=context).start()


def test_with_no_camera_at_all_the_message_says_none():
    if len(rs.context().query_devices()):
        pytest.skip("a real camera is connected to this machine")
    with pytest.raises(UserError, match="connected: none"):
        RealSense(CAMERA).start()


def test_a_mode_that_the_camera_lacks_is_refused_with_the_mode(recording):
    larger = CAMERA.model_copy(update={"width": 1280, "height": 720})
    with connected(recording[0]) as context, pytest.raises(CameraError, match="1280x720 at 30 Hz"):
        RealSense(larger, context=context).start()
