"""`robosteer up`: from nothing to the graph in the simulated lab, back after a kill, and down without leaving anything."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros import ros
from robosteer_ros.graph.messages import values_of
from robosteer_ros.graph.participant import spinning
from robosteer_ros.graph.qos import LATCHED
from robosteer_ros.ros import diagnostic_msgs, geometry_msgs, std_srvs

PATIENCE_S = 120
TASK = "touch the red button"


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump(mode="json") | {"width": 160, "height": 120} for camera in load_rig("lab").cameras]
    return new_rig(name=f"up{os.getpid()}", cameras=cameras)


@pytest.fixture
def up(rig_file, tmp_path):
    """`with up(words...) as (process, read)`: `read(words)` gives the lines until one with these words."""

    @contextmanager
    def up(*words):
        command = [sys.executable, "-m", "robosteer_core.cli", "up", str(rig_file), "--logs", str(tmp_path / "logs"), *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
        patience = threading.Timer(PATIENCE_S, process.kill)
        patience.start()

        def read(words):
            lines = []
            for line in process.stdout:
                lines.append(line)
                if words in line:
                    return lines
            pytest.fail(f"ended before {words!r}: {''.join(lines)}")

        try:
            yield process, read
        finally:
            patience.cancel()
            process.kill()
            process.wait()
            process.stdout.close()

    return up


def children(pid):
    """The processes that `pid` has started, {pid: command line}."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def gone(pids):
    deadline = time.monotonic() + PATIENCE_S
    while left := [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


class Watcher:
    """What the arm does, and a hand on the services."""

    def __init__(self, node):
        self._node, self._news = node, threading.Condition()
        self.position, self.mode = None, ""
        node.create_subscription(geometry_msgs.msg.PoseStamped, "arm/pose", self._see, 100)
        node.create_subscription(diagnostic_msgs.msg.DiagnosticArray, "arm/status", self._hear, LATCHED)

    def _see(self, message):
        with self._news:
            at = message.pose.position
            self.position = np.array([at.x, at.y, at.z])
            self._news.notify_all()

    def _hear(self, message):
        with self._news:
            self.mode = values_of(message)["mode"]
            self._news.notify_all()

    def moved(self, from_where, by_m):
        """Whether the arm gets so far away, within 3 s of the wall."""
        with self._news:
            return self._news.wait_for(lambda: np.linalg.norm(self.position - from_where) > by_m, 3)

    def until(self, modes):
        with self._news:
            assert self._news.wait_for(lambda: self.mode in modes, PATIENCE_S), f"{self.mode} instead of {modes}"

    def call(self, service):
        """Until it succeeds: after a kill DDS takes the dead server for alive for some seconds, and a request to it is lost."""
        client, answer, deadline = self._node.create_client(std_srvs.srv.Trigger, service), None, time.monotonic() + PATIENCE_S
        while answer is None or not answer.success:
            assert time.monotonic() < deadline, answer
            assert client.wait_for_service(PATIENCE_S)
            answer = client.call(std_srvs.srv.Trigger.Request(), 10)


@pytest.fixture
def watcher():
    ros.init(args=["test"], signal_handler_options=ros.SignalHandlerOptions.NO)
    node = ros.create_node("watcher")
    with spinning(node):
        yield Watcher(node)
    ros.try_shutdown()


def test_from_nothing_to_a_policy_that_moves_the_arm_which_holds_while_killed_nodes_come_back_and_down_in_order(
    up, watcher, rig_file, tmp_path
):
    (tmp_path / "parameters.yaml").write_text(f"policy: {{ros__parameters: {{instruction: {TASK}}}}}")
    words = ("--only", "cameras,arm,policy", "--policy", "scripted", "--params-file", str(tmp_path / "parameters.yaml"))
    with up(*words) as (process, read), ExitStack() as stack:
        active = [line.split("]: ")[1].strip() for line in read("up after") if line.rstrip().endswith(": active")]
        assert sorted(active[:2]) == ["front_camera: active", "wrist_camera: active"] and active[2:] == ["arm: active", "policy: active"]
        lab = stack.enter_context(LabLink(load_rig(rig_file).lab.control, "test"))
        started = children(process.pid)
        # Without commands the watchdog stops the arm, without its process the robot does: at rest, or by a reflex.
        for killed, modes in (("policy", ("stopped",)), ("arm", ("idle", "fault"))):
            watcher.call("arm/recover")
            lab.reset(TASK, 0)
            home = watcher.position
            watcher.call("policy/start")
            assert watcher.moved(home, 0.01)
            os.kill(next(pid for pid, words in children(process.pid).items() if f"nodes.{killed}" in words), signal.SIGKILL)
            assert any("killed by SIGKILL" in line for line in read(f"{killed}: active"))
            watcher.until(modes)
            assert not watcher.moved(watcher.position, 1e-3), "nothing that comes back moves the arm"
        started |= children(process.pid)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(PATIENCE_S) == 0
        order = [line.split("]: ")[1] for line in rest.splitlines() if line.endswith(": deactivating")]
        assert order[:2] == ["policy: deactivating", "arm: deactivating"] and len(order) == 4
        gone(started)


def test_a_graph_that_is_up_is_not_started_twice_and_nothing_outlives_it(up):
    with up("--only", "arm") as (process, read):
        read("up after")
        with up("--only", "arm,cameras") as (second, _):
            assert "another process has brought up the graph of domain" in second.stdout.read()
            assert second.wait(PATIENCE_S) == 2
        started = children(process.pid)
        process.kill()
        gone(started)


def test_a_lab_that_ends_is_named_and_takes_the_graph_down(up):
    with up("--only", "arm") as (process, read):
        read("up after")
        started = children(process.pid)
        os.kill(next(pid for pid, words in started.items() if "serve" in words), signal.SIGKILL)
        assert "the simulated lab has ended with exit code -9" in process.stdout.read()
        assert process.wait(PATIENCE_S) == 2
        gone(started)
