"""Limits: what no command gets past."""

import numpy as np
import pytest

from robosteer_core.rig import load_rig
from robosteer_core.runtime.chunk import ActionChunk, integrate_deltas
from robosteer_core.runtime.executor import SetPoint
from robosteer_core.runtime.limits import Limits
from robosteer_core.runtime.pose import Pose
from robosteer_core.runtime.reading import Reading

MS = 1_000_000
PERIOD_S = 0.01
RIG = load_rig("lab")
CONFIG = RIG.limits
START = Pose.from_vector(np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0]))


@pytest.fixture
def limits():
    return Limits(RIG)


def moved(*delta, start=START):
    return start.moved(np.array([*delta, *[0.0] * (6 - len(delta))], float))


def wanted(pose, gripper=0.3, twist=(0,) * 6):
    return SetPoint(pose, np.array(twist, float), gripper)


def reading(joints=RIG.arm.home_joint_positions_rad, wrench=(0,) * 6):
    return Reading(0, START, np.array(joints, float), np.array(wrench, float), 1.0, "Move")


def chunk(first_ms=60, count=3, step=(0.006, 0, 0, 0, 0, 0.03), start=START):
    return integrate_deltas(start, np.tile([*step, 1.0], (count, 1)), first_ms * MS, 60 * MS)


def changed(original, **fields):
    return ActionChunk(**{**vars(original), **fields})


def test_a_gentle_set_point_passes_unchanged_with_the_twist_of_its_step(limits):
    pose, twist = moved(0.002, 0, 0, 0, 0, 0.005), [0.2, 0, 0, 0, 0, 0.5]
    passed = limits.apply(wanted(pose, twist=twist), START, wanted(START, twist=twist), PERIOD_S)
    np.testing.assert_allclose(passed.pose.delta_to(pose), 0, atol=1e-12)
    np.testing.assert_allclose(passed.twist, twist, atol=1e-9)
    assert passed.gripper == 0.3
    assert not limits.interventions


def test_speed_is_limited_in_the_direction_of_motion(limits):
    fast = [0.27, 0.36, 0, 0, 0, 0]
    passed = limits.apply(wanted(moved(0.0027, 0.0036), twist=fast), START, wanted(START, twist=[0.15, 0.2, 0, 0, 0, 0]), PERIOD_S)
    np.testing.assert_allclose(passed.twist[:3], [0.15, 0.2, 0], atol=1e-9)
    assert limits.interventions == {"speed": 1}


def test_angular_speed_is_limited(limits):
    turning = [0, 0, 0, 0, 1.0, 0]
    passed = limits.apply(wanted(moved(0, 0, 0, 0, 0.3), twist=[0, 0, 0, 0, 30, 0]), START, wanted(START, twist=turning), PERIOD_S)
    np.testing.assert_allclose(passed.twist[3:], [0, CONFIG.max_angular_speed_rad_per_s, 0], atol=1e-9)
    assert limits.interventions == {"angular_speed": 1}


def test_a_stalled_loop_may_not_catch_up_in_one_leap(limits):
    fast = [CONFIG.max_speed_m_per_s, 0, 0, 0, 0, 0]
    passed = limits.apply(wanted(moved(0.04), twist=fast), START, wanted(START, twist=fast), elapsed_s=10.0)
    assert passed.pose.position[0] - START.position[0] == pytest.approx(CONFIG.max_speed_m_per_s * 2 * PERIOD_S)


def test_the_command_stays_in_the_workspace(limits):
    edge = Pose(np.array([0.5, 0.0, CONFIG.workspace.low_m[2] + 0.001]), START.quaternion)
    command = wanted(edge)
    for _ in range(20):
        command = limits.apply(wanted(moved(0, 0, -0.002, start=edge)), edge, command, PERIOD_S)
        assert limits.inside(command.pose)
    assert command.pose.position[2] == pytest.approx(CONFIG.workspace.low_m[2], abs=1e-6)
    assert limits.interventions["workspace"] > 0 and limits.interventions["speed"] == 0
    passed = command
    assert limits.inside(passed.pose) and not limits.inside(moved(0, 0, 1))


def test_the_command_stays_near_the_measured_pose(limits):
    command = wanted(moved(0, 0, -0.049))
    for _ in range(20):
        command = limits.apply(wanted(moved(0, 0, -0.0515)), START, command, PERIOD_S)
        assert np.linalg.norm(command.pose.position - START.position) <= CONFIG.max_distance_m + 1e-12
    assert np.linalg.norm(command.pose.position - START.position) == pytest.approx(CONFIG.max_distance_m)
    assert limits.interventions["distance"] == 20


def test_a_hand_that_is_pushed_away_takes_its_command_along_no_faster_than_the_speed_limit(limits):
    pushed, command = moved(0.2), wanted(START)
    for _ in range(5):
        command = limits.apply(wanted(START), pushed, command, PERIOD_S)
    np.testing.assert_allclose(command.twist[:3], [CONFIG.max_speed_m_per_s, 0, 0], atol=1e-9)
    assert limits.interventions["distance"] == 5 and limits.interventions["speed"] > 0


@pytest.mark.parametrize("part", ["position", "quaternion", "measured"])
def test_what_is_not_finite_leaves_the_command_where_it_is(limits, part):
    bad_position = Pose(np.array([np.nan, 0, 0.3]), START.quaternion)
    bad_quaternion = Pose(START.position, np.array([np.inf, 0, 0, 1]))
    pose = {"position": bad_position, "quaternion": bad_quaternion, "measured": START}[part]
    passed = limits.apply(wanted(pose), bad_position if part == "measured" else START, wanted(START), PERIOD_S)
    np.testing.assert_array_equal(passed.pose.position, START.position)
    np.testing.assert_allclose(passed.pose.quaternion, START.quaternion, atol=1e-12)
    np.testing.assert_array_equal(passed.twist, 0)
    assert limits.interventions == {"non_finite": 1}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_asked_for_speed_acceleration_and_workspace_hold(limits, seed):
    """Axiom over random commands at ticks that come late and early: in the box, never faster, never more suddenly than allowed."""
    random = np.random.default_rng(seed)
    command = wanted(START)
    target, twist = START, np.zeros(6)
    for size in 10.0 ** random.uniform(-3, 1, 1500):
        if random.random() < 0.05:
            target, twist = command.pose.moved(random.normal(0, size, 6)), random.normal(0, size, 6)
        elapsed_s = PERIOD_S * random.choice([0.1, 0.5, 1.0, 1.0, 1.0, 1.7, 5.0])
        measured = target if size > 5 else command.pose.moved(random.normal(0, [0.01] * 6))
        passed = limits.apply(wanted(target, twist=twist), measured, command, elapsed_s)
        assert limits.inside(passed.pose)
        counted_s = min(max(elapsed_s, 0.5 * PERIOD_S), 2 * PERIOD_S)
        change = (passed.twist - command.twist) / counted_s
        assert np.linalg.norm(passed.twist[:3]) <= CONFIG.max_speed_m_per_s * (1 + 1e-6)
        assert np.linalg.norm(passed.twist[3:]) <= CONFIG.max_angular_speed_rad_per_s * (1 + 1e-6)
        assert np.linalg.norm(change[:3]) <= CONFIG.max_acceleration_m_per_s2 * (1 + 1e-6)
        assert np.linalg.norm(change[3:]) <= CONFIG.max_angular_acceleration_rad_per_s2 * (1 + 1e-6)
        np.testing.assert_allclose(command.pose.delta_to(passed.pose), passed.twist * counted_s, atol=1e-7)
        command = passed


def test_a_path_that_starts_and_ends_suddenly_is_joined_without_swinging(limits):
    """0.2 m/s from one tick to the next is 20 m/s^2: the command lags, catches up exactly, and runs over the end once."""
    command, xs = wanted(START), []
    for tick in range(60):
        way, speed = min(tick + 1, 30) * 0.002, 0.2 if tick < 30 else 0.0
        command = limits.apply(wanted(moved(way), twist=[speed, 0, 0, 0, 0, 0]), START.moved([way, 0, 0, 0, 0, 0]), command, PERIOD_S)
        xs.append(command.pose.position[0] - START.position[0] - way)
    assert min(xs) > -0.0022 and max(xs) < 0.0022
    np.testing.assert_allclose(xs[10:30], 0, atol=1e-12)
    np.testing.assert_allclose(xs[45:], 0, atol=1e-9)


@pytest.mark.parametrize("joints, wrench, limit", [
    ((0, -0.1, 0, -0.17, 0, 2.33, 0.78), (0,) * 6, "joint_margin"),
    ((0, -0.1, 0, -2.43, 0, 2.33, np.nan), (0,) * 6, "joint_margin"),
    (RIG.arm.home_joint_positions_rad, (0, 0, 121, 0, 0, 0), "force"),
    (RIG.arm.home_joint_positions_rad, (0, 0, 0, 61, 0, 0), "moment"),
    (RIG.arm.home_joint_positions_rad, (np.nan,) * 6, "force"),
])  # fmt: skip
def test_an_arm_near_its_ends_or_pressed_too_hard_is_overloaded(limits, joints, wrench, limit):
    assert limits.overload(reading()) is None
    found = limits.overload(reading(joints, wrench))
    assert found.limit == limit and limit in found.words


def test_limits_that_the_rig_switches_off_let_everything_sound_pass():
    off = RIG.model_copy(update={"limits": CONFIG.model_copy(update={"off_nothing_protects_the_arm": True})})
    limits = Limits(off)
    assert limits.apply(wanted(moved(3.0)), START, wanted(START), PERIOD_S).pose.position[0] == START.position[0] + 3.0
    assert limits.refusal(chunk(step=(0.5, 0, 0, 0, 0, 0)), 0, START) is None and limits.overload(reading(wrench=(900,) * 6)) is None
    assert limits.refusal(changed(chunk(), gripper=np.array([1, np.inf, 0])), 0, START).limit == "non_finite"


def test_a_sound_chunk_is_accepted_and_may_be_sent_again(limits):
    assert limits.refusal(chunk(), now_ns=0, commanded=START) is None
    assert limits.refusal(chunk(), now_ns=10 * MS, commanded=START) is None
    assert not limits.interventions


@pytest.mark.parametrize(
    "bad, reason",
    [
        (changed(chunk(), positions=np.full((3, 3), np.nan)), "non_finite"),
        (changed(chunk(), gripper=np.array([1, np.inf, 0])), "non_finite"),
        (changed(chunk(), stamps_ns=np.array([60, 60, 120]) * MS), "reordered"),
        (changed(chunk(), quaternions=np.zeros((3, 4))), "malformed"),
        (changed(chunk(), positions=np.zeros((2, 3))), "malformed"),
        (changed(chunk(), stamps_ns=np.array([], int)), "malformed"),
        (chunk(first_ms=-200), "stale"),
        (chunk(first_ms=3_600_000), "future"),
        (chunk(step=(CONFIG.max_step_m + 0.001, 0, 0, 0, 0, 0)), "step"),
        (chunk(step=(0, 0, 0, 0, 0, CONFIG.max_step_rad + 0.01)), "step"),
        (chunk(start=moved(0.1)), "step"),
    ],
)
def test_an_unsound_chunk_is_refused_and_counted_by_name(limits, bad, reason):
    refusal = limits.refusal(bad, now_ns=0, commanded=START)
    assert refusal.limit == reason and refusal.words.startswith(f"{reason}: ")
    assert limits.interventions == {reason: 1}


def test_a_chunk_overtaken_by_a_later_one_is_refused(limits):
    assert limits.refusal(chunk(first_ms=120), now_ns=0, commanded=START) is None
    assert limits.refusal(chunk(first_ms=60), now_ns=0, commanded=START).limit == "reordered"


def test_steps_that_were_skipped_because_inference_took_long_are_no_jump(limits):
    late = chunk(first_ms=0, count=6, step=(0.03, 0, 0, 0, 0, 0))
    assert limits.refusal(late, now_ns=130 * MS, commanded=START) is None
