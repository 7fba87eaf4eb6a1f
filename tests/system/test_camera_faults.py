"""Faults of the lab's cameras, from the control socket to what the camera driver makes of them: lab server, camera process,
shared memory, SDK, driver."""

import os
import re

import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame import CameraError
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.graph.station import frames_of_now
from robosteer_ros.hardware.realsense import RealSense

MS = 1_000_000
TASK = "press the red button"


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump(mode="json") | {"width": 160, "height": 120} for camera in load_rig("lab").cameras]
    return new_rig(name=f"camerafaults{os.getpid()}", cameras=cameras)


@pytest.fixture(scope="module")
def cameras(rig_file, start_lab, start):
    with start_lab(rig_file), start("sim", "cameras", "--rig", str(rig_file), line="drawing"):
        yield


class Policy:
    """Holds lab time and looks through both cameras at every third frame, as a policy does."""

    def __init__(self, rig, link, front, wrist):
        self.rig, self.link, self.front, self.wrist = rig, link, front, wrist
        self.now_ns = link.reset(TASK, 0)["now_ns"]

    def advance(self, timeout_s=10.0):
        """100 ms later; the front camera's frame of then."""
        self.now_ns = self.link.wait(self.now_ns + 100 * MS).now_ns
        assert self.wrist.read(self.now_ns).stamp_ns == self.now_ns, "a fault of the front camera is not one of the wrist's"
        return self.front.read(self.now_ns, timeout_s)

    def blind(self, words, timeout_s=0.3):
        with pytest.raises(CameraError, match=words):
            self.advance(timeout_s)


@pytest.fixture
def policy(cameras, rig):
    with RealSense(rig.cameras[0], rig) as front, RealSense(rig.cameras[1], rig) as wrist:
        with LabLink(rig.lab.control, "policy", 2) as link:
            policy = Policy(rig, link, front, wrist)
            policy.advance()
            yield policy
            link.clear()


def test_a_camera_that_stops_is_named_with_the_age_of_its_last_frame_and_goes_on_when_it_may(policy):
    policy.link.fault("camera_stop", camera="front")
    policy.blind(r"'front' \(lab:front\): no frame .* within 0\.3 s; the last, number \d+, came .* \d+ ms too early .*at fault")
    policy.link.clear()
    before = policy.front.statistics
    assert policy.advance().stamp_ns == policy.now_ns
    assert policy.front.statistics.missed > before.missed


def test_a_camera_that_repeats_its_frame_is_told_from_one_that_stands_before_a_still_scene(policy):
    repeated = policy.front.statistics.repeated
    policy.link.fault("camera_repeat", camera="front", seconds=0.35)
    policy.blind(r"'front'.*\d+ came since that could not be taken: frame number \d+ comes again and again")
    assert policy.front.statistics.repeated > repeated
    policy.blind("comes again and again")
    policy.blind("comes again and again")
    assert policy.advance().stamp_ns == policy.now_ns, "its time was up"


def test_frame_numbers_that_fall_back_are_noticed_and_cost_no_frame(policy, caplog):
    number = policy.advance().number
    policy.link.fault("camera_jump_back", camera="front", frames=20)
    frame = policy.advance()
    assert (frame.number, frame.stamp_ns) == (number + 3 - 20, policy.now_ns)
    assert policy.advance().number == number + 6 - 20, "it counts on from there"
    assert policy.front.statistics.jumped_back == 1
    assert "camera 'front' (lab:front): its frame numbers have fallen back" in caplog.text
    policy.link.clear()
    assert policy.advance().number == number + 9


@pytest.mark.parametrize("depth_ms", [100, -100])
def test_depth_that_was_not_captured_with_its_colour_is_not_taken(policy, depth_ms):
    policy.link.fault("camera_skew", camera="front", depth_ms=depth_ms)
    unpaired = policy.front.statistics.unpaired
    policy.blind(r"'front'.*could not be taken: depth and colour were not captured together, but \d+ ms apart")
    assert policy.front.statistics.unpaired > unpaired
    policy.link.clear()
    assert policy.advance().stamp_ns == policy.now_ns


def test_a_skew_of_less_than_half_a_frame_is_taken_as_the_sdk_does(policy):
    policy.link.fault("camera_skew", camera="front", depth_ms=10)
    assert policy.advance().stamp_ns == policy.now_ns


def test_a_camera_whose_clock_lags_shows_nothing_of_now(policy, caplog):
    policy.link.fault("camera_skew", camera="front", clock_ms=-500)
    policy.blind(r"'front'.*captured 500 ms too early")
    assert policy.front.statistics.jumped_back == 1
    assert re.search(r"'front' .*: frame number \d+ is stamped \d+ ms before the last", caplog.text)
    policy.link.clear()
    assert policy.advance().stamp_ns == policy.now_ns


def test_an_unplugged_camera_is_named_and_comes_back_when_it_is_plugged_in(policy, rig):
    policy.link.fault("camera_disconnect", camera="front")
    policy.blind(r"'front'.*no longer draws this camera: it is unplugged")
    with pytest.raises(UserError, match="no frames of a lab camera"):
        RealSense(rig.cameras[0], rig).start()
    policy.link.clear("camera_disconnect")
    assert policy.advance().stamp_ns == policy.now_ns


def test_a_frame_from_the_future_is_refused_by_who_asks_for_those_of_now(policy, rig):
    """The driver cannot know what time it is."""
    eyes = {"front": policy.front, "wrist": policy.wrist}
    policy.advance()
    assert frames_of_now(rig, eyes, policy.now_ns)["front"].stamp_ns == policy.now_ns
    policy.link.fault("camera_skew", camera="front", clock_ms=40)
    policy.advance()
    with pytest.raises(CameraError, match=r"'front': frame number .* is stamped \d+ ms after now: the camera's clock is off"):
        frames_of_now(rig, eyes, policy.now_ns)
