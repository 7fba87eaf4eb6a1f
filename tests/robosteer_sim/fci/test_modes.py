"""User stop, guiding and collisions as franky sees them; the lab runs in a thread, so that the tests can press the buttons."""

import itertools
import os
import threading
from queue import SimpleQueue

import numpy as np
import pytest
from franky import (
    Affine,
    CartesianImpedanceTracker,
    CartesianMotion,
    CommandException,
    ControlException,
    JointMotion,
    RealtimeConfig,
    ReferenceType,
    Robot,
)

from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.lab_link import LabLink
from robosteer_sim.lab_server import LabServer

_numbers = itertools.count(1)


class Lab:
    """A lab in this process. `do(what)` has its thread call `what(robot server)` between two turns."""

    def __init__(self, rig):
        self.host = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}.{next(_numbers) + 200}"
        self._server = LabServer(rig, self.host, f"{self.host}:0")
        self.control_address = self._server.control_address
        self._orders, self._over = SimpleQueue(), threading.Event()
        self._thread = threading.Thread(target=self._server.run, args=(self._attend,))
        self._thread.start()

    def _attend(self):
        while not self._orders.empty():
            what, done, answer = self._orders.get()
            answer.append(what(self._server._robot))
            done.set()
        return self._over.is_set()

    def do(self, what):
        done, answer = threading.Event(), []
        self._orders.put((what, done, answer))
        assert done.wait(10)
        return answer[0]

    def pull(self, force):
        def at_the_hand(server):
            world = server._world
            world.data.xfrc_applied[world.model.body("hand").id, :3] = force

        self.do(at_the_hand)

    def run(self, seconds):
        """Let robot time pass between motions."""
        world = self._server._world
        until = self.do(lambda _: world.data.time) + seconds
        while self.do(lambda _: world.data.time) < until:
            pass

    def close(self):
        self._over.set()
        self._thread.join()
        self._server.close()


@pytest.fixture
def here(lab_rig):
    lab = Lab(lab_rig)
    yield lab
    lab.close()


@pytest.fixture
def robot(here):
    robot = Robot(here.host, realtime_config=RealtimeConfig.Ignore)
    robot.relative_dynamics_factor = 0.1
    return robot


def test_the_user_stop_ends_a_motion_and_refuses_others_until_it_is_released(here, robot):
    start = np.array(robot.state.q)
    robot.move(JointMotion([0.3] * 7, ReferenceType.Relative), asynchronous=True)
    while np.abs(np.array(robot.state.q) - start).max() < 0.02:
        pass
    here.do(lambda server: server.user_stop(True))
    with pytest.raises(ControlException, match="User Stop pressed"):
        robot.join_motion(10)
    assert robot.state.robot_mode.name == "UserStopped"
    with pytest.raises(CommandException, match="not possible in the current mode .*User stopped"):
        robot.move(JointMotion([0.02] * 7, ReferenceType.Relative))
    with pytest.raises(CommandException, match="User Stop pressed"):
        robot.recover_from_errors()
    here.do(lambda server: server.user_stop(False))
    assert robot.state.robot_mode.name == "Idle"
    here.run(0.3)
    before = np.array(robot.state.q_d)
    robot.move(JointMotion([0.02] * 7, ReferenceType.Relative))
    np.testing.assert_allclose(robot.state.q_d, before + 0.02, atol=1e-4)


def test_a_guided_arm_is_led_and_refuses_motions(here, robot):
    robot.set_guiding_mode([True, True, True, False, False, False], True)
    here.do(lambda server: server.guide(True))
    start = np.array(robot.state.O_T_EE.translation)
    assert robot.state.robot_mode.name == "Guiding"
    with pytest.raises(CommandException, match="not possible in the current mode .*Guiding"):
        robot.move(JointMotion([0.02] * 7, ReferenceType.Relative))
    here.pull([0.0, 12.0, 0.0])
    here.run(0.5)
    here.pull([0.0, 0.0, 0.0])
    here.run(0.3)
    here.do(lambda server: server.guide(False))
    here.run(0.2)
    led = np.array(robot.state.O_T_EE.translation)
    assert led[1] - start[1] > 0.03 and robot.state.robot_mode.name == "Idle"
    # A motion starts from where the arm has been led.
    robot.move(CartesianMotion(Affine([0.0, 0.0, -0.02]), ReferenceType.Relative))
    np.testing.assert_allclose(np.array(robot.state.O_T_EE.translation) - led, [0, 0, 0.02], atol=2e-3)


FREE, DOWN = (0.40, -0.27, 0.05), (0.40, -0.27, -0.05)  # a free place beside the objects, and below the table


def test_running_into_the_table_is_a_reflex_by_force_and_the_arm_gets_away_again(here, robot):
    upright = robot.current_pose.end_effector_pose.quaternion
    robot.move(CartesianMotion(Affine(FREE, upright)))
    robot.set_collision_behavior([100.0] * 7, [100.0] * 7, [5.0] * 6, [25.0] * 6)
    with pytest.raises(ControlException, match='"cartesian_reflex"'):
        robot.move(CartesianMotion(Affine(DOWN, upright), ReferenceType.Absolute, 0.5))
    state = robot.state
    # It presses downwards, and that is the dimension that has collided; the mark stays until the recovery.
    assert state.O_F_ext_hat_K[2] < -5 and state.cartesian_collision[2] == 1 and not np.any(state.joint_collision)
    here.run(0.3)
    # It does not press on.
    assert abs(robot.state.O_F_ext_hat_K[2]) < 20 and robot.state.cartesian_collision[2] == 1
    assert robot.recover_from_errors() and not np.any(robot.state.cartesian_collision)
    robot.move(CartesianMotion(Affine(FREE, upright), ReferenceType.Absolute, 0.5))
    np.testing.assert_allclose(robot.state.O_T_EE.translation, FREE, atol=2e-3)
    assert not np.any(robot.state.cartesian_contact) and np.linalg.norm(robot.state.O_F_ext_hat_K) < 0.1


def test_a_low_torque_threshold_makes_it_a_reflex_of_the_joints(here, robot):
    upright = robot.current_pose.end_effector_pose.quaternion
    robot.move(CartesianMotion(Affine(FREE, upright)))
    robot.set_collision_behavior([3.0] * 7, [8.0] * 7, [200.0] * 6, [200.0] * 6)
    with pytest.raises(ControlException, match='"joint_reflex"'):
        robot.move(CartesianMotion(Affine(DOWN, upright), ReferenceType.Absolute, 0.5))
    assert np.any(robot.state.joint_collision) and not np.any(robot.state.cartesian_collision)


def test_the_contact_wrench_is_what_the_spring_presses_with(here, robot):
    upright = robot.current_pose.end_effector_pose.quaternion
    robot.move(CartesianMotion(Affine(FREE, upright)))
    robot.set_collision_behavior([100.0] * 7, [100.0] * 7, [5.0] * 6, [100.0] * 6)
    tracker = CartesianImpedanceTracker(robot, translational_stiffness=1000.0, rotational_stiffness=50.0)
    target = np.array(FREE)
    while target[2] > -0.02:
        target[2] -= 0.002
        tracker.set_target(Affine(target, upright))
        time = robot.state.time.to_msec()
        while robot.state.time.to_msec() < time + 20:
            pass
    while robot.state.time.to_msec() < time + 400:
        pass
    state = robot.state
    pressed = 1000.0 * (state.O_T_EE.translation[2] - target[2])
    # But for what the joints' friction takes; positive is what the robot does to the table.
    assert state.O_F_ext_hat_K[2] == pytest.approx(-pressed, rel=0.25) and pressed > 15
    assert state.cartesian_contact[2] == 1 and not np.any(state.cartesian_collision)
    np.testing.assert_allclose(np.array(state.K_F_ext_hat_K)[2], -state.O_F_ext_hat_K[2], rtol=0.05)
    jacobian = np.array(robot.model.zero_jacobian(_end_effector(), state)).reshape(6, 7)
    np.testing.assert_allclose(jacobian.T @ state.O_F_ext_hat_K, state.tau_ext_hat_filtered, atol=0.5)
    tracker.stop()


def _end_effector():
    from franky import Frame

    return Frame.EndEffector


def test_a_scene_that_cannot_be_put_up_is_an_error_and_the_one_before_stays(here, robot, monkeypatch):
    with LabLink(here.control_address, "test") as link:
        before = link.truth()

        def broken(*_):
            raise RuntimeError("no such mesh")

        with monkeypatch.context() as patch:
            patch.setattr("robosteer_sim.world.build", broken)
            with pytest.raises(Refused, match="'pick up the mug', seed 3.*RuntimeError: no such mesh.*the one before stays"):
                link.reset("pick up the mug", 3)
        after = link.truth()
        assert all(after[name] == before[name] for name in ("task", "seed", "variation", "instruction", "generation", "forms"))
        robot.move(JointMotion([0.02] * 7, ReferenceType.Relative))
        assert link.reset("pick up the mug", 3)["generation"] == before["generation"] + 1


def test_the_running_lab_is_guided_over_its_control_socket(here, robot):
    robot.set_guiding_mode([True, True, True, False, False, False], True)
    start = np.array(robot.state.O_T_EE.translation)
    with LabLink(here.control_address, "test") as link:
        for force in ([0.0, 60.0, 0.0], [0.0, 1.0], ["a", 0, 0], [float("nan"), 0.0, 0.0]):
            with pytest.raises(Refused, match="three numbers, N in the base frame, of at most 50 N"):
                link.guide(True, force)
        assert link.guide(True) == "guiding" == link.guide(True, (0.0, 12.0, 0.0))
        here.run(0.5)
        assert link.guide(True) == "guiding"
        here.run(0.3)
        assert link.guide(False) == "idle"
        here.run(0.2)
        assert robot.state.O_T_EE.translation[1] - start[1] > 0.03
        robot.move(JointMotion([0.3] * 7, ReferenceType.Relative), asynchronous=True)
        while not link.status()["moving"]:
            pass
        with pytest.raises(Refused, match="guided only at rest"):
            link.guide(True)
        robot.stop()
