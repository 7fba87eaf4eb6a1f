import numpy as np
import pytest

from robosteer_sim.fci import wire
from robosteer_sim.fci.checks import Checks
from robosteer_sim.fci.kinematics import ArmKinematics, moved_by, twist_between
from robosteer_sim.fci.limits import FR3
from robosteer_sim.fci.reference import STOP_RAD_PER_S2, HoldReference
from robosteer_sim.fci.reference import reference_for as reference_within
from robosteer_sim.fci.wire import Generator, RobotError

MS = 0.001
HOME = np.array([0.0, -0.1, 0.0, -2.43, 0.0, 2.33, 0.785])


CHECKS = Checks(FR3)


def reference_for(generator, kinematics, q):
    return reference_within(generator, kinematics, CHECKS, q)


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
    for cycle in range(1, 101):
        assert reference.follow(command(dq_c=np.full(7, 0.002 * cycle)), MS) is None
    np.testing.assert_allclose(reference.q, HOME + 0.0101)
    np.testing.assert_allclose(reference.dq, 0.2)


@pytest.mark.parametrize("velocity", [False, True])
def test_cartesian_commands_become_joint_motion_that_follows_them(kinematics, velocity):
    reference = reference_for(Generator.CARTESIAN_VELOCITY if velocity else Generator.CARTESIAN_POSITION, kinematics, HOME)
    pose, speed = reference.pose, np.array([0.3, 0.2, -0.1, 0.5, -0.4, 0.6])
    for cycle in range(400):
        twist = speed * np.sin(np.pi * cycle / 400) ** 2
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
        packet = command(O_T_EE_c=column_major(pose), elbow_c=(0.1 - 0.1 * np.cos(np.pi * cycle / 500), -1), valid_elbow=1)
        assert reference.follow(packet, MS) is None
    kinematics.move_to(reference.q)
    assert reference.q[2] == pytest.approx(0.2, abs=1e-4)
    np.testing.assert_allclose(kinematics.pose(), pose, atol=1e-5)


def ramp(acceleration, jerk, cycles):
    """Velocities of a start from rest at `jerk`, then `acceleration`."""
    return np.cumsum(np.minimum(acceleration, jerk * MS * np.arange(1, cycles + 1))) * MS


def violation(kinematics, generator, velocities, axis, q=HOME):
    """The error of a motion along `axis` at these velocities, and after how many cycles it came."""
    reference = reference_for(generator, kinematics, q)
    pose, distance = reference.pose, 0.0
    for cycle, velocity in enumerate(velocities):
        distance += velocity * MS
        if generator in (Generator.JOINT_POSITION, Generator.JOINT_VELOCITY):
            packet = command(q_c=q + distance * axis, dq_c=velocity * axis)
        else:
            packet = command(O_T_EE_c=column_major(moved_by(pose, axis, distance)), O_dP_EE_c=velocity * axis)
        error = reference.follow(packet, MS)
        if error is not None:
            return error, cycle
    return None, len(velocities)


E = RobotError
JOINT, UP, TURN = np.eye(7)[6], np.eye(6)[2], np.eye(6)[5]
STEP, JERK, FAST = np.full(5, 0.05), ramp(9.0, 6000.0, 20), ramp(9.5, 4000.0, 900)


@pytest.mark.parametrize(
    ("generator", "axis", "velocities", "expected"),
    [
        # Positions: what is too fast a change of velocity is named so, and too fast a change of acceleration, too.
        (Generator.JOINT_POSITION, JOINT, STEP, E.JOINT_MOTION_GENERATOR_VELOCITY_DISCONTINUITY),
        (Generator.JOINT_POSITION, JOINT, ramp(11, 4000, 20), E.JOINT_MOTION_GENERATOR_VELOCITY_DISCONTINUITY),
        (Generator.JOINT_POSITION, JOINT, JERK, E.JOINT_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY),
        (Generator.JOINT_POSITION, JOINT, FAST, E.JOINT_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION),
        # Velocities: both are discontinuities of the acceleration.
        (Generator.JOINT_VELOCITY, JOINT, STEP, E.JOINT_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY),
        (Generator.JOINT_VELOCITY, JOINT, ramp(11, 4000, 20), E.JOINT_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY),
        (Generator.JOINT_VELOCITY, JOINT, JERK, E.JOINT_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY),
        (Generator.JOINT_VELOCITY, JOINT, FAST, E.JOINT_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION),
        (Generator.CARTESIAN_POSITION, UP, STEP, E.CARTESIAN_MOTION_GENERATOR_VELOCITY_DISCONTINUITY),
        (Generator.CARTESIAN_POSITION, TURN, STEP, E.CARTESIAN_MOTION_GENERATOR_VELOCITY_DISCONTINUITY),
        (Generator.CARTESIAN_POSITION, UP, ramp(8, 4800, 20), E.CARTESIAN_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY),
        (Generator.CARTESIAN_POSITION, TURN, ramp(9, 8800, 20), E.CARTESIAN_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY),
        (Generator.CARTESIAN_POSITION, TURN, ramp(8, 2000, 500), E.CARTESIAN_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION),
        (Generator.CARTESIAN_VELOCITY, UP, STEP, E.CARTESIAN_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY),
        (Generator.CARTESIAN_VELOCITY, UP, ramp(8, 4800, 20), E.CARTESIAN_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY),
        (Generator.CARTESIAN_VELOCITY, TURN, ramp(8, 2000, 500), E.CARTESIAN_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION),
        # Within the Cartesian limits, but not within the joints'.
        (Generator.CARTESIAN_POSITION, UP, ramp(6, 1000, 50), E.CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_DISCONTINUITY),
        (Generator.CARTESIAN_POSITION, UP, ramp(3, 3000, 20), E.CARTESIAN_MOTION_GENERATOR_JOINT_ACCELERATION_DISCONTINUITY),
        (Generator.CARTESIAN_VELOCITY, UP, ramp(6, 1000, 50), E.CARTESIAN_MOTION_GENERATOR_JOINT_ACCELERATION_DISCONTINUITY),
        (
            Generator.CARTESIAN_POSITION,
            -np.eye(6)[0],
            ramp(1.0, 300, 900),
            E.CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_LIMITS_VIOLATION,
        ),
    ],
)
def test_a_motion_beyond_a_limit_is_called_what_the_robot_calls_it(kinematics, generator, axis, velocities, expected):
    assert violation(kinematics, generator, velocities, axis)[0] is expected


@pytest.mark.parametrize("generator", [Generator.JOINT_POSITION, Generator.JOINT_VELOCITY])
def test_a_joint_may_do_what_its_limits_say_and_no_more_where_its_range_ends(kinematics, generator):
    # From rest at the limits of jerk and acceleration to the limit of velocity, which it keeps until near its end.
    start = HOME.copy()
    start[6] = -3.0
    velocities = np.minimum(ramp(10.0, 5000.0, 2000), 5.26)
    error, cycles = violation(kinematics, generator, velocities, JOINT, start)
    assert error is E.JOINT_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION
    q = start[6] + MS * velocities[:cycles].sum()
    assert q < FR3.position_high[6] and FR3.velocity_range(6, q)[1] == pytest.approx(5.26, abs=0.04)


@pytest.mark.parametrize("joint", range(7))
@pytest.mark.parametrize("end", [-1, 1])
def test_no_joint_is_commanded_out_of_its_range(kinematics, joint, end):
    start = HOME.copy()
    start[joint] = (FR3.position_low if end < 0 else FR3.position_high)[joint] - end * 1e-5
    # Slower than the velocity's limit is exact to.
    velocities = np.full(300, 2e-4)
    error, cycles = violation(kinematics, Generator.JOINT_POSITION, velocities, end * np.eye(7)[joint], start)
    assert error is E.JOINT_MOTION_GENERATOR_POSITION_LIMITS_VIOLATION and cycles == pytest.approx(50, abs=1)


@pytest.mark.parametrize(
    ("generator", "packet", "expected"),
    [
        (Generator.JOINT_POSITION, {"q_c": HOME + 0.2}, E.JOINT_POSITION_MOTION_GENERATOR_START_POSE_INVALID),
        (
            Generator.CARTESIAN_POSITION,
            {"shift": (0.06, 0, 0)},
            E.CARTESIAN_POSITION_MOTION_GENERATOR_START_POSE_INVALID,
        ),
        (
            Generator.CARTESIAN_POSITION,
            {"O_T_EE_c": np.diag([1, 1.1, 1, 1]).ravel()},
            E.CARTESIAN_POSITION_MOTION_GENERATOR_INVALID_FRAME,
        ),
        (
            Generator.CARTESIAN_POSITION,
            {"elbow_c": (0.2, -1), "valid_elbow": 1},
            E.CARTESIAN_MOTION_GENERATOR_START_ELBOW_INVALID,
        ),
        (
            Generator.CARTESIAN_VELOCITY,
            {"elbow_c": (0.0, 1), "valid_elbow": 1},
            E.CARTESIAN_MOTION_GENERATOR_START_ELBOW_INVALID,
        ),
        (
            Generator.CARTESIAN_POSITION,
            {"elbow_c": (0.05, -1), "valid_elbow": 1},
            # The joints would have to jump; that is seen first.
            E.CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_DISCONTINUITY,
        ),
    ],
)
def test_a_motion_begins_where_the_arm_is(kinematics, generator, packet, expected):
    reference = reference_for(generator, kinematics, HOME)
    pose = reference.pose.copy()
    packet = dict(packet)
    pose[:3, 3] += packet.pop("shift", (0, 0, 0))
    assert reference.follow(command(**{"O_T_EE_c": column_major(pose), **packet}), MS) is expected


def test_a_commanded_elbow_keeps_its_side_and_its_range(kinematics):
    reference = reference_for(Generator.CARTESIAN_POSITION, kinematics, HOME)
    packet = {"O_T_EE_c": column_major(reference.pose), "valid_elbow": 1}
    assert reference.follow(command(elbow_c=(0.0, -1), **packet), MS) is None
    other_side = command(elbow_c=(0.0, 1), **packet)
    assert reference.follow(other_side, MS) is E.CARTESIAN_MOTION_GENERATOR_ELBOW_SIGN_INCONSISTENT
    for derivatives in ((2.7, 0.0, 0.0), (0.0, -11.0, 0.0), (0.0, 0.0, 6000.0)):
        assert CHECKS.elbow(0.0, derivatives) is E.CARTESIAN_MOTION_GENERATOR_ELBOW_LIMIT_VIOLATION
    assert CHECKS.elbow(2.91, (0.0, 0.0, 0.0)) is E.CARTESIAN_MOTION_GENERATOR_ELBOW_LIMIT_VIOLATION
    assert CHECKS.elbow(2.9, (2.6, 10.0, 5000.0)) is None


def test_the_robot_stops_by_itself_and_stays(kinematics):
    reference = HoldReference(kinematics, CHECKS, HOME, np.array([1.0, -0.5, 0, 0, 0, 0, 2.0]))
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
    reference = HoldReference(kinematics, CHECKS, beyond, np.eye(7)[3])
    for _ in range(200):
        reference.follow(None, MS)
    assert reference.q[3] <= kinematics.joint_range[1, 3]
