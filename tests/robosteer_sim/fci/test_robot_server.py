"""The simulated arm through franky, as users drive it."""

import builtins
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from franky import (
    Affine,
    CartesianImpedanceTracker,
    CartesianMotion,
    CartesianVelocityMotion,
    CommandException,
    ControlException,
    Duration,
    ElbowState,
    Frame,
    JointMotion,
    JointStopMotion,
    JointVelocityMotion,
    ReferenceType,
    RobotPose,
    TorqueStopMotion,
    Twist,
)

TASK = "press the red button"


@pytest.fixture
def robot(lab, link):
    """A new connection for each test, at the start of a scene."""
    wait_until(lambda: not link.status()["moving"])
    link.reset(TASK, 0)
    robot = lab.robot()
    robot.relative_dynamics_factor = 0.1
    return robot


def wait_until(done, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def position(robot):
    return np.array(robot.state.O_T_EE.translation)


def test_the_state_agrees_with_the_clients_own_model(robot, link):
    state = robot.state
    end_effector = link.truth()["end_effector"]
    np.testing.assert_allclose(state.O_T_EE.matrix, end_effector, atol=1e-4)
    np.testing.assert_allclose(robot.model.pose(Frame.EndEffector, state).matrix, state.O_T_EE.matrix, atol=1e-6)
    np.testing.assert_allclose(state.tau_J, robot.model.gravity(state), atol=0.2)
    assert np.abs(state.tau_ext_hat_filtered).max() < 0.1 and np.linalg.norm(state.O_F_ext_hat_K) < 0.5
    assert state.elbow.joint_3_pos == pytest.approx(state.q[2])


def test_cartesian_motions_arrive_and_come_back(robot, link):
    start = position(robot)
    robot.move(CartesianMotion(Affine([0.04, -0.02, 0.03]), ReferenceType.Relative))
    away = position(robot)
    robot.move(CartesianMotion(Affine([-0.04, 0.02, -0.03]), ReferenceType.Relative))
    # The relative motion is in the hand's frame, which is upside down.
    assert np.linalg.norm(away - start) == pytest.approx(np.linalg.norm([0.04, 0.02, 0.03]), abs=3e-4)
    np.testing.assert_allclose(position(robot), start, atol=2e-4)
    status = link.status()
    assert (status["lost_cycles"], status["uneven_starts"]) == (0, 0)


def test_joint_motions_arrive(robot):
    start = np.array(robot.state.q)
    robot.move(JointMotion((start + 0.1).tolist()))
    np.testing.assert_allclose(robot.state.q, start + 0.1, atol=5e-4)
    np.testing.assert_allclose(robot.state.q_d, start + 0.1, atol=1e-5)


def test_a_commanded_elbow_is_taken_up(robot):
    pose, elbow = robot.state.O_T_EE, robot.state.q[2] + 0.15
    robot.move(CartesianMotion(RobotPose(pose, ElbowState(elbow))))
    assert robot.state.q[2] == pytest.approx(elbow, abs=1e-3)
    np.testing.assert_allclose(position(robot), pose.translation, atol=5e-4)


def test_velocity_motions_go_as_far_as_they_should(robot):
    start, joints = position(robot), np.array(robot.state.q)
    robot.move(CartesianVelocityMotion(Twist([0.1, 0.0, 0.0], [0.0, 0.0, 0.0]), Duration(300)))
    robot.move(CartesianVelocityMotion(Twist([-0.1, 0.0, 0.0], [0.0, 0.0, 0.0]), Duration(300)))
    np.testing.assert_allclose(position(robot), start, atol=5e-4)
    robot.move(JointVelocityMotion([0.1] * 7, Duration(200)))
    moved = np.array(robot.state.q) - joints
    robot.move(JointStopMotion())
    assert np.all(moved > 0.01) and np.ptp(moved) < 2e-3


def test_the_tracker_follows_set_points_and_is_stopped(robot, link):
    start, clock_start = robot.state.O_T_EE, link.now_ns()
    tracker = CartesianImpedanceTracker(robot, translational_stiffness=1000.0, rotational_stiffness=50.0)
    target = start.translation + np.array([0.0, 0.03, -0.02])
    tracker.set_target(Affine(target, start.quaternion), Twist())
    wait_until(lambda: link.now_ns() > clock_start + 1_200_000_000)
    assert np.linalg.norm(position(robot) - target) < 8e-3
    robot.move(TorqueStopMotion())
    assert not robot.is_in_control
    rest = position(robot)
    wait_until(lambda: link.now_ns() > clock_start + 2_000_000_000)
    np.testing.assert_allclose(position(robot), rest, atol=2e-4)


def test_a_running_motion_is_replaced_and_stopped(robot):
    start = position(robot)
    robot.move(CartesianMotion(Affine([0.0, 0.0, 0.2]), ReferenceType.Relative, 0.1), asynchronous=True)
    robot.move(CartesianMotion(Affine([0.03, 0.0, 0.0]), ReferenceType.Relative), asynchronous=True)
    assert robot.join_motion(30)
    assert 0.02 < np.linalg.norm(position(robot) - start) < 0.15
    start = position(robot)
    robot.move(CartesianMotion(Affine([0.0, 0.1, 0.0]), ReferenceType.Relative, 0.05), asynchronous=True)
    wait_until(lambda: np.linalg.norm(position(robot) - start) > 1e-3)
    robot.stop()
    with pytest.raises(ControlException, match="preempted"):
        robot.join_motion(30)
    assert robot.state.robot_mode.name == "Idle"
    assert np.linalg.norm(position(robot) - start) < 0.05
    robot.move(JointMotion([0.02] * 7, ReferenceType.Relative))


def test_settings_are_taken_or_refused_without_harm(robot):
    robot.set_collision_behavior(30.0, 40.0)
    robot.set_joint_impedance([3000.0, 3000.0, 3000.0, 2500.0, 2500.0, 2000.0, 2000.0])
    robot.set_cartesian_impedance([2000.0, 2000.0, 2000.0, 100.0, 100.0, 100.0])
    robot.set_load(0.2, [0.0, 0.0, 0.05], [1e-3, 0, 0, 0, 1e-3, 0, 0, 0, 1e-3])
    assert robot.state.m_load == pytest.approx(0.2)
    nominal = position(robot)
    tool = np.eye(4)
    tool[2, 3] = 0.1
    robot.set_ee(tool.ravel(order="F").tolist())
    assert nominal[2] - position(robot)[2] == pytest.approx(0.1, abs=5e-3)
    robot.move(CartesianMotion(Affine([0.0, 0.0, -0.05]), ReferenceType.Relative))
    assert nominal[2] - position(robot)[2] == pytest.approx(0.05, abs=5e-3)
    robot.set_ee(np.eye(4).ravel().tolist())
    robot.set_guiding_mode([True, True, True, False, False, False], True)
    with pytest.raises(builtins.Exception, match="invalid argument"):
        robot.set_cartesian_impedance([5000.0, 2000.0, 2000.0, 100.0, 100.0, 100.0])
    with pytest.raises(builtins.Exception, match="invalid argument"):
        robot.set_collision_behavior(-1.0, 40.0)
    robot.move(JointMotion([0.2] * 7, ReferenceType.Relative), asynchronous=True)
    with pytest.raises(builtins.Exception, match="not possible in the current mode .*Move"):
        robot.set_joint_impedance([3000.0] * 7)
    robot.set_collision_behavior(30.0, 40.0)
    assert robot.join_motion(30)
    robot.move(JointMotion([-0.02] * 7, ReferenceType.Relative))


def test_a_reflex_is_named_and_nothing_moves_until_recovery(robot):
    beyond = np.array(robot.state.q)
    beyond[3] = -0.05
    # Its velocity is limited by what is left of the range, so that limit comes first.
    with pytest.raises(ControlException, match="joint_motion_generator_velocity_limits_violation"):
        robot.move(JointMotion(beyond.tolist()))
    assert robot.has_errors and robot.state.robot_mode.name == "Reflex"
    with pytest.raises(CommandException, match="not possible in the current mode .*Reflex"):
        robot.move(JointMotion([-0.05] * 7, ReferenceType.Relative))
    assert robot.recover_from_errors() and not robot.has_errors
    start = np.array(robot.state.q)
    robot.move(JointMotion([0.0, 0.0, 0.0, -0.1, 0.0, 0.0, 0.0], ReferenceType.Relative))
    assert robot.state.q[3] - start[3] == pytest.approx(-0.1, abs=1e-3)


CLIENT = """
import sys
from franky import *
robot = Robot(sys.argv[1], realtime_config=RealtimeConfig.Ignore)
robot.relative_dynamics_factor = 0.05
while True:
    robot.move(CartesianMotion(Affine([0.0, 0.0, -0.1]), ReferenceType.Relative))
    robot.move(CartesianMotion(Affine([0.0, 0.0, 0.1]), ReferenceType.Relative))
"""


def test_a_client_killed_in_mid_motion_leaves_the_arm_at_rest_for_the_next_one(lab, link):
    link.reset(TASK, 0)
    for _ in range(2):
        client = subprocess.Popen([sys.executable, "-c", CLIENT, lab.host])
        wait_until(lambda: link.status()["moving"])
        client.send_signal(signal.SIGKILL)
        client.wait()
        wait_until(lambda: not link.status()["moving"])
    next_one = lab.robot()
    time_then = link.now_ns()
    wait_until(lambda: link.now_ns() > time_then + 300_000_000)
    state = next_one.state
    assert state.robot_mode.name == "Idle" and np.abs(state.dq).max() < 1e-3
    next_one.relative_dynamics_factor = 0.3
    next_one.move(JointMotion([0.02] * 7, ReferenceType.Relative))


def test_a_client_that_is_stopped_holds_the_arm_and_goes_on(lab, link):
    link.reset(TASK, 0)
    client = subprocess.Popen([sys.executable, "-c", CLIENT, lab.host])
    try:
        wait_until(lambda: link.status()["moving"])
        client.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        stopped_ns = link.now_ns()
        time.sleep(1.5)
        assert link.now_ns() == stopped_ns
        client.send_signal(signal.SIGCONT)
        wait_until(lambda: link.now_ns() > stopped_ns + 100_000_000)
        assert link.status()["lost_cycles"] == 0 and client.poll() is None
    finally:
        client.kill()
        client.wait()


def test_at_wall_pace_a_client_that_is_stopped_loses_the_motion(start_lab):
    with start_lab("--pace", "real") as lab, lab.observe() as link:
        client = subprocess.Popen([sys.executable, "-c", CLIENT, lab.host])
        try:
            wait_until(lambda: link.status()["moving"])
            start_ns = link.now_ns()
            wait_until(lambda: link.now_ns() > start_ns + 200_000_000)
            client.send_signal(signal.SIGSTOP)
            wait_until(lambda: link.status()["robot_mode"] == "reflex")
            assert link.status()["missed_cycles"] >= 20 and not link.status()["moving"]
        finally:
            client.kill()
            client.wait()
        wait_until(lambda: not link.status()["moving"])
        # The error outlives the connection in which it arose.
        robot = lab.robot()
        assert robot.has_errors and robot.state.robot_mode.name == "Reflex"
        with pytest.raises(CommandException, match="not possible in the current mode .*Reflex"):
            robot.move(JointMotion([0.02] * 7, ReferenceType.Relative))
        assert robot.recover_from_errors() and not robot.has_errors


def test_many_connections_in_a_row(lab, link):
    wait_until(lambda: not link.status()["moving"])
    for _ in range(10):
        robot = lab.robot()
        assert len(robot.state.q) == 7
        del robot
