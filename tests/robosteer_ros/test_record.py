"""Recording as a command, with the lab's arm and cameras; the test is the operator's hand."""

import subprocess
import sys
import time

import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.clock import RANKS, LabClock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_core.runtime.runner import tick_ns
from robosteer_core.runtime.teleop_link import TeleopLink
from robosteer_ros.hardware.arm.client import ArmClient
from robosteer_ros.hardware.station import oldest_frame_ns
from robosteer_ros.record import RecordingSession
from robosteer_ros.steering import BUTTONS

MS = 1_000_000
TASK = "press the red button"
TICKS_NS = [tick_ns(0, tick, 15) for tick in range(1, 10)]
DELTA = np.array([0.002, 0.004, -0.006, 0, 0, 0.01])


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump() | {"width": 160, "height": 120} for camera in load_rig("lab").cameras]
    return new_rig(cameras=cameras)


@pytest.fixture(scope="module")
def lab_and_arm(rig_file, start, start_lab, start_arm):
    with start_lab(rig_file), start("sim", "cameras", "--rig", str(rig_file), line="cameras"), start_arm(rig_file):
        yield


def await_stage(device, stage):
    deadline = time.monotonic() + 60
    while (found := device.session()) != stage:
        assert time.monotonic() < deadline, f"the recorder stays {found}"
        time.sleep(0.005)


def demonstrate(rig, device, ticks, verdict, released=()):
    """One episode as an operator in the lab does it; returns the time it began."""
    await_stage(device, "ready")
    with LabLink(rig.lab.control, "test") as lab:
        lab.reset(TASK, 0, hold=True)
    clock = LabClock(rig.lab.control, "operator", RANKS["operator"])
    start_ns = clock.now_ns()
    device.publish(np.zeros(6), 0.0, True, start_ns, ["start"])
    await_stage(device, "recording")
    for tick in range(1, ticks + 1):
        now_ns = clock.sleep_until_ns(tick_ns(start_ns, tick, 15))
        device.publish(DELTA * tick / ticks, float(tick > 4), tick not in released, now_ns)
    clock.sleep_until_ns(tick_ns(start_ns, ticks + 1, 15))
    device.publish(np.zeros(6), 0.0, False, now_ns, [verdict])
    clock.close()
    return start_ns


def test_the_operators_episodes_become_a_dataset(lab_and_arm, rig_file, start, tmp_path):
    rig, folder = load_rig(rig_file), tmp_path / "demonstrations"
    words = ["record", "--rig", str(rig_file), "--task", TASK, "--episodes", "2", "--dataset", str(folder)]
    with start(*words, line="ready for the operator") as process:
        device = TeleopLink(rig)
        first_ns = demonstrate(rig, device, ticks=9, verdict="keep")
        demonstrate(rig, device, ticks=3, verdict="discard")
        second_ns = demonstrate(rig, device, ticks=9, verdict="keep", released=(5, 6))
        await_stage_or_end(device)
        assert process.wait(60) == 0
        said = process.stdout.read()
    assert "1 of 2 episodes kept, 1 discarded: start the next one: press the red button\n" in said
    assert said.endswith(f"2 episodes kept, 1 discarded, 21 frames in {folder}\n")

    data = Dataset(folder)
    arrays = data.arrays()
    assert [episode.length for episode in data.episodes] == [9, 9] and set(arrays.task) == {TASK}
    ramp = np.arange(1, 10)[:, None] / 9
    first, second = arrays.action[:9], arrays.action[9:]
    np.testing.assert_allclose(first[:, :6], DELTA * ramp, atol=1e-6)
    np.testing.assert_array_equal(first[:, 6], np.arange(1, 10) > 4)
    # While the enabling switch was released the arm was told to stand, and the hand what it had been told last.
    np.testing.assert_array_equal(second[4:6, :6], 0)
    np.testing.assert_array_equal(second[:, 6], np.arange(1, 10) > 6)
    # The actions are what moved the arm: it trails what was commanded by its lag alone.
    moved = arrays.state[8, :3] - arrays.state[0, :3]
    np.testing.assert_allclose(moved, first[:8, :3].sum(axis=0), atol=0.01)
    # Until the first difference of the two episodes' commands everything is the same to the bit.
    np.testing.assert_array_equal(arrays.state[:5], arrays.state[9:14])

    for start_ns, rows in ((first_ns, slice(0, 9)), (second_ns, slice(9, 18))):
        expected = [tick_ns(start_ns, tick, 15) for tick in range(1, 10)]
        for column in ("state", "command", "steering", "front", "wrist"):
            assert data.column(f"stamp_ns.{column}")[rows].tolist() == expected
    assert data.image(0, "front").shape == (120, 160, 3)
    for index, start_ns in enumerate((first_ns, second_ns)):
        commands = [command for command in logged_commands(folder, index) if command.buttons[BUTTONS.index("driven")]]
        assert [command.header.stamp.sec * 10**9 + command.header.stamp.nanosec - start_ns for command in commands] == TICKS_NS
        np.testing.assert_array_equal([command.axes[:7] for command in commands], arrays.action[9 * index : 9 * index + 9])


def await_stage_or_end(device):
    """The recorder ends by itself after the last episode that was asked for; a moment later nobody answers."""
    try:
        await_stage(device, "finished")
    except UserError:
        pass


def logged_commands(folder, index):
    """What the raw log of an episode has of `teleop/command`, as another reader of ROS 2 bags reads it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    with Reader(folder / "raw" / f"episode_{index:06d}") as bag:
        heard = [connection for connection in bag.connections if connection.topic == "/teleop/command"]
        return [store.deserialize_cdr(payload, connection.msgtype) for connection, _, payload in bag.messages(heard)]


def test_a_rig_without_cartesian_deltas_cannot_be_taught_by_hand():
    rig = load_rig("lab").model_copy(update={"action_space": load_rig("lab").action_space.model_copy(update={"kind": "joint_velocity"})})
    with pytest.raises(UserError, match="joint_velocity"):
        RecordingSession(rig, None, None, None, TASK)


@pytest.mark.parametrize("held", [True, False])
def test_the_way_home_goes_on_only_while_the_enabling_switch_is_held(lab_and_arm, rig_file, start, tmp_path, held):
    rig = load_rig(rig_file)
    with LabLink(rig.lab.control, "test") as lab:
        lab.reset(TASK, 0)
    words = ["record", "--rig", str(rig_file), "--task", TASK, "--episodes", "1", "--dataset", str(tmp_path / "none")]
    with start(*words, line="ready for the operator"):
        device, arm = TeleopLink(rig), ArmClient(rig)
        await_stage(device, "ready")
        away = np.abs(arm.state().joint_positions - rig.arm.home_joint_positions_rad).max()
        clock = LabClock(rig.lab.control, "operator", RANKS["operator"])
        device.publish(np.zeros(6), 0.0, held, clock.now_ns(), ["home"])
        deadline = time.monotonic() + 60
        # Time stands: the arm is asked to stop before it can have gone far.
        while arm.status()["motion"] != ("home" if held else "stop"):
            device.publish(np.zeros(6), 0.0, held, clock.now_ns())
            assert time.monotonic() < deadline
        while arm.status()["motion"] is not None:
            device.publish(np.zeros(6), 0.0, held, clock.sleep_until_ns(clock.now_ns() + 10 * MS))
            assert time.monotonic() < deadline
        clock.close()
        left = np.abs(arm.state().joint_positions - rig.arm.home_joint_positions_rad).max()
        assert away > 0.02 and (left < 0.005 if held else left > 0.9 * away)
        arm.close()
        device.close()


def test_no_arm_process_is_said_before_a_dataset_is_made(rig_file, new_rig, tmp_path):
    folder = tmp_path / "none"
    words = ["record", "--rig", str(new_rig()), "--task", TASK, "--episodes", "1", "--dataset", str(folder)]
    done = subprocess.run([sys.executable, "-m", "robosteer_core.cli", *words], capture_output=True, text=True)
    assert done.returncode == 2 and "no arm process at" in done.stderr and "robosteer arm" in done.stderr
    assert "Traceback" not in done.stderr and not folder.exists()


@pytest.mark.parametrize("now_ms, oldest_ms", [(1000, 1000), (1033, 1000), (1034, 1034), (1067, 1067), (1099, 1067)])
def test_the_frame_of_an_instant_in_the_lab_is_the_last_on_the_cameras_grid(now_ms, oldest_ms):
    rig = load_rig("lab")
    assert oldest_frame_ns(rig, rig.cameras[0], now_ms * MS) == oldest_ms * MS


def test_a_real_cameras_frame_may_be_two_periods_old():
    rig = load_rig("lab")
    real = rig.model_copy(update={"lab": None})
    assert oldest_frame_ns(real, rig.cameras[0], 1000 * MS) == pytest.approx(1000 * MS - 2e9 / 30, abs=1)
