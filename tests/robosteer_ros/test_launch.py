"""The colcon package under real `ros2 launch`: its arguments, each of its nodes, a rig's whole graph."""

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

BUILT = any((Path(folder) / "share/robosteer/launch").is_dir() for folder in os.environ.get("AMENT_PREFIX_PATH", "").split(":"))
pytestmark = [
    pytest.mark.skipif(shutil.which("ros2") is None, reason="ROS 2 is not sourced: no ros2 in the PATH"),
    pytest.mark.skipif(not BUILT, reason="the colcon package is not sourced: make ros, then source .ros/install/setup.bash"),
]

PATIENCE_S = 300
LOOK = ("--no-daemon", "--spin-time", "3")


def ros2(*words):
    """What the real command prints."""
    done = subprocess.run(["ros2", *words], capture_output=True, text=True, timeout=PATIENCE_S)
    return done.stdout + done.stderr


@contextmanager
def launched(folder, *words):
    """A launch, as a function that gives what it has printed; ended by Ctrl-C, after which none of its processes is there."""
    path = folder / "launch.txt"
    with path.open("w") as output:
        command = ["ros2", "launch", "robosteer", *words]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=folder)
    try:
        yield lambda: _still(process, path)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        left = subprocess.run(["pgrep", "-s", str(process.pid), "-a"], capture_output=True, text=True).stdout
        assert left == "", path.read_text()
    finally:
        for pid in subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, text=True).stdout.split():
            os.kill(int(pid), signal.SIGKILL)


def _still(process, path):
    """What a launch has printed so far; fails when it has ended."""
    text = path.read_text()
    assert process.poll() is None, text
    return text


def until(condition, printed):
    deadline = time.monotonic() + PATIENCE_S
    while not condition(printed()):
        assert time.monotonic() < deadline, printed()
        time.sleep(0.2)


def test_bringup_tells_its_arguments():
    told = ros2("launch", "robosteer", "bringup.launch.py", "--show-args")
    names = re.findall(r"^    '(\w+)':$", told, re.MULTILINE)
    assert names == ["rig", "robot_ip", "namespace", "policy", "adapter", "device", "params_file", "log_level"]


def test_a_rig_that_is_not_there_is_named(tmp_path):
    told = ros2("launch", "robosteer", "bringup.launch.py", "rig:=moon")
    assert "moon.yaml" in told and "fr3, lab, panda, panda_lab" in told


@pytest.mark.parametrize("words, told", [
    (["policy:=/wrong/path"], "no policy '/wrong/path'; expected a checkpoint folder"),
    (["policy:=/tmp", "adapter:=/nosuch"], "no adapter in /nosuch"),
    (["params_file:=misspelt.yaml"], "misspelt.yaml: /cell/policy has no parameter 'excuted'; did you mean 'executed'"),
])  # fmt: skip
def test_what_cannot_be_started_ends_the_launch_before_it_starts_anything(tmp_path, new_rig, words, told):
    (tmp_path / "misspelt.yaml").write_text("/cell/policy: {ros__parameters: {excuted: 5}}")
    command = ["ros2", "launch", "robosteer", "bringup.launch.py", f"rig:={new_rig()}", "namespace:=cell", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S, cwd=tmp_path)
    assert done.returncode == 1 and told in done.stdout and "process started" not in done.stdout, done.stdout


@pytest.mark.parametrize("node", ["camera", "arm", "policy", "teleop", "recorder"])
def test_a_node_of_the_package_starts_and_waits_to_be_configured(tmp_path, new_rig, node):
    name = "front_camera" if node == "camera" else node
    arguments = (f"node:={node}", f"rig:={new_rig()}", "namespace:=cell", *([f"name:={name}"] if node == "camera" else []))
    with launched(tmp_path, "node.launch.py", *arguments) as printed:
        until(lambda _: f"/cell/{name}" in ros2("lifecycle", "nodes", *LOOK).splitlines(), printed)
        assert ros2("lifecycle", "get", f"/cell/{name}", *LOOK) == "unconfigured [1]\n"
        assert "ROS 2 by rclpy" in printed()


def test_a_launch_that_is_killed_leaves_no_process_behind(tmp_path, new_rig):
    rig = new_rig(nodes=["arm", "teleop"])
    with launched(tmp_path, "bringup.launch.py", f"rig:={rig}", "namespace:=cell") as printed:
        until(lambda text: "arm: active" in text, printed)
        launch = int(subprocess.run(["pgrep", "-f", f"ros2 launch.*{rig}"], capture_output=True, text=True).stdout.split()[0])
        others = {int(pid) for pid in re.findall(r"process started with pid \[(\d+)\]", printed())}
        assert len(others) == 5, "the lab's two, arm, teleop, supervisor"
        os.kill(launch, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while left := [pid for pid in others if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < deadline, left
            time.sleep(0.2)


def test_the_graph_of_the_lab_comes_up_and_goes_down(tmp_path, new_rig):
    """Every node is active; one that is killed comes back and is activated again."""
    names = ("front_camera", "wrist_camera", "arm", "gripper", "teleop", "recorder", "policy")
    policy = Path(__file__).parents[2] / "robosteer_sim" / "pretrain" / "base"
    words = ("bringup.launch.py", f"rig:={new_rig()}", "namespace:=cell", f"policy:={policy}")

    def states():
        found = {name: ros2("lifecycle", "get", f"/cell/{name}", *LOOK).strip() for name in names}
        return {name: state for name, state in found.items() if state != "active [3]"}

    with launched(tmp_path, *words) as printed:
        until(lambda text: "policy: active" in text, printed)
        assert states() == {}
        killed = re.search(r"\[robosteer_teleop-\d+\]: process started with pid \[(\d+)\]", printed())
        os.kill(int(killed[1]), signal.SIGKILL)
        until(lambda text: text.count("teleop: active") == 2, printed)
        assert states() == {}
