"""The supervisor and small nodes in real processes: up in order, back after every fall, down in order."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from robosteer_ros import node_process, ros
from robosteer_ros.graph.participant import spinning
from robosteer_ros.graph.qos import LATCHED
from robosteer_ros.node_process import TRIES, NodeProcess
from robosteer_ros.nodes.supervisor import Supervisor
from robosteer_ros.ros import Parameter, SignalHandlerOptions, diagnostic_msgs, std_srvs

SMALL = Path(__file__).with_name("small_node.py")
PATIENCE_S = 60


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes"
    path.touch()
    return path


@pytest.fixture
def small(notes):
    """`small("arm", stage=1, nodes=("arm", "gripper"), refuse="activate")` is a process of small nodes."""

    def make(name, stage=0, nodes=None, **parameters):
        nodes = nodes or (name,)
        given = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
        return NodeProcess(name, (sys.executable, str(SMALL), str(notes), *nodes, "--ros-args", *given), nodes, stage)

    return make


@pytest.fixture
def supervise(tmp_path):
    """`with supervise(processes...) as supervisor`: begun and open, ended after it."""

    @contextmanager
    def supervise(*processes, own=True):
        ros.init(args=["test"], signal_handler_options=SignalHandlerOptions.NO)
        try:
            given = [Parameter("logs", value=str(tmp_path / "logs")), Parameter("processes", value=own)]
            supervisor = Supervisor(processes, parameter_overrides=given)
            with spinning(supervisor):
                try:
                    supervisor.begin()
                    supervisor.open()
                    yield supervisor
                finally:
                    supervisor.finish()
        finally:
            ros.try_shutdown()

    return supervise


def until(reached, what):
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)


def until_active(*watched):
    until(lambda: all(one.state == "active" for one in watched), [(one.process.name, one.state, one.words) for one in watched])


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(node_process, "LONGEST_PAUSE_S", 0.1)


def lines(notes):
    return notes.read_text().splitlines()


def test_nodes_come_up_in_order_and_go_down_in_reverse_after_what_moves_has_been_stopped(supervise, small, notes):
    processes = [small("policy", 4), small("front_camera", 0), small("wrist_camera", 0), small("arm", 1, ("arm", "gripper"))]
    with supervise(*processes) as supervisor:
        until(lambda: supervisor.is_settled, "settled")
        assert [one.state for one in supervisor.watched] == ["active"] * 4
        activated = [line.split()[0] for line in lines(notes) if line.endswith("activate")]
        assert set(activated[:2]) == {"front_camera", "wrist_camera"} and activated[2:] == ["arm", "gripper", "policy"]
        up = len(lines(notes))
    down = lines(notes)[up:]
    order = [line for line in down if not line.endswith("close")]
    assert order[:5] == ["policy stop", "arm stop", "policy deactivate", "gripper deactivate", "arm deactivate"]
    assert sorted(order[5:]) == ["front_camera deactivate", "wrist_camera deactivate"]
    assert sorted(set(down) - set(order)) == [f"{name} close" for name in ("arm", "front_camera", "gripper", "policy", "wrist_camera")]
    assert [one.state for one in supervisor.watched] == ["ended"] * 4


@pytest.mark.parametrize("state", ["configure", "activate", "active"])
def test_a_node_killed_in_any_state_comes_back_and_is_counted(supervise, small, notes, state):
    with supervise(small("arm", kill=state), small("policy", 1)) as supervisor:
        arm, policy = supervisor.watched
        until_active(arm, policy)
        if state == "active":
            os.kill(arm.pid, signal.SIGKILL)
            until(lambda: arm.restarts == 1, "started again")
            until_active(arm)
        assert (arm.restarts, policy.restarts) == (1, 0)
        assert lines(notes).count("arm configure") == 2
        heard = {}
        listener = ros.create_node("listener")
        listener.create_subscription(diagnostic_msgs.msg.DiagnosticArray, "supervisor/status", lambda m: heard.update(told(m)), LATCHED)
        until(lambda: ros.spin_once(listener, timeout_sec=0.1) or heard.get("arm", {}).get("state") == "active", heard)
        assert heard["arm"]["restarts"] == "1" and heard["arm"]["pid"] == str(arm.pid)
        listener.destroy_node()


def told(message):
    return {one.name.removeprefix("supervisor: "): {value.key: value.value for value in one.values} for one in message.status}


def test_a_stopped_process_is_ended_and_comes_back(supervise, small, monkeypatch):
    monkeypatch.setattr(node_process, "SILENT_S", 2.0)
    monkeypatch.setattr("robosteer_core.runtime.lab_processes.END_TIMEOUT_S", 1)
    with supervise(small("arm")) as supervisor:
        (arm,) = supervisor.watched
        until_active(arm)
        os.kill(arm.pid, signal.SIGSTOP)
        until(lambda: arm.restarts == 1, "started again")
        until_active(arm)


def test_a_refusal_is_told_in_the_nodes_words_and_given_up_and_may_be_tried_once_more(supervise, small, notes):
    cable = notes.with_name("refuse")
    cable.touch()
    with supervise(small("arm", refuse="activate"), small("policy", 1)) as supervisor:
        arm, policy = supervisor.watched
        until(lambda: supervisor.is_settled, "settled")
        assert arm.state == "given up" and "expected a cable for activate, found none; plug it in" in arm.words
        assert lines(notes).count("arm activate") == TRIES
        assert arm.pid is None and policy.state == "active"
        cable.unlink()
        assert call(supervisor, "supervisor/retry").message == "once more: arm"
        until_active(arm)
        assert not call(supervisor, "supervisor/retry").success


def test_a_process_that_does_not_start_is_given_up_with_its_last_line(supervise):
    with supervise(NodeProcess("arm", (sys.executable, "-m", "robosteer_ros.nodes.no_such_node"), ("arm",))) as supervisor:
        until(lambda: supervisor.is_settled, "settled")
        assert supervisor.watched[0].state == "given up" and "No module named" in supervisor.watched[0].words


def test_nodes_that_a_launch_file_started_are_brought_up_again_when_they_have_come_back(supervise, small, tmp_path):
    process = small("arm")
    children = [subprocess.Popen(process.command)]
    try:
        with supervise(process, own=False) as supervisor:
            (arm,) = supervisor.watched
            until_active(arm)
            children[0].kill()
            children.append(subprocess.Popen(process.command))
            until(lambda: arm.restarts == 1, "brought up again")
            until_active(arm)
        assert children[1].poll() is None
    finally:
        for child in children:
            child.kill()
            child.wait()


def call(supervisor, name):
    client = supervisor.create_client(std_srvs.srv.Trigger, name)
    assert client.wait_for_service(timeout_sec=10)
    done, answer = threading.Event(), client.call_async(std_srvs.srv.Trigger.Request())
    answer.add_done_callback(lambda _: done.set())
    assert done.wait(10)
    return answer.result()
