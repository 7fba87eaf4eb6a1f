import numpy as np
import pytest

from robosteer_sim.fci import wire
from robosteer_sim.fci.kinematics import ArmKinematics, moved_by, twist_between
from robosteer_sim.fci.reference import MAX_JOINT_VELOCITIES, STOP_RAD_PER_S2, HoldReference, reference_for
from robosteer_sim.fci.wire import Generator, RobotError

MS = 0.001
HOME = np.array([0.0, -0.1, 0.0, -2.43, 0.0, 2.33, 0.785])


@pytest.fixture(scope="module")
def kinematics():
    return ArmKinematics()


def command(**fields):
    packet = np.zeros((), wire.CONTROL)
    for name, value in fields.items():
        packet[name] = value
    return packet[()]


def column_major(pose):
    return pose.T.ravel()


def test_joint_commands_come_back_with_their_derivatives(kinematics):
    reference = reference_for(Generator.JOINT_POSITION, kinematics, HOME)
    for cycle in range(1, 4):
        assert reference.follow(command(q_c=HOME + 1e-6 * cycle**2), MS) is None
    np.testing.assert_allclose(reference.q, HOME + 9e-6)
    np.testing.assert_allclose(reference.dq, 5e-3, rtol=1e-6)
    np.testing.assert_allclose(reference.ddq, 2.0, rtol=1e-5)
    kinematics.move_to(HOME)
    np.testing.assert_allclose(reference.twist, kinematics.jacobian() @ reference.dq, rtol=1e-3)


def test_joint_velocities_are_integrated(kinematics):
    reference = reference_for(Generator.JOINT_VELOCITY, kinematics, HOME)
    for _ in range(100):
        assert reference.follow(command(dq_c=np.full(7, 0.2)), MS) is None
    np.testing.assert_allclose(reference.q, HOME + 0.02)
    np.testing.assert_allclose(reference.dq, 0.2)


@pytest.mark.parametrize("velocity", [False, True])
def test_cartesian_commands_become_joint_motion_that_follows_them(kinematics, velocity):
    reference = reference_for(Generator.CARTESIAN_VELOCITY if velocity else Generator.CARTESIAN_POSITION, kinematics, HOME)
    pose, speed = reference.pose, np.array([0.3, 0.2, -0.1, 0.5, -0.4, 0.6])
    for cycle in range(400):
        twist = speed * np.sin(np.pi * cycle / 400)
        pose = moved_by(pose, twist, MS)
        packet = command(O_dP_EE_c=twist) if velocity else command(O_T_EE_c=column_major(pose))
        assert reference.follow(packet, MS) is None
        np.testing.assert_allclose(reference.twist, twist, atol=1e-6)
        kinematics.move_to(reference.q)
        assert np.abs(twist_between(kinematics.pose(), pose, 1.0)).max() < 2e-5
    assert np.linalg.norm(pose[:3, 3] - reference_for(Generator.NONE, kinematics, HOME).pose[:3, 3]) > 0.05


def test_the_commanded_elbow_moves_while_the_hand_stays(kinematics):
    reference = reference_for(Generator.CARTESIAN_POSITION, kinematics, HOME)
    pose = reference.pose
    for cycle in range(1, 501):
        packet = command(O_T_EE_c=column_major(pose), elbow_c=(0.2 * cycle / 500, -1), valid_elbow=1)
        assert reference.follow(packet, MS) is None
    kinematics.move_to(reference.q)
    assert reference.q[2] == pytest.approx(0.2, abs=1e-4)
    np.testing.assert_allclose(kinematics.pose(), pose, atol=1e-5)


@pytest.mark.parametrize(
    ("generator", "packet", "expected"),
    [
        (
            Generator.JOINT_POSITION,
            {"q_c": HOME + [3.0, 0, 0, 0, 0, 0, 0]},
            RobotError.JOINT_MOTION_GENERATOR_POSITION_LIMITS_VIOLATION,
        ),
        (
            Generator.JOINT_POSITION,
            {"q_c": HOME + [0.0027, 0, 0, 0, 0, 0, 0]},
            RobotError.JOINT_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION,
        ),
        (
            Generator.JOINT_VELOCITY,
            {"dq_c": -1.02 * MAX_JOINT_VELOCITIES},
            RobotError.JOINT_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION,
        ),
        (
            Generator.CARTESIAN_VELOCITY,
            {"O_dP_EE_c": (0, 0, 3.1, 0, 0, 0)},
            RobotError.CARTESIAN_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION,
        ),
        (
            Generator.CARTESIAN_VELOCITY,
            {"O_dP_EE_c": (0, 0, 0, 0, 0, 2.6)},
            RobotError.CARTESIAN_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION,
        ),
        (
            Generator.CARTESIAN_VELOCITY,
            {"O_dP_EE_c": (2.9, 0, 0, 0, 0, 0)},
            RobotError.CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_LIMITS_VIOLATION,
        ),
        (
            Generator.CARTESIAN_POSITION,
            {"O_T_EE_c": np.diag([1, 1.1, 1, 1]).ravel()},
            RobotError.CARTESIAN_POSITION_MOTION_GENERATOR_INVALID_FRAME,
        ),
    ],
)
def test_a_command_beyond_a_limit_is_named(kinematics, generator, packet, expected):
    assert reference_for(generator, kinematics, HOME).follow(command(**packet), MS) == expected


def test_commands_at_the_limit_are_no_violation(kinematics):
    reference = reference_for(Generator.JOINT_VELOCITY, kinematics, HOME)
    assert reference.follow(command(dq_c=MAX_JOINT_VELOCITIES), MS) is None


def test_the_robot_stops_by_itself_and_stays(kinematics):
    reference = HoldReference(kinematics, HOME, np.array([1.0, -0.5, 0, 0, 0, 0, 2.0]))
    velocities = []
    for _ in range(300):
        reference.follow(None, MS)
        velocities.append(reference.dq.copy())
    assert np.abs(np.diff(velocities, axis=0)).max() <= STOP_RAD_PER_S2 * MS * (1 + 1e-9)
    assert not reference.dq.any() and not reference.ddq.any()
    # v^2 / 2a, less half a cycle.
    np.testing.assert_allclose(reference.q - HOME, [0.05, -0.0125, 0, 0, 0, 0, 0.2], atol=1.1e-3)
    kinematics.move_to(reference.q)
    np.testing.assert_allclose(reference.pose, kinematics.pose())


def test_the_robot_holds_inside_of_its_joint_range(kinematics):
    beyond = HOME.copy()
    beyond[3] = kinematics.joint_range[1, 3] + 0.05
    reference = HoldReference(kinematics, beyond, np.eye(7)[3])
    for _ in range(200):
        reference.follow(None, MS)
    assert reference.q[3] <= kinematics.joint_range[1, 3]
