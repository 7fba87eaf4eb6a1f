"""`robosteer record` from nothing: the lab, the nodes and the console; the test is the operator's hand."""

import os
import subprocess
import sys

import numpy as np
import pytest
from mcap.reader import make_reader
from operator_hand import DELTA, TASK, await_stage, demonstrate
from rosbags.typesys import Stores, get_typestore

from robosteer_core.episodes.reader import Dataset
from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.runner import tick_ns
from robosteer_core.runtime.teleop_link import TeleopLink
from robosteer_ros.record import RecordingSession
from robosteer_ros.steering import BUTTONS

TICKS_NS = [tick_ns(0, tick, 15) for tick in range(1, 10)]


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump() | {"width": 160, "height": 120} for camera in load_rig("lab").cameras]
    return new_rig(cameras=cameras)


def test_the_operators_episodes_become_a_dataset(rig, rig_file, start, tmp_path, capfd):
    folder = tmp_path / "demonstrations"
    words = ["record", "--rig", str(rig_file), "--task", TASK, "--episodes", "2", "--dataset", str(folder)]
    with start(*words, "--namespace", "cell", "--logs", str(tmp_path), line="ready for the operator") as process:
        device = TeleopLink(rig)
        first_ns = demonstrate(rig, device, ticks=9, verdict="keep")
        demonstrate(rig, device, ticks=3, verdict="discard")
        second_ns = demonstrate(rig, device, ticks=9, verdict="keep", released=(5, 6))
        await_stage_or_end(device)
        assert process.wait(60) == 0
        said = process.stdout.read()
    assert "1 of 2 episodes kept, 1 discarded: start the next one: press the red button\n" in said
    assert said.endswith(f"2 episodes kept, 1 discarded, 21 frames in {folder}\n")
    progress, begun = capfd.readouterr().err, "the simulated lab, front_camera, wrist_camera, arm, recorder"
    assert progress.index(f"starting {begun}; what they print is in {tmp_path}\n") < progress.index(f"ending {begun}\n")

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
        for column in ("command", "steering", "front", "wrist"):
            assert data.column(f"stamp_ns.{column}")[rows].tolist() == expected
        # The state of the instant; each time it is told anew its stamp is a nanosecond later.
        late_ns = data.column("stamp_ns.state")[rows] - expected
        assert late_ns.min() >= 0 and late_ns.max() < 10
    assert data.image(0, "front").shape == (120, 160, 3)
    # Arm, hand, teleoperation, recorder, supervisor and two cameras.
    assert set(logged_topics(folder, 0)) >= {"/tf"} | {f"/cell/{name}" for name in (
        "joint_states", "arm/pose", "arm/commanded_pose", "arm/wrench", "arm/status", "arm/answers", "gripper/width",
        "arm/teleop/chunk", "arm/teleop/gripper_chunk", "teleop/command", "recorder/status",
        *(f"{camera}/color/{topic}" for camera in ("front", "wrist") for topic in ("image_raw/compressed", "camera_info")),
    )}  # fmt: skip
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


def opened_log(folder, index):
    """The raw log of an episode, for MCAP's own reader."""
    name = f"episode_{index:06d}"
    return (folder / "raw" / name / f"{name}.mcap").open("rb")


def logged_topics(folder, index):
    """How many messages it has on each topic."""
    with opened_log(folder, index) as file:
        found = make_reader(file).get_summary()
    return {found.channels[number].topic: count for number, count in found.statistics.channel_message_counts.items()}


def logged_commands(folder, index):
    """What it has of `teleop/command`."""
    store = get_typestore(Stores.ROS2_JAZZY)
    with opened_log(folder, index) as file:
        found = list(make_reader(file).iter_messages("/cell/teleop/command"))
    return [store.deserialize_cdr(message.data, schema.name) for schema, _, message in found]


def test_a_rig_without_cartesian_deltas_cannot_be_taught_by_hand():
    rig = load_rig("lab").model_copy(update={"action_space": load_rig("lab").action_space.model_copy(update={"kind": "joint_velocity"})})
    with pytest.raises(UserError, match="joint_velocity"):
        RecordingSession(rig, None, None, None, TASK)


@pytest.fixture
def demonstrations(tmp_path):
    """A dataset of another contract than the lab's."""
    rig = load_rig("lab")
    DatasetWriter(tmp_path / "demonstrations", rig.model_copy(update={"rates": rig.rates.model_copy(update={"policy_hz": 10})})).close()
    return tmp_path / "demonstrations"


@pytest.mark.parametrize("words, refusal", [
    (("--task", " "), "--task: expected the instruction in words, found ' '"),
    (("--device", "nosuch"), "no teleoperation device 'nosuch'; there are: remote, keyboard"),
    (("--device", "keyboard"), "the keyboard needs a terminal"),
    (("--dataset", "demonstrations"), "fps: 10 in the dataset, 15 in the rig"),
    (("--dataset", "/proc/new"), "the folder /proc/new cannot be written"),
])  # fmt: skip
def test_what_cannot_be_recorded_is_refused_before_anything_starts(demonstrations, tmp_path, words, refusal):
    command = [sys.executable, "-m", "robosteer_core.cli", "record", "--task", TASK, "--dataset", "new", "--logs", "logs", *words]
    ended = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90)
    assert ended.returncode == 2 and refusal in ended.stderr and "starting" not in ended.stderr, ended.stderr
    assert os.listdir(tmp_path) == ["demonstrations"]
