"""Teleoperation and recorder as nodes of a graph; the test is the operator's hand."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import av
import numpy as np
import pytest
from operator_hand import DELTA, MS, TASK, await_stage, begin, demonstrate

from robosteer_core.episodes.check import check
from robosteer_core.episodes.reader import Dataset
from robosteer_core.episodes.recording import FOLDER
from robosteer_core.episodes.video import decodable_frames
from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.clock import RANKS, LabClock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_core.runtime.runner import tick_ns
from robosteer_core.runtime.teleop_link import TeleopLink
from robosteer_ros.graph.arm_link import GraphArm
from robosteer_ros.graph.messages import Stamps, values_of
from robosteer_ros.graph.participant import spinning
from robosteer_ros.graph.qos import DIAGNOSTICS, LATCHED, STATES
from robosteer_ros.hardware.teleop.keys import Keys
from robosteer_ros.record_console import Console
from robosteer_ros.ros import Parameter, create_node, diagnostic_msgs, rcl_interfaces, std_srvs
from robosteer_ros.steering import RecordingStatus


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump() | {"width": 160, "height": 120} for camera in load_rig("lab").cameras]
    return new_rig(cameras=cameras)


@pytest.fixture(scope="module")
def graph(rig_file, start, start_lab, start_node, await_active):
    """The lab, its cameras and its arm on the graph; what records comes with the tests."""
    with ExitStack() as running:
        running.enter_context(start_lab(rig_file))
        running.enter_context(start("sim", "cameras", "--rig", str(rig_file), line="cameras"))
        for camera in ("front", "wrist"):
            running.enter_context(start_node("camera", rig_file, "-r", f"__node:={camera}_camera"))
        running.enter_context(start_node("arm", rig_file))
        for name in ("front_camera", "wrist_camera", "arm"):
            await_active(name)
        yield


@pytest.fixture
def teleop(graph, rig_file, start_node, await_active):
    with start_node("teleop", rig_file) as process:
        await_active("teleop")
        yield process


@pytest.fixture
def start_recorder(graph, rig_file, start_node):
    """A function that starts a recorder's process on a dataset."""
    return lambda folder: start_node("recorder", rig_file, "-p", f"task:={TASK}", "-p", f"dataset:={folder}")


@pytest.fixture
def ask(caller):
    """`ask("recorder/start")` calls a Trigger and gives (success, message)."""
    clients = []

    def ask(name):
        clients.append(caller.create_client(std_srvs.srv.Trigger, name))
        assert clients[-1].wait_for_service(60), f"nobody serves {name}"
        answer = clients[-1].call(std_srvs.srv.Trigger.Request(), 120)
        return answer.success, answer.message

    yield ask
    for client in clients:
        caller.destroy_client(client)


@pytest.mark.parametrize("held", [True, False])
def test_the_way_home_goes_on_only_while_the_enabling_switch_is_held(teleop, rig, caller, held):
    with LabLink(rig.lab.control, "test") as lab:
        lab.reset(TASK, 0)
    device, arm = TeleopLink(rig), GraphArm(caller, rig, None)
    await_stage(device, "waiting")
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


def test_an_episode_begins_and_ends_by_services_and_can_be_looked_at(teleop, start_recorder, rig, ask, caller, tmp_path):
    folder, told = tmp_path / "demonstrations", {}
    heard = caller.create_subscription(
        diagnostic_msgs.msg.DiagnosticArray, "/diagnostics", lambda message: told.update({message.status[0].name: message}), DIAGNOSTICS
    )
    with start_recorder(folder), LabLink(rig.lab.control, "test") as lab:
        device = TeleopLink(rig)
        await_stage(device, "ready")
        assert ask("recorder/review") == (False, f"there is no episode in {folder} yet")
        assert ask("recorder/keep") == (False, "no episode is running; the recorder is ready")
        lab.reset(TASK, 0, hold=True)
        clock = LabClock(rig.lab.control, "operator", RANKS["operator"])
        assert ask("recorder/start")[0]
        await_stage(device, "recording")
        assert "is recording" in ask("recorder/start")[1]
        for tick in range(1, 4):
            device.publish(DELTA, 1.0, True, clock.sleep_until_ns(tick_ns(clock.now_ns(), 1, 15)))
        success, said = ask("recorder/keep")
        clock.close()
        assert success and said.startswith("ready: 1 episodes kept, 0 discarded, 1 in")
        await_stage(device, "ready")
        film = ask("recorder/review")[1]
        with av.open(film) as container:
            assert sum(1 for _ in container.decode(video=0)) == len(Dataset(folder)) >= 2
        deadline = time.monotonic() + 60
        while "recorder" not in told or values_of(told["recorder"])["kept"] != "1":
            assert time.monotonic() < deadline, "the recorder's diagnostics do not tell of the episode"
            time.sleep(0.05)
        caller.destroy_subscription(heard)
        device.close()


def await_first_frames(videos):
    """Until each encoder has put a frame on the disk."""
    deadline = time.monotonic() + 60
    while not all(any(True for _ in decodable_frames(path)) for path in videos):
        assert time.monotonic() < deadline, "the encoders write nothing"
        time.sleep(0.005)


def test_a_recorder_killed_in_an_episode_leaves_the_earlier_ones_and_the_arm_at_rest(teleop, start_recorder, rig, caller, tmp_path):
    folder = tmp_path / "demonstrations"
    device = TeleopLink(rig)
    with start_recorder(folder) as process:
        demonstrate(rig, device, ticks=4, verdict="keep")
        begin(rig, device, LabLink(rig.lab.control, "test"))
        await_first_frames([folder / FOLDER / f"{camera.name}.mkv" for camera in rig.cameras])
        process.kill()
        process.wait()
    await_stage(device, "waiting")
    arm = GraphArm(caller, rig, None)
    arm.rest()
    arm.close()
    assert check(folder).problems == [] and [episode.length for episode in Dataset(folder).episodes] == [4]
    with start_recorder(folder):
        demonstrate(rig, device, ticks=3, verdict="keep")
        await_stage(device, "ready")
    assert [episode.length for episode in Dataset(folder).episodes] == [4, 3]
    # The last frame may still have been in its encoder.
    assert [episode.length for episode in Dataset(folder / "interrupted").episodes] in ([1], [2])
    assert sorted(path.name for path in (folder / "raw").iterdir()) == ["episode_000000", "episode_000001", "interrupted_000"]
    device.close()


def test_a_device_other_than_that_of_the_teleoperation_that_runs_is_refused(teleop, rig_file, tmp_path):
    command = [sys.executable, "-m", "robosteer_core.cli", "record", "--rig", str(rig_file), "--task", TASK, "--dataset", str(tmp_path / "new")]
    words = ["--device", "guiding", "--logs", str(tmp_path / "logs")]
    ended = subprocess.run([*command, *words], capture_output=True, text=True, timeout=90)
    assert ended.returncode == 2 and "the node teleop runs already, with the device 'remote' and not 'guiding'" in ended.stderr, ended.stderr
    assert os.listdir(tmp_path) == []


def test_time_does_not_wait_for_a_recorder_in_whose_place_there_is_another(teleop, rig, caller):
    device, stages, said = TeleopLink(rig), set(), []

    def hear(message):
        stages.update(status.message for status in message.status if status.name == "teleop")

    def recorder():
        publisher = caller.create_publisher(diagnostic_msgs.msg.DiagnosticArray, "recorder/status", LATCHED)
        until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    heard = caller.create_subscription(diagnostic_msgs.msg.DiagnosticArray, "/diagnostics", hear, DIAGNOSTICS)
    log = caller.create_subscription(rcl_interfaces.msg.Log, "/rosout", lambda message: said.append(message.msg), STATES)
    with LabLink(rig.lab.control, "test") as lab:
        lab.reset(TASK, 0)
    killed = recorder()
    killed.publish(RecordingStatus("ready").message(Stamps(rig)))
    until(lambda: "ready" in stages)
    killed.publish(RecordingStatus("recording").message(Stamps(rig)))
    await_stage(device, "recording")
    successor = recorder()
    caller.destroy_publisher(killed)
    await_stage(device, "waiting")
    until(lambda: "the recorder has gone" in said or any("says nothing any more" in words for words in said))
    assert "the recorder has gone" in said
    caller.destroy_publisher(successor)
    for made in (heard, log):
        caller.destroy_subscription(made)
    device.close()


def until(reached):
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def new_console(rig):
    """A function that gives a console of this name on the graph, and its node."""
    with ExitStack() as spun:

        def make(name):
            node = create_node(name)
            end = spun.enter_context(ExitStack())
            end.enter_context(spinning(node))
            return Console(node, rig), end.close

        yield make


def test_a_session_is_its_consoles_alone_until_it_is_over_or_the_console_has_gone(
    graph, start_node, rig_file, new_console, await_active, caller, tmp_path
):
    (first, _), (second, end_second), (third, _) = (new_console(name) for name in ("first", "second", "third"))
    session = {"task": TASK, "dataset": str(tmp_path / "demonstrations"), "episodes": 2, "calibrations": "calibrations"}
    said = []

    def watch(console, act=lambda: None):
        """Until the console's session is over; `act` is called when it has said that it is ready."""
        said.clear()
        return console.watch(said.append, Keys(False), lambda: act() if said else None)

    with start_node("recorder", rig_file) as process:
        await_active("recorder")
        first.open(**session)
        for dataset in (session["dataset"], str(tmp_path / "other")):
            with pytest.raises(UserError, match="/first records into .*demonstrations, 0 episodes kept: finish its session there, or by"):
                second.open(**session | {"dataset": dataset})
        with pytest.raises(UserError, match="/first records into"):
            set_parameters(caller, dataset="")
        set_parameters(caller, task="push the cube")
        done = watch(first, lambda: first.ask("finish"))
        assert (done.stage, done.owner, done.task, done.wanted) == ("finished", "/first", "push the cube", 2)
        # The earlier session's end is latched: the second one waits for its own.
        second.open(**session | {"episodes": 3})
        done = watch(second, lambda: second.ask("finish"))
        assert (done.owner, done.wanted) == ("/second", 3) and said[0].startswith("0 of 3 episodes kept: start the next one")
        second.open(**session)
        end_second()
        third.open(**session)
        process.kill()
        process.wait()
        # DDS may miss the killed one before the next has something to say.
        lost = "lost: the recorder (was started anew|has gone).*0 episodes were kept.*2"
        with start_node("recorder", rig_file), pytest.raises(UserError, match=lost):
            watch(third)
    assert "interrupted" not in os.listdir(session["dataset"])


def set_parameters(caller, **values):
    """Raises UserError in the recorder's words."""
    client = caller.create_client(rcl_interfaces.srv.SetParametersAtomically, "recorder/set_parameters_atomically")
    assert client.wait_for_service(60)
    given = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    result = client.call(rcl_interfaces.srv.SetParametersAtomically.Request(parameters=given), 60).result
    caller.destroy_client(client)
    if not result.successful:
        raise UserError(result.reason)


def test_ctrl_c_in_an_episode_ends_teleoperation_and_recorder_and_keeps_the_earlier_ones(
    graph, start_recorder, start_node, await_active, rig, rig_file, caller, tmp_path
):  # fmt: skip
    """In the terminal of `ros2 launch` it reaches both at once."""
    folder = tmp_path / "demonstrations"
    with start_node("teleop", rig_file) as teleop, start_recorder(folder) as recorder:
        await_active("teleop")
        device = TeleopLink(rig)
        demonstrate(rig, device, ticks=4, verdict="keep")
        begin(rig, device, LabLink(rig.lab.control, "test"))
        for process in (teleop, recorder):
            process.send_signal(signal.SIGINT)
        assert [process.wait(60) for process in (teleop, recorder)] == [0, 0]
    arm = GraphArm(caller, rig, None)
    arm.rest()
    assert arm.status()["last_error"] is None
    arm.close()
    assert check(folder).problems == [] and [episode.length for episode in Dataset(folder).episodes] == [4]
    device.close()


def test_a_dataset_of_another_contract_is_refused_in_words(start_recorder, new_rig, caller, await_active, tmp_path):
    other = load_rig(new_rig(rates={"policy_hz": 10}))
    DatasetWriter(tmp_path / "other", other).close()
    with start_recorder(tmp_path / "mine"):
        await_active("recorder")
        with pytest.raises(UserError, match=r"another contract(.|\n)*fps: 10 in the dataset, 15 in the rig"):
            set_parameters(caller, dataset=str(tmp_path / "other"))


def test_led_by_hand_the_motion_of_the_arm_is_the_action(graph, rig, rig_file, start_node, start_recorder, await_active, ask, tmp_path):
    folder = tmp_path / "demonstrations"
    with start_node("teleop", rig_file, "-p", "device:=guiding"), start_recorder(folder), LabLink(rig.lab.control, "test") as lab:
        await_active("teleop")
        await_active("recorder")
        lab.reset(TASK, 0)
        assert lab.guide(True, (0.0, 8.0, 0.0)) == "guiding"
        clock = LabClock(rig.lab.control, "operator", RANKS["operator"])
        assert ask("recorder/start")[0]
        for _ in range(12):
            clock.sleep_until_ns(tick_ns(clock.now_ns(), 1, 15))
        assert ask("recorder/keep")[0]
        clock.close()
        lab.guide(False)
    arrays = Dataset(folder).arrays()
    assert len(arrays.state) >= 4
    np.testing.assert_allclose(arrays.action[:-1, :3], np.diff(arrays.state[:, :3], axis=0), atol=1e-6)
    assert arrays.action[:, 1].sum() > 0.002


def test_the_arm_is_driven_without_a_recorder_from_teleop_drive_to_teleop_rest(teleop, rig, ask, caller):
    device, arm = TeleopLink(rig), GraphArm(caller, rig, None)
    await_stage(device, "waiting")
    with LabLink(rig.lab.control, "test") as lab:
        lab.reset(TASK, 0, hold=True)
    clock = LabClock(rig.lab.control, "operator", RANKS["operator"])
    before = arm.state().measured.position
    assert ask("teleop/drive")[0]
    await_stage(device, "driving")
    start_ns = clock.now_ns()
    for tick in range(1, 8):
        now_ns = clock.sleep_until_ns(tick_ns(start_ns, tick, 15))
        device.publish(DELTA, 1.0, tick < 5, now_ns)
    assert ask("teleop/rest")[0]
    clock.close()
    await_stage(device, "waiting")
    moved = arm.state().measured.position - before
    # The enabling switch was held for four ticks; the arm ends where they led it, but for the error of its impedance.
    np.testing.assert_allclose(moved, 4 * DELTA[:3], atol=0.006)
    assert arm.status()["motion"] is None
    arm.close()
    device.close()
