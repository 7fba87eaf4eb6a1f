"""What teleoperation and recorder tell each other comes back from its messages as it was."""

from dataclasses import asdict

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_ros.graph.messages import Stamps
from robosteer_ros.steering import RecordingStatus, Steering

STAMPS = Stamps(load_rig("lab"))
STEERING = Steering(
    12_067_000_000, np.array([0.01, -0.02, 0.003, 0, 0.1, -0.1, 0.7], np.float32), 12_000_000_000, deadman=True, driven=True,
    events=("start", "home"),
)  # fmt: skip


def test_a_tick_of_steering_comes_back_its_hand_to_some_nanoseconds():
    found, told = asdict(Steering.of(STEERING.message(STAMPS), STAMPS)), asdict(STEERING)
    np.testing.assert_array_equal(found.pop("action"), told.pop("action"))
    assert abs(found.pop("steered_ns") - told.pop("steered_ns")) < 10
    assert found == told


def test_a_joystick_of_somebody_else_is_no_steering():
    message = STEERING.message(STAMPS)
    message.axes = [0.0, 0.0]
    with pytest.raises(UserError, match="8 axes and the buttons deadman, start.*found 2 axes and 9 buttons"):
        Steering.of(message, STAMPS)


@pytest.mark.parametrize("problem", ["", "camera 'front': gone; look: at its cable"])
def test_the_status_of_a_recording_comes_back(problem):
    told = RecordingStatus("recording", 12_067_000_000, 3, 1, 99, 20, 5, "press: the red button", "runs/a b", problem, "/cell/console")
    assert RecordingStatus.of(told.message(STAMPS), STAMPS) == told
