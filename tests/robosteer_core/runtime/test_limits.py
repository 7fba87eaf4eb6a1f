"""Limits: what no command gets past."""

import numpy as np
import pytest

from robosteer_core.rig import load_rig
from robosteer_core.runtime.chunk import ActionChunk, integrate_deltas
from robosteer_core.runtime.executor import SetPoint
from robosteer_core.runtime.limits import Limits
from robosteer_core.runtime.pose import Pose

MS = 1_000_000
PERIOD_S = 0.01
CONFIG = load_rig("lab").limits
START = Pose.from_vector(np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0]))


@pytest.fixture
def limits():
    return Limits(CONFIG, PERIOD_S)


def moved(*delta, start=START):
    return start.moved(np.array([*delta, *[0.0] * (6 - len(delta))], float))


def wanted(pose, gripper=0.3):
    return SetPoint(pose, np.zeros(6), gripper)


def chunk(first_ms=60, count=3, step=(0.006, 0, 0, 0, 0, 0.03), start=START):
    return integrate_deltas(start, np.tile([*step, 1.0], (count, 1)), first_ms * MS, 60 * MS)


def changed(original, **fields):
    return ActionChunk(**{**vars(original), **fields})


def test_a_gentle_set_point_passes_unchanged_with_the_twist_of_its_step(limits):
    pose = moved(0.002, 0, 0, 0, 0, 0.005)
    passed = limits.apply(wanted(pose), START, START, PERIOD_S)
    np.testing.assert_allclose(passed.pose.delta_to(pose), 0, atol=1e-12)
    np.testing.assert_allclose(passed.twist, [0.2, 0, 0, 0, 0, 0.5], atol=1e-9)
    assert passed.gripper == 0.3
    assert not limits.interventions


def test_speed_is_limited_in_the_direction_of_motion(limits):
    passed = limits.apply(wanted(moved(0.027, 0.036)), START, START, PERIOD_S)
    np.testing.assert_allclose(passed.twist[:3], [0.15, 0.2, 0], atol=1e-9)
    assert limits.interventions == {"speed": 1}


def test_angular_speed_is_limited(limits):
    passed = limits.apply(wanted(moved(0, 0, 0, 0, 0.3)), START, START, PERIOD_S)
    np.testing.assert_allclose(passed.twist[3:], [0, CONFIG.max_angular_speed_rad_per_s, 0], atol=1e-9)
    assert limits.interventions == {"angular_speed": 1}


def test_a_stalled_loop_may_not_catch_up_in_one_leap(limits):
    passed = limits.apply(wanted(moved(0.04)), START, START, elapsed_s=10.0)
    assert passed.pose.position[0] - START.position[0] == pytest.approx(CONFIG.max_speed_m_per_s * 2 * PERIOD_S)


def test_the_command_stays_in_the_workspace(limits):
    edge = Pose(np.array([0.5, 0.0, CONFIG.workspace.low_m[2] + 0.001]), START.quaternion)
    passed = limits.apply(wanted(moved(0, 0, -0.002, start=edge)), edge, edge, PERIOD_S)
    assert passed.pose.position[2] == pytest.approx(CONFIG.workspace.low_m[2])
    assert limits.interventions == {"workspace": 1}
    assert limits.inside(passed.pose) and not limits.inside(moved(0, 0, 1))


def test_the_command_stays_near_the_measured_pose(limits):
    previous = moved(0, 0, -0.0495)
    passed = limits.apply(wanted(moved(0, 0, -0.0515)), START, previous, PERIOD_S)
    assert np.linalg.norm(passed.pose.position - START.position) == pytest.approx(CONFIG.max_distance_m)
    assert limits.interventions == {"distance": 1}


def test_a_hand_that_is_pushed_away_takes_its_command_along_no_faster_than_the_speed_limit(limits):
    pushed = moved(0.2)
    passed = limits.apply(wanted(START), pushed, START, PERIOD_S)
    np.testing.assert_allclose(passed.twist[:3], [CONFIG.max_speed_m_per_s, 0, 0], atol=1e-9)
    assert limits.interventions == {"distance": 1, "speed": 1}


@pytest.mark.parametrize("part", ["position", "quaternion", "measured"])
def test_what_is_not_finite_leaves_the_command_where_it_is(limits, part):
    bad_position = Pose(np.array([np.nan, 0, 0.3]), START.quaternion)
    bad_quaternion = Pose(START.position, np.array([np.inf, 0, 0, 1]))
    pose = {"position": bad_position, "quaternion": bad_quaternion, "measured": START}[part]
    passed = limits.apply(wanted(pose), bad_position if part == "measured" else START, START, PERIOD_S)
    assert passed.pose is START
    np.testing.assert_array_equal(passed.twist, 0)
    assert limits.interventions == {"non_finite": 1}


def test_whatever_is_asked_for_speed_and_workspace_hold(limits):
    """Axiom over random commands: inside the box and never faster than allowed."""
    random = np.random.default_rng(0)
    command = START
    for _ in range(400):
        pose = START.moved(random.normal(0, [0.3, 0.3, 0.3, 1, 1, 1]))
        measured = command.moved(random.normal(0, [0.01] * 6))
        passed = limits.apply(wanted(pose), measured, command, PERIOD_S)
        assert limits.inside(passed.pose)
        assert np.linalg.norm(passed.twist[:3]) <= CONFIG.max_speed_m_per_s * 1.0001
        assert np.linalg.norm(passed.twist[3:]) <= CONFIG.max_angular_speed_rad_per_s * 1.0001
        command = passed.pose


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
    assert limits.refusal(bad, now_ns=0, commanded=START) == reason
    assert limits.interventions == {reason: 1}


def test_a_chunk_overtaken_by_a_later_one_is_refused(limits):
    assert limits.refusal(chunk(first_ms=120), now_ns=0, commanded=START) is None
    assert limits.refusal(chunk(first_ms=60), now_ns=0, commanded=START) == "reordered"


def test_steps_that_were_skipped_because_inference_took_long_are_no_jump(limits):
    late = chunk(first_ms=0, count=6, step=(0.03, 0, 0, 0, 0, 0))
    assert limits.refusal(late, now_ns=130 * MS, commanded=START) is None
