"""What goes wrong with an arm, and what its node makes of it."""

import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.chunk import integrate_deltas
from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.graph.arm_link import GraphArm
from robosteer_ros.hardware.arm.bindings import FCI_PORT, open_arm


def wait_until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.005)


@pytest.fixture
def arm_of(caller):
    """A function that gives the arm of a rig over the graph, as its user."""
    arms = []

    def give(rig):
        arms.append(GraphArm(caller, rig, "user", patience_s=90))
        return arms[-1]

    yield give
    for arm in arms:
        arm.close()


@pytest.fixture(scope="module")
def awkward_rig(new_arm_rig):
    """An arm that starts outside its workspace, and whose way home leads past the fourth joint's limit."""
    box = {"low_m": [0.25, -0.35, 0.05], "high_m": [0.40, 0.35, 0.10]}
    return new_arm_rig(arm={"home_joint_positions_rad": [0.0, -0.35, 0.0, -0.05, 0.0, 2.0, 0.785]}, limits={"workspace": box})


@pytest.fixture(scope="module")
def start_awkward_lab(awkward_rig, start_lab):
    """Its lab puts the arm some way before that limit."""
    content = yaml.safe_load(awkward_rig.read_text())
    content["arm"]["home_joint_positions_rad"] = [0.0, -0.35, 0.0, -0.5, 0.0, 2.0, 0.785]
    path = awkward_rig.with_name("lab.yaml")
    path.write_text(yaml.safe_dump(content))
    return lambda: start_lab(path)


def test_faults_are_named_and_nothing_moves_before_they_are_dealt_with(awkward_rig, start_awkward_lab, start_node, arm_of):
    """One arm node through a refused start, a reflex, a second client of the same arm, and the loss of its robot."""
    rig = load_rig(awkward_rig)
    with start_awkward_lab() as lab_process, start_node("arm", awkward_rig) as node_process:
        arm = arm_of(rig)
        with pytest.raises(Refused, match=r"at \(0\.\d+, .* outside the rig's workspace"):
            arm.start()

        arm.home()
        # The less is left of a joint's range, the slower it may move: that limit comes first.
        error = "joint_motion_generator_velocity_limits_violation"
        if rig.arm.driver == "panda_py":  # which does not let a joint come that far
            error = "cartesian_reflex"
            with LabLink(rig.lab.control, "test") as lab:
                wait_until(lambda: lab.status()["moving"])
                lab.fault("reflex", error=error)
        arm.rest()
        status = arm.status()
        assert status["mode"] == status["modes"][-1]["mode"] == "fault"
        assert status["last_error"].startswith(f"{error}: ")
        for request in (arm.start, arm.home):
            with pytest.raises(Refused, match=f"{error}.*recover"):
                request()
        arm.recover()
        assert arm.status()["mode"] == "idle" and arm.status()["last_error"] is None
        # It settles where the reflex caught it, 0.1 rad and more short of where it was going, and does not go on.
        assert arm.status()["motion"] is None
        assert all(arm.state().joint_positions[3] < -0.14 for _ in range(50))

        with pytest.raises(UserError, match=f"takes one client, and has one: process {node_process.pid} "):
            open_arm(rig.arm, rig.limits)
        assert arm.status()["mode"] == "idle"

        lab_process.send_signal(signal.SIGKILL)
        wait_until(lambda: arm.status()["mode"] == "fault")
        assert arm.status()["last_error"]
        with pytest.raises(Refused, match=f"no robot at {rig.arm.address}"):
            arm.recover()
        with pytest.raises(Refused, match="recover"):
            arm.start()
        # Started again, the robot is found again; the arm's node lives on.
        lab_process.wait(10)
        with start_awkward_lab():
            arm.recover()
            assert (arm.status()["mode"], arm.status()["robot_mode"]) == ("idle", "Idle")
        assert node_process.poll() is None


def test_on_wall_time_the_arm_follows_holds_and_comes_to_rest_when_its_node_is_terminated(
    new_arm_rig, start_lab, start_node, arm_of
):  # fmt: skip
    """As on a real arm: the rig has no section `lab`, so nothing but the FCI ties the two together."""
    lab_path = new_arm_rig()
    content = yaml.safe_load(lab_path.read_text()) | {"lab": None}
    for camera in content["cameras"]:
        camera["serial"] = camera["name"]
    path = lab_path.with_name("real.yaml")
    path.write_text(yaml.safe_dump(content))
    rig, control = load_rig(path), load_rig(lab_path).lab.control
    with start_lab(lab_path, pace="real"), start_node("arm", path) as process, LabLink(control, "test") as lab:
        arm = arm_of(rig)
        arm.start()
        start = arm.state()
        assert abs(start.stamp_ns - time.monotonic_ns()) < 1e9
        arm.send(integrate_deltas(start.commanded, np.tile([0, 0, -0.01, 0, 0, 0, 0], (5, 1)), start.stamp_ns + 10**8, 10**8))
        # It may hold already where the first set-points were slow to come.
        wait_until(lambda: arm.state().commanded.position[2] < start.commanded.position[2] - 0.005)
        wait_until(lambda: arm.state().mode == "holding")
        held = arm.state()
        # Measured when a frame was captured, commanded now.
        captured_ns = held.stamp_ns - 10**8
        aligned = arm.state(captured_ns)
        assert abs(aligned.stamp_ns - captured_ns) < held.stamp_ns - captured_ns and aligned.commanded == held.commanded
        hold = arm.status()["modes"][-1]
        assert hold["stamp_ns"] - arm.status()["last_chunk_ns"] >= 200e6
        assert lab.status()["moving"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not lab.status()["moving"]


@pytest.mark.parametrize("address, reason", [("127.0.0.254", "refused"), ("no-such-robot.invalid", "not found|DNS error")])
def test_a_wrong_robot_address_is_named(new_arm_rig, address, reason):
    rig = load_rig(new_arm_rig(arm={"address": address}))
    with pytest.raises(UserError, match=f"no robot at {address}.*({reason})(?s:.*)arm.address"):
        open_arm(rig.arm, rig.limits)


def test_a_host_that_never_answers_is_given_up_within_3_s(rig):
    """A port that takes connections and says nothing is the longest wait there is."""
    with socket.create_server((rig.arm.address, FCI_PORT)) as silent:
        began = time.monotonic()
        with pytest.raises(UserError, match=f"no robot at {rig.arm.address}.*no answer"):
            open_arm(rig.arm, rig.limits)
        assert time.monotonic() - began < 3.0


def test_a_robot_that_another_process_holds_is_told_with_that_process(rig):
    code = f"import socket; held = socket.create_connection(('{rig.arm.address}', {FCI_PORT})); print(flush=True); input()"
    with socket.create_server((rig.arm.address, FCI_PORT)):
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            holder.stdout.readline()
            with pytest.raises(UserError, match=f"takes one client, and has one: process {holder.pid} "):
                open_arm(rig.arm, rig.limits)
            holder.communicate("\n")
