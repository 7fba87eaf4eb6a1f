"""Processes of nodes as they are in use, and a node in this process that commands them."""

import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from robosteer_ros import ros
from robosteer_ros.arm_graph import GraphArm
from robosteer_ros.participant import spinning
from robosteer_ros.ros import MultiThreadedExecutor, create_node, lifecycle_msgs


@contextmanager
def node_process(name, rig, *words):
    """The process of a node, configured and active by itself; ended by SIGTERM."""
    arguments = ["-p", f"rig:={rig}", "-p", "autostart:=true", *words]
    process = subprocess.Popen([sys.executable, "-m", f"robosteer_ros.nodes.{name}", "--ros-args", *arguments])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def start_node():
    """`with start_node("arm", rig_file, "-p", "sources:=[user]") as process`."""
    return node_process


@pytest.fixture(scope="module")
def caller():
    """A node of this process with threads that spin it."""
    ros.init(args=["test"])
    node = create_node("caller")
    with spinning(node, MultiThreadedExecutor(num_threads=2)):
        yield node
    ros.try_shutdown()


@pytest.fixture(scope="module")
def await_active(caller):
    """A function that returns when the lifecycle node of this name is active."""

    def wait(name):
        client = caller.create_client(lifecycle_msgs.srv.GetState, f"{name}/get_state")
        assert client.wait_for_service(120), f"there is no node {name}"
        deadline = time.monotonic() + 60
        while client.call(lifecycle_msgs.srv.GetState.Request(), 10).current_state.label != "active":
            assert time.monotonic() < deadline, f"{name} does not become active"
            time.sleep(0.05)
        caller.destroy_client(client)

    return wait


@pytest.fixture(scope="module")
def arm_node(rig_file, start_lab, start_node):
    with start_lab(rig_file), start_node("arm", rig_file) as process:
        yield process


@pytest.fixture(scope="module")
def graph_arms(arm_node, caller, rig):
    """A function that gives the arm over the graph, as one of its sources."""
    arms = {}

    def give(source="policy"):
        if source not in arms:
            arms[source] = GraphArm(caller, rig, source, patience_s=90)
        return arms[source]

    yield give
    for arm in arms.values():
        arm.close()
