"""Processes of nodes as they are in use, on a simulated lab, and a node in this process that commands the arm's.

ROS is imported where it is needed: the tests in `ros/` set what its classes read when they are imported.
"""

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from robosteer_core.runtime.chunk import integrate_deltas
from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.lab_link import LabLink

sys.path.insert(0, str(Path(__file__).parent))  # drawn_camera, operator_hand

#: A little less than the time to the next tick, so that each pose is reached by then.
PERIOD_NS = 66_000_000
TASK = "press the red button"


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
    from robosteer_ros import ros
    from robosteer_ros.graph.participant import spinning

    ros.init(args=["test"])
    node = ros.create_node("caller")
    with spinning(node, ros.MultiThreadedExecutor(num_threads=2)):
        yield node
    ros.try_shutdown()


@pytest.fixture(scope="module")
def await_active(caller):
    """A function that returns when the lifecycle node of this name is active."""
    from robosteer_ros.ros import lifecycle_msgs

    def wait(name):
        client = caller.create_client(lifecycle_msgs.srv.GetState, f"{name}/get_state")
        assert client.wait_for_service(120), f"there is no node {name}"
        deadline = time.monotonic() + 60
        # No answer: who was asked is one that was killed, which DDS has not missed yet.
        while (answer := client.call(lifecycle_msgs.srv.GetState.Request(), 5)) is None or answer.current_state.label != "active":
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
    from robosteer_ros.graph.arm_link import GraphArm

    arms = {}

    def give(source="policy"):
        if source not in arms:
            arms[source] = GraphArm(caller, rig, source, patience_s=90)
        return arms[source]

    yield give
    for arm in arms.values():
        arm.close()


@pytest.fixture
def arm(graph_arms):
    return graph_arms("policy")


@pytest.fixture
def lab(arm_node, rig):
    with LabLink(rig.lab.control, "test") as link:
        yield link


@pytest.fixture
def tracking(rig, lab, arm):
    """A context manager: a fresh scene, this test joined as the policy, the arm tracking; gives the clock."""

    @contextmanager
    def track():
        arm.rest()
        lab.reset(TASK, 0, hold=True)
        clock = rig_clock(rig, "policy")
        try:
            arm.start()
            yield clock
        finally:
            arm.release()
            clock.close()
            arm.rest()

    return track


@pytest.fixture(scope="session")
def chunk():
    """A function that makes a chunk from where the command is: `chunk(state, clock, delta, count, gripper)`."""

    def make(state, clock, delta=(0.0,) * 6, count=1, gripper=0.0, lead_ns=PERIOD_NS):
        actions = np.tile([*delta, gripper], (count, 1))
        return integrate_deltas(state.commanded, actions, clock.now_ns() + lead_ns, PERIOD_NS)

    return make
