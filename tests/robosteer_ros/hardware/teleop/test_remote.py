"""A remote teleoperation device, over its real socket."""

import time

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.json_lines import LineClient, Refused
from robosteer_core.runtime.teleop_link import TeleopLink
from robosteer_ros.hardware.teleop.remote import PATIENCE_READS, RemoteDevice

DELTA = np.array([0.01, 0, 0, 0, 0, 0.02])


@pytest.fixture
def rig(free_ports):
    return load_rig("lab").model_copy(update={"teleop_address": f"127.0.0.1:{free_ports()}"})


@pytest.fixture
def device(rig):
    device = RemoteDevice(rig)
    yield device
    device.close()


def test_a_command_is_in_place_when_its_answer_arrives(rig, device):
    link = TeleopLink(rig)
    for number in range(20):
        link.publish(DELTA * number, 0.25, True, stamp_ns=number)
        command = device.read()
        np.testing.assert_allclose(command.delta, DELTA * number)
        assert (command.gripper, command.deadman, command.stamp_ns) == (0.25, True, number)


def test_events_are_read_once_and_in_order(rig, device):
    link = TeleopLink(rig)
    link.publish(DELTA, 1.0, True, 0, events=["start"])
    link.publish(DELTA, 1.0, True, 1, events=["keep", "finish"])
    assert device.read().events == ("start", "keep", "finish")
    assert device.read().events == ()


def test_without_the_enabling_switch_the_delta_is_zero(rig, device):
    TeleopLink(rig).publish(DELTA, 0.5, False, 0)
    command = device.read()
    np.testing.assert_array_equal(command.delta, 0)
    assert not command.deadman and command.gripper == 0.5


def test_a_silent_device_counts_as_released(rig, device):
    link = TeleopLink(rig)
    link.publish(DELTA, 1.0, True, 0)
    held = [device.read().deadman for _ in range(PATIENCE_READS + 2)]
    assert held == [True] * PATIENCE_READS + [False] * 2
    link.publish(DELTA, 1.0, True, 1)
    assert device.read().deadman


def test_a_device_that_disconnects_counts_as_released_and_the_next_may_come(rig, device):
    first = TeleopLink(rig)
    first.publish(DELTA, 1.0, True, 0)
    second = TeleopLink(rig)
    with pytest.raises(Refused, match="another teleoperation device"):
        second.publish(DELTA, 1.0, True, 1)
    first.close()
    deadline = time.monotonic() + 5
    while device.connected and time.monotonic() < deadline:
        time.sleep(0.002)
    assert not device.read().deadman
    second.publish(DELTA, 1.0, True, 2)
    assert device.read().stamp_ns == 2


def test_the_operator_hears_the_stage_of_the_session(rig, device):
    link = TeleopLink(rig)
    assert link.session() == "ready"
    device.announce("recording", 3)
    assert link.publish(DELTA, 1.0, True, 0) == "recording"
    assert link.episodes() == 3


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"delta": [0, 0, 0]}, "6 finite"),
        ({"delta": [0, 0, float("nan"), 0, 0, 0]}, "6 finite"),
        ({"delta": "left"}, "numbers"),
        ({"gripper": 1.5}, r"\[0, 1\]"),
        ({"gripper": None}, "numbers"),
        ({"deadman": 1}, "true or false"),
        ({"events": ["explode"]}, "explode"),
        ({"events": "start"}, "list"),
        ({"speed": 3}, "fields"),
    ],
)
def test_a_command_that_means_nothing_is_refused_and_changes_nothing(rig, device, change, complaint):
    good = {"delta": DELTA.tolist(), "gripper": 0.5, "deadman": True, "stamp_ns": 7, "events": []}
    client = LineClient(rig.teleop_address, "recorder", "")
    client.request(good, 2)
    with pytest.raises(Refused, match=complaint):
        client.request(good | change, 2)
    assert device.read().stamp_ns == 7


def test_no_recorder_names_the_command_to_start(rig):
    with pytest.raises(UserError, match="robosteer record"):
        TeleopLink(rig)
