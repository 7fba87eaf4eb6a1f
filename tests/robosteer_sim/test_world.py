"""Physics of the lab and what it calls success."""

import mujoco
import numpy as np
import pytest

from robosteer_core.rig import load_rig
from robosteer_core.runtime.pose import TOOL_DOWN, Pose
from robosteer_core.runtime.quaternion import turn
from robosteer_sim.objects.button import BUTTON_RADIUS_M, BUTTON_TRAVEL_M
from robosteer_sim.rollout import Rollout
from robosteer_sim.world import World


@pytest.fixture(scope="module")
def rig():
    return load_rig("lab")


@pytest.fixture
def world(rig):
    return World(rig)


def test_the_arm_without_torque_stays_where_it_is(world):
    world.reset("press the red button", 0)
    before = world.joint_positions().copy()
    for _ in range(500):
        world.step(np.zeros(7))
    assert np.abs(world.joint_positions() - before).max() < 1e-3


def test_the_hand_points_down_at_home(world):
    world.reset("press the red button", 0)
    pose = world.end_effector_pose()
    tilt = turn(TOOL_DOWN, Pose.from_matrix(pose).quaternion)
    assert np.linalg.norm(tilt) < np.deg2rad(15)
    assert 0.15 < pose[2, 3] < 0.35


def test_the_gripper_opens_and_closes_at_the_speed_asked_for(world):
    world.reset("press the red button", 0)
    world.gripper_move(0.06, 0.1, 40.0)
    for _ in range(300):
        world.step(np.zeros(7))
    assert 0.02 < world.gripper_width() < 0.035
    for _ in range(600):
        world.step(np.zeros(7))
    assert world.gripper_width() == pytest.approx(0.06, abs=0.001)


def test_the_button_is_small_and_needs_a_hard_press(world):
    """At most 6 cm wide with 5 mm of travel; a light touch leaves it up."""
    assert 2 * BUTTON_RADIUS_M <= 0.06 and BUTTON_TRAVEL_M == 0.005
    world.reset("press the red button", 0)
    joint = world.model.joint("red_button")
    for force, pressed in ((5.0, False), (20.0, True)):
        for _ in range(400):
            world.data.qfrc_applied[joint.dofadr[0]] = force
            world.step(np.zeros(7))
        travel = world.data.qpos[joint.qposadr[0]]
        assert (travel > 0.9 * BUTTON_TRAVEL_M) == pressed
        assert travel < 1.1 * BUTTON_TRAVEL_M
    assert world.success()


def test_doing_nothing_is_no_success(world, rig):
    for task in ("touch the red cube", "press the red button", "push the red cube", "pick up the red cube"):
        world.reset(task, 3)
        rollout = Rollout(world, rig)
        for _ in range(15):
            rollout.apply(np.zeros(7))
        assert not world.success()


def test_contact_of_the_fingers_is_felt_in_the_joints(world, rig):
    world.reset("press the red button", 1)
    assert np.abs(world.external_load()).max() == 0
    from robosteer_sim.operator import Operator

    operator, rollout = Operator("press the red button"), Rollout(world, rig)
    largest = 0.0
    for _ in range(60):
        rollout.apply(operator.act(world.truth()))
        largest = max(largest, np.abs(world.external_load()).max())
        if world.success():
            break
    assert largest > 1.0


def test_the_same_reset_and_commands_give_the_same_numbers(world, rig):
    ends = []
    for _ in range(2):
        world.reset("push the blue cube", 9)
        rollout = Rollout(world, rig)
        for tick in range(20):
            rollout.apply(np.array([0.002, 0.001, -0.006, 0, 0, 0.01, 0]))
        ends.append(world.data.qpos.copy())
    assert np.array_equal(*ends)


def test_the_contacts_of_a_grasp_are_felt_as_mujoco_counts_them_one_by_one(world, rig):
    from robosteer_sim.operator import Operator

    world.reset("open the drawer", 10_001)
    operator, rollout, compared = Operator("open the drawer"), Rollout(world, rig), 0
    arm = {world.model.body(name).id for name in ("hand", "left_finger", "right_finger")}
    wrench, jacobian = np.zeros(6), np.empty((3, world.model.nv))
    while not world.success():
        rollout.apply(operator.act(world.truth()))
        torques, force = np.zeros(7), np.zeros(3)
        for index, contact in enumerate(world.data.contact):
            bodies = world.model.geom_bodyid[contact.geom].tolist()
            if (bodies[0] in arm) == (bodies[1] in arm):
                continue
            mujoco.mj_contactForce(world.model, world.data, index, wrench)
            on_arm = contact.frame.reshape(3, 3).T @ wrench[:3] * (-1 if bodies[0] in arm else 1)
            mujoco.mj_jac(world.model, world.data, jacobian, None, contact.pos, next(body for body in bodies if body in arm))
            torques += jacobian[:, world.arm_dof].T @ on_arm
            force += on_arm
            compared += 1
        np.testing.assert_allclose(world.external_load()[:7], torques, atol=1e-9)
        np.testing.assert_allclose(world.external_load()[7:10], force, atol=1e-9)
    assert compared > 100
