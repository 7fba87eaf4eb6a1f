"""Ctrl-C in the terminal of `ros2 launch` reaches all nodes at once: whichever ends first, the arm comes to rest without a fault."""

import signal
import threading
from contextlib import ExitStack

import pytest

from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.graph.messages import values_of
from robosteer_ros.graph.qos import LATCHED
from robosteer_ros.ros import diagnostic_msgs, std_srvs

TASK = "touch the red button"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump(mode="json") | {"width": 160, "height": 120} for camera in load_rig("lab").cameras]
    return new_rig(cameras=cameras)


@pytest.fixture(scope="module")
def lab(rig_file, rig, start, start_lab):
    with start_lab(rig_file), start("sim", "cameras", "--rig", str(rig_file), line="cameras"):
        with LabLink(rig.lab.control, "test") as link:
            yield link


@pytest.fixture
def nodes(lab, rig_file, start_node, await_active):
    """The processes of arm, cameras and policy, by name."""
    with ExitStack() as running:
        found = {"arm": running.enter_context(start_node("arm", rig_file))}
        for name in ("front_camera", "wrist_camera"):
            found[name] = running.enter_context(start_node("camera", rig_file, "-r", f"__node:={name}"))
        for name in tuple(found):
            await_active(name)
        words = ("-p", "policy:=scripted", "-p", f"instruction:={TASK}")
        found["policy"] = running.enter_context(start_node("policy", rig_file, *words))
        await_active("policy")
        yield found


def run_for(caller, ticks):
    """Begin a run of the policy; returns when it has done so many ticks."""
    done = threading.Event()

    def hear(message):
        if float(values_of(message).get("ticks", 0)) >= ticks:
            done.set()

    heard = caller.create_subscription(diagnostic_msgs.msg.DiagnosticArray, "policy/status", hear, LATCHED)
    client = caller.create_client(std_srvs.srv.Trigger, "policy/start")
    assert client.wait_for_service(PATIENCE_S)
    answer = client.call(std_srvs.srv.Trigger.Request(), PATIENCE_S)
    assert answer.success, answer.message
    assert done.wait(PATIENCE_S)
    caller.destroy_client(client)
    caller.destroy_subscription(heard)


@pytest.mark.parametrize("first", ["all", "arm", "policy"])
def test_whoever_ends_first_the_arm_comes_to_rest_without_a_fault(lab, nodes, caller, first):
    lab.reset(TASK, 0, hold=True)
    run_for(caller, ticks=10)
    if first != "all":
        nodes[first].send_signal(signal.SIGINT)
        assert nodes[first].wait(PATIENCE_S) == 0
    for process in nodes.values():
        process.send_signal(signal.SIGINT)
    assert {name: process.wait(PATIENCE_S) for name, process in nodes.items()} == dict.fromkeys(nodes, 0)
    status = lab.status()
    assert (status["robot_mode"], status["moving"]) == ("idle", False)
