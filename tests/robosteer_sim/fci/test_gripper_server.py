"""The simulated hand through franky."""

import os
import threading
import time
from contextlib import closing

import franky
import numpy as np
import pytest

from robosteer_sim.fci import wire
from robosteer_sim.fci.gripper_server import GripperServer
from robosteer_sim.fci.wire import GripperCommand
from robosteer_sim.poller import Poller
from robosteer_sim.world import World

TASK = "pick up the red cube"


@pytest.fixture
def gripper(lab, link):
    link.reset(TASK, 0)
    return franky.Gripper(lab.host)


def test_homing_finds_the_widest_opening(gripper):
    assert gripper.homing()
    assert gripper.state.width == pytest.approx(gripper.max_width, abs=2e-3) and gripper.max_width == pytest.approx(0.08)


def test_it_moves_to_a_width_and_says_when_it_is_there(gripper, link):
    before = link.now_ns()
    assert gripper.move(0.05, 0.05)
    assert gripper.state.width == pytest.approx(0.05, abs=2e-3)
    # 5 cm at 5 cm/s, and the time in which it is seen to stand still.
    assert 1.0 <= (link.now_ns() - before) / 1e9 < 1.6
    assert not gripper.state.is_grasped


def test_grasping_nothing_is_told_by_the_tolerance(gripper):
    gripper.move(0.06, 0.1)
    assert not gripper.grasp(0.04, 0.1, 20.0, epsilon_inner=0.005, epsilon_outer=0.005)
    assert not gripper.state.is_grasped
    assert gripper.move(0.06, 0.1)
    assert gripper.grasp(0.0, 0.1, 20.0, epsilon_inner=0.08, epsilon_outer=0.08)


def test_a_width_that_it_has_not_is_an_error(gripper):
    with pytest.raises(franky.CommandException, match="failed"):
        gripper.move(0.2, 0.1)


def test_a_later_command_aborts_the_one_before_and_stop_ends_it(gripper, lab, link):
    gripper.homing()
    outcome = []

    def slowly():
        try:
            outcome.append(gripper.move(0.0, 0.01))
        except franky.CommandException as error:
            outcome.append(str(error))

    thread = threading.Thread(target=slowly)
    with closing(lab.join()) as clock:
        thread.start()
        while link.truth()["gripper_width_m"] > 0.075:
            clock.sleep_until_ns(clock.now_ns() + 10_000_000)
        # libfranka sends the stop while the move is still unanswered.
        assert gripper.stop()
        thread.join(20)
    assert outcome and "aborted" in str(outcome[0])
    assert 0.02 < gripper.state.width < 0.079


def test_a_reset_ends_what_the_hand_is_doing(gripper, lab, link):
    with closing(lab.join()) as clock:
        future = gripper.move_async(0.08, 0.01)
        while link.truth()["gripper_width_m"] < 0.005:
            clock.sleep_until_ns(clock.now_ns() + 10_000_000)
        link.reset(TASK, 1)
        with pytest.raises(franky.CommandException, match="aborted"):
            future.get()
    assert link.truth()["gripper_width_m"] < 1e-3


def test_stuck_fingers_stay_and_commands_end_unsuccessful(gripper, link):
    assert gripper.move(0.06, 0.1)
    link.fault("gripper_stuck")
    assert not gripper.move(0.02, 0.1)
    # Not even where every width would do.
    assert not gripper.grasp(0.0, 0.1, 20.0, epsilon_inner=0.08, epsilon_outer=0.08)
    assert gripper.state.width == pytest.approx(0.06, abs=1e-3) and not gripper.state.is_grasped
    link.clear("gripper_stuck")
    assert gripper.move(0.02, 0.1)


def test_fingers_get_stuck_on_their_way(gripper, lab, link):
    gripper.homing()
    with closing(lab.join()) as clock:
        future = gripper.move_async(0.0, 0.05)
        while link.truth()["gripper_width_m"] > 0.05:
            clock.sleep_until_ns(clock.now_ns() + 10_000_000)
        link.fault("gripper_stuck", seconds=0.1)
        clock.close()
        assert not future.get()
    assert 0.03 < gripper.state.width < 0.05 and link.faults() == []


def test_an_object_is_lost_and_falls(gripper, lab, link):
    robot = lab.robot()
    robot.relative_dynamics_factor = 0.1
    start, cube = robot.state.O_T_EE, np.array(link.truth()["objects"]["red_cube"][:3])

    def go(*place):
        robot.move(franky.CartesianMotion(franky.Affine(place, start.quaternion)))

    def height():
        return link.truth()["objects"]["red_cube"][2]

    gripper.move(0.08, 0.1)
    go(*cube[:2], cube[2] + 0.1)
    go(*cube)
    assert gripper.grasp(0.04, 0.1, 40.0, epsilon_inner=0.02, epsilon_outer=0.02) and gripper.state.is_grasped
    go(*cube[:2], cube[2] + 0.1)
    assert height() > cube[2] + 0.09
    link.fault("gripper_lost_object")
    until_ns = link.now_ns() + 500_000_000
    while link.now_ns() < until_ns:
        time.sleep(0.01)
    assert height() < cube[2] + 0.01 and not gripper.state.is_grasped


def test_a_hand_that_closes_its_connection_is_a_network_error_and_can_be_had_again(gripper, lab, link):
    link.fault("gripper_disconnect")
    with pytest.raises(franky.NetworkException):
        gripper.state
    with pytest.raises(franky.NetworkException):
        gripper.move(0.02, 0.1)
    assert franky.Gripper(lab.host).move(0.02, 0.1)


def test_an_object_that_is_torn_out_of_the_hand_is_no_longer_grasped_and_neither_is_one_after_a_stop(lab_rig):
    def let_run(hand, steps):
        for _ in range(steps):
            world.step(np.zeros(7))
            hand.after_step()

    def grasp(hand):
        hand._handle(GripperCommand.GRASP, 1, wire.GRASP_REQUEST.pack(0.035, 0.015, 0.015, 0.1, 40.0))
        let_run(hand, 1500)
        return hand._grasping

    world = World(lab_rig)
    world.reset(TASK, 0)
    hand = GripperServer(world, f"127.{os.getpid() % 250 + 1}.9.1", Poller(), lambda _: None, lambda _: None)
    with closing(hand):
        hand._handle(GripperCommand.MOVE, 1, wire.MOVE_GRIPPER_REQUEST.pack(0.08, 0.1))
        let_run(hand, 1200)
        joint = world.model.joint("red_cube")
        cube_body = world.model.body("red_cube")
        world.data.xfrc_applied[cube_body.id, 2] = 9.81 * cube_body.mass[0]  # it waits for the fingers
        cube = slice(joint.qposadr[0], joint.qposadr[0] + 7)
        world.data.qpos[cube] = [*world.end_effector_pose()[:3, 3], 1, 0, 0, 0]
        world.data.qvel[joint.dofadr[0] : joint.dofadr[0] + 6] = 0
        assert grasp(hand)
        let_run(hand, 500)
        assert hand._grasping
        hand._handle(GripperCommand.STOP, 2, b"")
        assert not hand._grasping
        assert grasp(hand)
        world.data.xfrc_applied[cube_body.id, 2] = -200.0
        let_run(hand, 500)
        assert not hand._grasping and world.gripper_width() < 0.01
