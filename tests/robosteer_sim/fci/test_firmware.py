import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_sim.fci import wire
from robosteer_sim.fci.firmware import Firmware
from robosteer_sim.fci.kinematics import moved_by, twist_between
from robosteer_sim.fci.wire import Controller, Generator, Mode, RecoveryStatus, RobotError

MS = 0.001


def smooth(share):
    """From 0 to 1, at rest at both ends: 10 s^3 - 15 s^4 + 6 s^5."""
    share = min(share, 1.0)
    return share**3 * (10 - 15 * share + 6 * share**2)



@pytest.fixture
def firmware(world):
    return Firmware(world)


def run(firmware, world, cycles, command=None):
    """Let cycles go by; `command(cycle)` gives the client's packet. Returns the first violation."""
    for cycle in range(cycles):
        error = firmware.follow(command(cycle) if command else None)
        world.step(firmware.torque())
        error = error or firmware.after_step()
        if error is not None:
            return error
    return None


def pull(world, force):
    """Pull at the hand with `force` (3,) N from now on."""
    world.data.xfrc_applied[world.model.body("hand").id, :3] = force


def packet(**fields):
    result = np.zeros((), wire.CONTROL)
    for name, value in fields.items():
        result[name] = value
    return result[()]


def test_between_motions_the_arm_stays_and_feels_nothing(firmware, world):
    start = world.joint_positions().copy()
    assert run(firmware, world, 500) is None
    assert np.abs(world.joint_positions() - start).max() < 1e-5
    firmware.fill_state()
    state = firmware.state
    assert not state["O_F_ext_hat_K"].any() and not state["tau_ext_hat_filtered"].any()
    assert state["robot_mode"] == Mode.IDLE and state["motion_generator_mode"] == Generator.IDLE
    assert state["control_command_success_rate"] == 0.0
    # At rest the joints carry the arm's weight and nothing else.
    np.testing.assert_allclose(state["tau_J"], world.data.qfrc_gravcomp[world.arm_dof], atol=0.05)


def test_the_arm_follows_joint_commands(firmware, world):
    start = world.joint_positions().copy()
    firmware.begin(Controller.JOINT_IMPEDANCE, Generator.JOINT_POSITION)
    errors = []

    def command(cycle):
        errors.append(np.abs(firmware.state["q_d"] - world.joint_positions()).max() if cycle else 0.0)
        firmware.fill_state()
        return packet(q_c=start + 0.3 * smooth(cycle / 500))

    assert run(firmware, world, 800, command) is None
    assert np.abs(world.joint_positions() - start - 0.3).max() < 3e-4
    assert max(errors) < 3e-3


def test_the_state_tells_the_commanded_motion_column_by_column(firmware, world):
    firmware.begin(Controller.JOINT_IMPEDANCE, Generator.CARTESIAN_POSITION)
    pose = world.end_effector_pose()
    pose[:3, 3] += (2e-4, 0, -1e-4)
    firmware.follow(packet(O_T_EE_c=pose.T.ravel()))
    firmware.fill_state()
    state = firmware.state
    np.testing.assert_allclose(state["O_T_EE_c"].reshape(4, 4).T, pose, atol=1e-6)
    np.testing.assert_allclose(state["O_dP_EE_c"], [0.2, 0, -0.1, 0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(state["O_ddP_EE_c"], [200, 0, -100, 0, 0, 0], atol=1)
    np.testing.assert_allclose(state["O_T_EE"].reshape(4, 4).T, world.end_effector_pose(), atol=1e-6)
    assert (state["robot_mode"], state["motion_generator_mode"], state["controller_mode"]) == (2, 3, 0)
    assert state["elbow"][0] == pytest.approx(world.joint_positions()[2]) and state["elbow"][1] == -1


def test_under_torques_the_desired_motion_is_the_measured_one(firmware, world):
    firmware.begin(Controller.EXTERNAL, Generator.NONE)
    torque = np.array([0, 0, 0, 0, 0, 0, 0.9])
    assert run(firmware, world, 50, lambda cycle: packet(tau_J_d=torque)) is None
    firmware.fill_state()
    state = firmware.state
    np.testing.assert_allclose(state["tau_J_d"], torque, atol=1e-6)
    np.testing.assert_array_equal(state["q_d"], state["q"])
    np.testing.assert_array_equal(state["dq_d"], state["dq"])
    np.testing.assert_array_equal(state["O_T_EE_c"], state["O_T_EE"])
    assert state["dq"][6] > 0.05


def test_pressing_on_the_table_shows_as_force_that_the_robot_exerts(firmware, world):
    firmware.contact.set_thresholds(np.full(52, 1000.0))
    firmware.begin(Controller.JOINT_IMPEDANCE, Generator.CARTESIAN_POSITION)
    # To a free place beside the objects, straight down to the table, and a little further: the fingers are 8 mm longer
    # than to the point between their tips.
    place, down = np.array([0.40, -0.27, 0.0]), np.diag([1.0, -1.0, -1.0])
    start = world.end_effector_pose()
    for height in (0.03, 0.0075):
        target = np.eye(4)
        target[:3, :3], target[:3, 3] = down, place + [0, 0, height]
        way = twist_between(start, target, 1.0)
        poses = [moved_by(start, way, smooth(ms / 1500)).T.ravel() for ms in range(1, 1501)]
        assert run(firmware, world, 1500, lambda ms: packet(O_T_EE_c=poses[ms])) is None  # noqa: B023
        start = target
    run(firmware, world, 300, lambda ms: packet(O_T_EE_c=target.T.ravel()))
    firmware.fill_state()
    force, torques = firmware.state["O_F_ext_hat_K"], firmware.state["tau_ext_hat_filtered"]
    assert -200 < force[2] < -5 and -force[2] > 2 * np.linalg.norm(force[:2])
    np.testing.assert_allclose(world.jacobian().T @ force, torques, atol=0.02 * np.abs(torques).max())
    # The controller brings it up, but for what the joints' friction takes.
    rest = firmware.state["tau_J_d"] - torques
    assert np.all(np.abs(rest) < world.model.dof_frictionloss[world.arm_dof] + 0.5)


@pytest.mark.parametrize(
    ("joint", "speed", "expected"),
    [
        (6, 6.0, RobotError.JOINT_VELOCITY_VIOLATION),
        # Near the end of the range only slow motion is allowed, so it takes slow motion to come to the end.
        (3, 1.0, RobotError.JOINT_VELOCITY_VIOLATION),
        (3, 0.09, RobotError.JOINT_POSITION_LIMITS_VIOLATION),
    ],
)
def test_passing_a_joint_limit_is_a_reflex_that_lasts_until_recovery(firmware, world, joint, speed, expected):
    if speed < 0.1:
        world.data.qpos[world.arm_qpos.start + joint] = -0.15
    firmware.begin(Controller.EXTERNAL, Generator.NONE)
    before = np.zeros(7)

    def command(cycle):
        torque = -5.0 * world.joint_velocities()
        torque[joint] = 30.0 * (speed - world.joint_velocities()[joint])
        before[:] = np.clip(np.clip(torque, before - 0.9, before + 0.9), -11.0, 11.0)
        return packet(tau_J_d=before)

    assert run(firmware, world, 4000, command) == expected
    firmware.reflex(expected)
    if expected is RobotError.JOINT_POSITION_LIMITS_VIOLATION:
        # The cause is still there.
        assert firmware.recover() is RecoveryStatus.MANUAL_RECOVERY_REQUIRED and firmware.mode is Mode.REFLEX
    run(firmware, world, 600)
    assert np.abs(world.joint_velocities()).max() < 0.01
    firmware.fill_state()
    assert firmware.state["robot_mode"] == Mode.REFLEX
    assert np.flatnonzero(firmware.state["errors"]).tolist() == [expected]
    if expected is RobotError.JOINT_POSITION_LIMITS_VIOLATION:
        # Somebody may lead the arm further away.
        firmware.guide(True)
        pull(world, [-40.0, 0.0, 0.0])
        run(firmware, world, 300)
        pull(world, [0.0, 0.0, 0.0])
        firmware.guide(False)
        run(firmware, world, 300)
        assert firmware.mode is Mode.REFLEX
    assert firmware.recover() is RecoveryStatus.SUCCESS
    firmware.fill_state()
    assert firmware.state["robot_mode"] == Mode.IDLE and not firmware.state["errors"].any()
    # What ended the last motion stays readable until the next one.
    assert np.flatnonzero(firmware.state["reflex_reason"]).tolist() == [expected]


@pytest.mark.parametrize(
    ("torques", "expected"),
    [
        ([0.0, 1.02], RobotError.CONTROLLER_TORQUE_DISCONTINUITY),
        (np.arange(0, 14, 0.9), RobotError.TAU_J_RANGE_VIOLATION),
        (np.arange(0, 11, 1.0), None),
    ],
)
def test_commanded_torques_keep_to_their_range_and_rate(firmware, world, torques, expected):
    firmware.begin(Controller.EXTERNAL, Generator.NONE)
    errors = (firmware.follow(packet(tau_J_d=[0, 0, 0, 0, 0, 0, torque])) for torque in torques)
    assert next((error for error in errors if error is not None), None) is expected


def test_a_hand_that_is_too_fast_is_a_reflex_of_its_own(firmware, world):
    # With a tool of two metres the joint's own limit comes later.
    tool = np.eye(4)
    tool[2, 3] = 2.0
    firmware.set_tool(tool)
    firmware.begin(Controller.EXTERNAL, Generator.NONE)
    velocity = np.zeros(7)

    def command(cycle):
        velocity[5] = 0.004 * cycle
        world.data.qvel[world.arm_dof] = velocity
        return packet()

    assert run(firmware, world, 800, command) is RobotError.CARTESIAN_VELOCITY_VIOLATION


def test_a_tool_moves_the_end_effector_and_its_forces(firmware, world):
    tool = np.eye(4)
    tool[:3, 3] = (0.0, 0.0, 0.1)
    firmware.set_tool(tool)
    firmware.fill_state()
    state = firmware.state
    np.testing.assert_allclose(state["O_T_EE"].reshape(4, 4).T, world.end_effector_pose() @ tool, atol=1e-6)
    np.testing.assert_allclose(state["F_T_EE"].reshape(4, 4).T, state["F_T_NE"].reshape(4, 4).T @ tool, atol=1e-6)
    np.testing.assert_allclose(state["O_T_EE_c"], state["O_T_EE"], atol=1e-6)


@pytest.mark.parametrize("generator", [Generator.JOINT_POSITION, Generator.JOINT_VELOCITY, Generator.CARTESIAN_POSITION,
                                       Generator.CARTESIAN_VELOCITY])  # fmt: skip
def test_a_motion_without_commands_goes_on_at_constant_acceleration_until_it_is_ended(firmware, world, generator):
    firmware.begin(Controller.JOINT_IMPEDANCE, generator)
    # From rest along a parabola: 1 rad/s^2 of joint 1 or 1 m/s^2 upwards.
    q, pose = world.joint_positions().copy(), world.end_effector_pose()

    def command(cycle):
        distance, speed, joint, up = 0.5 * (MS * cycle) ** 2, MS * cycle, np.eye(7)[0], np.eye(6)[2]
        return packet(q_c=q + distance * joint, dq_c=speed * joint, O_dP_EE_c=speed * up,
                      O_T_EE_c=moved_by(pose, up, distance).T.ravel())  # fmt: skip

    assert run(firmware, world, 50, command) is None
    firmware.fill_state()
    assert firmware.state["control_command_success_rate"] == 1.0
    before = {name: firmware.state[name].copy() for name in ("q_d", "dq_d", "ddq_d", "O_dP_EE_c", "O_ddP_EE_c")}
    assert run(firmware, world, 19) is None
    firmware.fill_state()
    state = firmware.state
    assert state["control_command_success_rate"] == pytest.approx(50 / 69)
    if generator in (Generator.JOINT_POSITION, Generator.JOINT_VELOCITY):
        np.testing.assert_allclose(state["ddq_d"], before["ddq_d"], atol=1e-2)
        np.testing.assert_allclose(state["dq_d"] - before["dq_d"], 0.019 * before["ddq_d"], atol=1e-4)
    else:
        np.testing.assert_allclose(state["O_ddP_EE_c"], before["O_ddP_EE_c"], atol=1e-2)
        np.testing.assert_allclose(state["O_dP_EE_c"] - before["O_dP_EE_c"], 0.019 * before["O_ddP_EE_c"], atol=1e-4)
    # Who comes back within 20 cycles goes on, who does not ends with the robot's own name for it.
    assert run(firmware, world, 1, lambda _: command(69)) is None
    assert run(firmware, world, 19) is None
    assert run(firmware, world, 1) is RobotError.COMMUNICATION_CONSTRAINTS_VIOLATION


def test_torques_without_a_command_stay(firmware, world):
    firmware.begin(Controller.EXTERNAL, Generator.NONE)
    torque = np.array([0, 0, 0, 0, 0, 0, 0.3])
    assert run(firmware, world, 1, lambda _: packet(tau_J_d=torque)) is None
    assert run(firmware, world, 10) is None
    np.testing.assert_allclose(firmware.torque(), torque)


def test_a_guided_arm_yields_where_it_is_free_and_stays_where_it_is_led(firmware, world):
    with pytest.raises(UserError, match="at rest"):
        firmware.begin(Controller.JOINT_IMPEDANCE, Generator.JOINT_POSITION)
        firmware.guide(True)
    firmware.end()
    firmware.set_guiding_mode(np.array([1, 0, 1, 0, 0, 0], bool), True)
    start = world.end_effector_pose()
    firmware.guide(True)
    firmware.fill_state()
    assert firmware.state["robot_mode"] == Mode.GUIDING
    pull(world, [15.0, 15.0, 0.0])
    assert run(firmware, world, 400) is None
    pull(world, [0.0, 0.0, 0.0])
    assert run(firmware, world, 600) is None
    led = world.end_effector_pose()
    moved = led[:3, 3] - start[:3, 3]
    assert moved[0] > 0.03 and abs(moved[1]) < 0.012
    assert np.abs(twist_between(start, led, 1.0)[3:]).max() < 0.03
    firmware.guide(False)
    assert run(firmware, world, 300) is None and firmware.mode is Mode.IDLE
    np.testing.assert_allclose(world.end_effector_pose()[:3, 3], led[:3, 3], atol=2e-3)


def test_the_user_stop_ends_a_motion_and_outlasts_errors_and_scenes(firmware, world):
    start = world.joint_positions().copy()
    firmware.begin(Controller.JOINT_IMPEDANCE, Generator.JOINT_POSITION)
    assert run(firmware, world, 100, lambda cycle: packet(q_c=start + 0.1 * smooth(cycle / 300))) is None
    firmware.user_stop(True)
    run(firmware, world, 300)
    firmware.fill_state()
    assert firmware.state["robot_mode"] == Mode.USER_STOPPED and np.abs(world.joint_velocities()).max() < 1e-3
    assert firmware.recover() is RecoveryStatus.EMERGENCY_ABORTED
    firmware.reflex(RobotError.JOINT_REFLEX)
    assert firmware.mode is Mode.USER_STOPPED
    firmware.user_stop(False)
    assert firmware.mode is Mode.REFLEX and firmware.recover() is RecoveryStatus.SUCCESS and firmware.mode is Mode.IDLE
    firmware.user_stop(True)
    firmware.reset()
    assert firmware.mode is Mode.USER_STOPPED
    firmware.user_stop(False)
    assert firmware.mode is Mode.IDLE


@pytest.mark.parametrize("stiffness", [500.0, 2500.0])
def test_the_cartesian_controller_is_a_spring_in_the_stiffness_frame(firmware, world, stiffness):
    firmware.set_cartesian_stiffness(np.array([3000.0, 3000.0, stiffness, 300.0, 300.0, 300.0]))
    firmware.begin(Controller.CARTESIAN_IMPEDANCE, Generator.CARTESIAN_POSITION)
    pose = world.end_effector_pose()
    pull(world, [0.0, 0.0, 20.0])
    assert run(firmware, world, 1500, lambda _: packet(O_T_EE_c=pose.T.ravel())) is None
    firmware.fill_state()
    assert firmware.state["controller_mode"] == Controller.CARTESIAN_IMPEDANCE
    # Up to what the joints' friction holds by itself.
    lifted = world.end_effector_pose()[2, 3] - pose[2, 3]
    assert 0.6 * 20 / stiffness < lifted < 1.05 * 20 / stiffness


def test_a_motion_is_finished_at_rest_or_it_is_a_violation(firmware, world):
    firmware.begin(Controller.JOINT_IMPEDANCE, Generator.JOINT_POSITION)
    assert firmware.finish() is None and firmware.mode is Mode.IDLE
    firmware.begin(Controller.JOINT_IMPEDANCE, Generator.JOINT_POSITION)
    start = world.joint_positions().copy()
    assert run(firmware, world, 150, lambda cycle: packet(q_c=start + 0.1 * smooth(cycle / 300))) is None
    assert firmware.finish() is RobotError.JOINT_MOTION_GENERATOR_VELOCITY_DISCONTINUITY and firmware.moving


def test_a_collision_felt_at_rest_is_forgotten_by_the_next_recovery(firmware, world):
    world.reset("pick up the red cube", 0)
    firmware.reset()
    firmware.contact.set_thresholds(np.full(52, 0.1))
    joint = world.model.joint("red_cube")
    away = world.data.qpos[joint.qposadr[0] : joint.qposadr[0] + 7].copy()
    world.data.qpos[joint.qposadr[0] : joint.qposadr[0] + 3] = world.end_effector_pose()[:3, 3] + [0, 0, -0.02]
    run(firmware, world, 20)
    world.data.qpos[joint.qposadr[0] : joint.qposadr[0] + 7] = away
    run(firmware, world, 300)
    firmware.fill_state()
    assert firmware.mode is Mode.IDLE and firmware.state["cartesian_collision"].any()
    assert firmware.recover() is RecoveryStatus.SUCCESS
    firmware.fill_state()
    assert not firmware.state["cartesian_collision"].any() and not firmware.state["joint_collision"].any()
