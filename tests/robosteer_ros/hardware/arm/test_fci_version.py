"""The version that a robot speaks, asked without opening a session, beside that of the installed binding."""

import os
import socket
import threading

import pytest

from robosteer_core.errors import UserError
from robosteer_ros.doctor import robot
from robosteer_ros.hardware.arm.bindings import open_arm
from robosteer_ros.hardware.arm.fci_version import FCI_PORT, binding_version, robot_version, what_fits

SPOKEN = {"fr3": 10, "panda": 5}


@pytest.fixture(scope="module")
def lab(rig_file, start_lab):
    with start_lab(rig_file):
        yield


def robot_finding(rig):
    return {finding.check: finding for finding in robot.findings(rig)}["robot"]


def test_a_robot_and_the_binding_of_its_driver_speak_the_same_version(lab, rig):
    assert robot_version(rig.arm.address) == binding_version(rig.arm.driver) == SPOKEN[rig.arm.model]
    assert robot_finding(rig).level == "ok"


def test_a_binding_of_another_version_fails_with_the_line_that_installs_the_right_one(lab, rig):
    wrong = {"fr3": "panda_py", "panda": "franky"}[rig.arm.model]
    finding = robot_finding(rig.model_copy(update={"arm": rig.arm.model_copy(update={"driver": wrong})}))
    extra = {"fr3": "ros", "panda": "panda"}[rig.arm.model]
    assert finding.level == "fail" and f"speaks server version {SPOKEN[rig.arm.model]}" in finding.found
    assert f"pip install -e '.[{extra}]'" in finding.remedy


def test_who_asks_for_the_version_is_in_nobodys_way_and_who_is_connected_is_left_alone(lab, rig):
    robot_version(rig.arm.address)
    driver = open_arm(rig.arm, rig.limits)
    assert f"is held by process {os.getpid()}" in robot_finding(rig).found
    assert robot_version(rig.arm.address) == SPOKEN[rig.arm.model]
    assert driver.read().robot_mode


@pytest.mark.parametrize("spoken, words", [
    (3, "libfranka_0-7-1_wheels"), (5, "[panda]"), (7, "libfranka_0-13-3_wheels"), (9, "libfranka_0-17-0_wheels"), (10, "[ros]"),
    (2, "no binding"),
])  # fmt: skip
def test_what_fits_each_version_is_said(spoken, words):
    assert words in what_fits(spoken)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_what_is_no_robot_is_told_from_one(answer):
    address = "127.93.7.1"
    with socket.create_server((address, FCI_PORT)) as server:

        def serve():
            peer, _ = server.accept()
            with peer:
                peer.recv(64)
                peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(UserError, match="is no robot: it answered"):
            robot_version(address)
