"""Every kind of motion that franky has, with the limits of the FR3 enforced."""

import time

import franky
import numpy as np
import pytest
from franky import Affine, Duration, ReferenceType, Twist

TASK = "press the red button"
UP, DOWN = Affine([0.0, 0.0, -0.03]), Affine([0.0, 0.0, 0.03])  # in the hand's frame, which is upside down
RELATIVE = ReferenceType.Relative


@pytest.fixture(scope="module")
def robot(lab):
    return lab.robot()


@pytest.fixture(autouse=True)
def fresh(robot, lab):
    """At the start of a scene, within what the FR3 allows: franky's own limits are those of the FER (seen with 2.0.0), and its
    Cartesian ones hold for each axis by itself."""
    with lab.observe() as link:
        link.reset(TASK, 0)
    robot.relative_dynamics_factor = 0.1


def turned(angle):
    return Affine(np.array([[np.cos(angle), -np.sin(angle), 0, 0], [np.sin(angle), np.cos(angle), 0, 0],
                            [0, 0, 1, 0], [0, 0, 0, 1.0]]))  # fmt: skip


def cartesian_waypoints():
    return franky.CartesianWaypointMotion(
        [franky.CartesianWaypoint(UP, RELATIVE), franky.CartesianWaypoint(turned(0.3), RELATIVE, minimum_time=Duration(400))]
    )


def cartesian_velocity_waypoints():
    twist = Twist([0.05, 0.0, 0.02], [0.0, 0.0, 0.1])
    return franky.CartesianVelocityWaypointMotion(
        [
            franky.CartesianVelocityWaypoint(twist, hold_target_duration=Duration(200)),
            franky.CartesianVelocityWaypoint(Twist([0, 0, 0], [0, 0, 0])),
        ]
    )


def joint_velocity_waypoints():
    return franky.JointVelocityWaypointMotion(
        [
            franky.JointVelocityWaypoint([0.2] * 7, hold_target_duration=Duration(200)),
            franky.JointVelocityWaypoint([0.0] * 7),
        ]
    )


def joint_waypoints():
    return franky.JointWaypointMotion(
        [franky.JointWaypoint([0.1] * 7, RELATIVE), franky.JointWaypoint([-0.05] * 7, RELATIVE)]
    )


@pytest.mark.parametrize(
    "motion",
    [
        lambda: franky.CartesianMotion(UP, RELATIVE),
        lambda: franky.CartesianMotion(turned(0.4), RELATIVE),
        cartesian_waypoints,
        lambda: franky.CartesianVelocityMotion(Twist([0.1, 0.0, 0.0], [0.0, 0.0, 0.2]), Duration(300)),
        cartesian_velocity_waypoints,
        lambda: franky.JointMotion([0.2] * 7, RELATIVE),
        joint_waypoints,
        lambda: franky.JointVelocityMotion([0.3] * 7, Duration(300)),
        joint_velocity_waypoints,
    ],
    ids=lambda motion: motion.__name__,
)
@pytest.mark.parametrize("controller", ["JointImpedance", "CartesianImpedance"])
def test_position_and_velocity_motions_run_to_their_end(robot, motion, controller):
    start = np.array(robot.state.q)
    robot.controller_mode = getattr(franky.ControllerMode, controller)
    assert robot.move(motion()) is not False
    robot.controller_mode = franky.ControllerMode.JointImpedance
    assert robot.state.robot_mode.name == "Idle" and not robot.has_errors
    moved = np.array(robot.state.q_d) - start
    assert np.abs(moved).max() > 0.01
    # The arm is where it should be; the Cartesian controller is soft against friction.
    np.testing.assert_allclose(robot.state.q, robot.state.q_d, atol=1e-3 if controller == "JointImpedance" else 2e-2)


@pytest.mark.parametrize(
    ("motion", "stop"),
    [
        (lambda: franky.CartesianMotion(Affine([0, 0, -0.2]), RELATIVE, 0.5), franky.CartesianStopMotion),
        (lambda: franky.CartesianVelocityMotion(Twist([0.05, 0, 0], [0, 0, 0])), franky.CartesianVelocityStopMotion),
        (lambda: franky.JointMotion([0.5] * 7, RELATIVE), franky.JointStopMotion),
        (lambda: franky.JointVelocityMotion([0.1] * 7), franky.JointVelocityStopMotion),
    ],
    ids=["Cartesian", "CartesianVelocity", "Joint", "JointVelocity"],
)
def test_a_stop_motion_ends_a_running_one(robot, motion, stop):
    start = np.array(robot.state.q)
    robot.move(motion(), asynchronous=True)
    while np.abs(np.array(robot.state.q) - start).max() < 0.01:
        time.sleep(0.001)
    robot.move(stop())
    assert robot.state.robot_mode.name == "Idle" and np.abs(robot.state.dq).max() < 0.02


def impedance(target):
    return franky.CartesianImpedanceMotion(target, translational_stiffness=800.0)


@pytest.mark.parametrize(
    "motion",
    [
        lambda state: impedance(Affine(state.O_T_EE.translation + [0, 0, 0.03], state.O_T_EE.quaternion)),
        lambda state: franky.JointImpedanceMotion(np.array(state.q) + 0.05),
        lambda state: franky.SimpleTorqueMotion(np.array([0, 0, 0, 0, 0, 0, 0.8]), signal_timeout=None),
    ],
    ids=["CartesianImpedance", "JointImpedance", "SimpleTorque"],
)
def test_torque_motions_move_and_are_stopped(robot, motion):
    start = np.array(robot.state.q)
    motion = motion(robot.state)
    # In robot time, which does not wait for this test.
    motion.add_reaction(franky.TorqueReaction(franky.Measure.REL_TIME > 0.3, franky.TorqueStopMotion()))
    robot.move(motion)
    assert robot.state.robot_mode.name == "Idle" and not robot.has_errors
    assert np.abs(np.array(robot.state.q) - start).max() > 0.01


@pytest.mark.parametrize("kind", ["Cartesian", "Joint"])
def test_trackers_follow_their_targets(robot, kind):
    state = robot.state
    tracker = getattr(franky, f"{kind}ImpedanceTracker")(robot)
    if kind == "Cartesian":
        target = state.O_T_EE.translation + np.array([0.0, 0.03, 0.0])
        tracker.set_target(Affine(target, state.O_T_EE.quaternion))
    else:
        target = np.array(state.q) + 0.05
        tracker.set_target(target)
    begun = robot.state.time.to_msec()
    while robot.state.time.to_msec() < begun + 600:
        time.sleep(0.001)
    here = robot.state.O_T_EE.translation if kind == "Cartesian" else np.array(robot.state.q)
    tracker.stop()
    assert np.abs(here - target).max() < (0.015 if kind == "Cartesian" else 0.03)
    assert not robot.has_errors


def test_every_motion_class_of_franky_is_in_here():
    """A new franky with a new kind of motion is to be looked at."""
    tried = {
        "CartesianMotion", "CartesianWaypointMotion", "CartesianVelocityMotion", "CartesianVelocityWaypointMotion",
        "JointMotion", "JointWaypointMotion", "JointVelocityMotion", "JointVelocityWaypointMotion", "CartesianStopMotion",
        "CartesianVelocityStopMotion", "JointStopMotion", "JointVelocityStopMotion", "CartesianImpedanceMotion",
        "JointImpedanceMotion", "SimpleTorqueMotion", "TorqueStopMotion",
        # The trackers' own, which they begin by themselves.
        "CartesianImpedanceTrackingMotion", "JointImpedanceTrackingMotion",
    }  # fmt: skip
    bases = {"Motion", "ImpedanceMotion"}
    assert {name for name in dir(franky) if name.endswith("Motion") and not name.startswith("Base")} - bases == tried
