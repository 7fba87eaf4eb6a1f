"""The simulated Panda through panda-python, which brings libfranka 0.9, as users drive it."""

import os
import socket
import struct
from contextlib import closing

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_sim.fci import wire
from robosteer_sim.fci.versions import V5
from robosteer_sim.panda.model_library import library_path

panda_py = pytest.importorskip("panda_py", reason="panda-python is not installed: pip install -e '.[panda]'")
controllers = pytest.importorskip("panda_py.controllers")
libfranka = pytest.importorskip("panda_py.libfranka")
TASK, MS = "press the red button", 1_000_000


@pytest.fixture(scope="module")
def lab(start_lab):
    try:
        library_path()
    except UserError as error:
        pytest.skip(str(error))
    with start_lab("--rig", "panda_lab") as running:
        yield running


@pytest.fixture
def panda(lab, link):
    link.reset(TASK, 0)
    panda = panda_py.Panda(lab.host)
    yield panda
    del panda
    # As root, libfranka gives the thread that moves the arm the highest priority.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_the_state_is_the_arms_and_the_clients_model_agrees_with_it(panda, link):
    state, model = panda.get_state(), panda.get_model()
    assert panda.get_robot().server_version() == 5
    pose = np.reshape(state.O_T_EE, (4, 4), order="F")
    np.testing.assert_allclose(pose, link.truth()["end_effector"], atol=1e-9)
    np.testing.assert_allclose(model.pose(libfranka.Frame.kEndEffector, state), state.O_T_EE, atol=1e-9)
    np.testing.assert_allclose(state.tau_J, model.gravity(state), atol=0.2)
    assert state.m_ee == 0.73 and np.abs(state.tau_ext_hat_filtered).max() < 0.1


def test_joint_positions_are_reached(panda, link):
    goal = np.array(panda.q) + 0.1
    assert panda.move_to_joint_position(goal, speed_factor=0.2)
    np.testing.assert_allclose(panda.get_state().q, goal, atol=4e-3)
    assert link.status()["lost_cycles"] == link.status()["uneven_starts"] == 0


def test_impedance_follows_set_points_at_50_hz_and_two_runs_are_identical(panda, lab, link):
    def run():
        link.reset(TASK, 0, hold=True)
        position, orientation, q = panda.get_position(), panda.get_orientation(), np.array(panda.get_state().q)
        controller, rows = controllers.CartesianImpedance(), []
        with closing(lab.join()) as clock:
            panda.start_controller(controller)
            start_ns = clock.now_ns()
            for tick in range(1, 51):
                clock.sleep_until_ns(start_ns + tick * 20 * MS)
                rows.append([*panda.get_position() - position, *panda.get_state().q])
                controller.set_control(position + [0, 0.002 * tick, 0], orientation, q)
        panda.teaching_mode(False)  # ends the controller as stop_controller does, with the interpreter let go
        return np.array(rows)

    first, second = run(), run()
    np.testing.assert_array_equal(first, second)
    # Behind the set-point by damping over stiffness, 82 ms of 0.1 m/s; and by friction.
    np.testing.assert_allclose(first[-1, :3], [0, 0.098 - 0.0082, 0], atol=8e-3)
    assert link.status()["lost_cycles"] == link.status()["uneven_starts"] == 0


def test_its_own_limits_are_enforced_and_it_recovers(panda):
    """2.3 rad/s of the first joint: within the FR3's limit, beyond the Panda's of 2.175."""
    speeds = iter(np.arange(0.01, 2.3, 0.01))

    def faster(state, duration):
        return libfranka.JointVelocities([next(speeds), 0, 0, 0, 0, 0, 0])

    robot = panda.get_robot()
    with pytest.raises(RuntimeError, match="joint_motion_generator_velocity_limits_violation"):
        robot.control_joint_velocity(faster, limit_rate=False, cutoff_frequency=1000.0)
    assert 2.1 < next(speeds) < 2.25
    assert panda.get_state().robot_mode == libfranka.RobotMode.kReflex
    while np.abs(panda.get_state().dq).max() > 1e-3:
        pass  # it brakes by itself
    robot.automatic_error_recovery()
    assert panda.move_to_joint_position(np.array(panda.get_state().q) - 0.1, speed_factor=0.2)


def test_what_only_this_version_asks_for_is_answered(lab):
    """By bytes, because panda-python passes on neither."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    requests = [
        (V5.commands.CONNECT, struct.pack("<HH", 5, udp.getsockname()[1]), struct.pack("<BH", 0, 5)),
        (V5.commands.GET_CARTESIAN_LIMIT, struct.pack("<i", 1), struct.pack("<B19d?", 0, 0, 0, 0, *np.eye(4).ravel(), False)),
        (V5.commands.SET_FILTERS, struct.pack("<5d", *[1000.0] * 5), b"\0"),
        (V5.commands.SET_FILTERS, struct.pack("<5d", *[100.0] * 5), b"\2"),
        (V5.commands.LOAD_MODEL_LIBRARY, b"\1\1", b"\1"),  # for Windows on x86
        (V5.commands.MOVE, bytes(113), b"\5"),  # of version 10
        (V5.commands.MOVE, struct.pack("<II6d", 2, 4, *[0.0] * 6), b"\5"),  # without a motion generator, as there
    ]
    with udp, socket.create_connection((lab.host, wire.ROBOT_PORT), timeout=10) as client:
        for number, (command, payload, answer) in enumerate(requests):
            client.sendall(wire.ROBOT_HEADER.pack(command, number, 12 + len(payload)) + payload)
            expected = wire.ROBOT_HEADER.pack(command, number, 12 + len(answer)) + answer
            assert client.recv(4096) == expected


def test_the_hand_opens_and_grasps_nothing(panda, lab):
    gripper = libfranka.Gripper(lab.host)
    assert gripper.move(0.06, 0.1) and gripper.read_once().width == pytest.approx(0.06, abs=1e-3)
    assert not gripper.grasp(0.03, 0.1, 20.0, 0.005, 0.005)


def test_a_client_of_the_fr3s_version_is_told_which_one_is_spoken(lab):
    from franky import RealtimeConfig, Robot

    with pytest.raises(Exception, match="server version: 5, library version: 10"):
        Robot(lab.host, realtime_config=RealtimeConfig.Ignore)
