"""ChunkExecutor: where the command is at any time."""

import numpy as np
import pytest

from robosteer_core.runtime.chunk import ActionChunk, integrate_deltas
from robosteer_core.runtime.executor import ChunkExecutor
from robosteer_core.runtime.pose import Pose

MS = 1_000_000
START = Pose.from_vector(np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0]))


def executor(now_ns=0, blend_ms=60):
    return ChunkExecutor(START, gripper=1.0, now_ns=now_ns, blend_ns=blend_ms * MS)


def straight_chunk(first_ms, count=4, period_ms=60, step_m=0.006, turn_rad=0.03, start=START):
    action = np.array([step_m, 0, 0, 0, 0, turn_rad, 0.0])
    return integrate_deltas(start, np.tile(action, (count, 1)), first_ms * MS, period_ms * MS)


def angle_rad(a: Pose, b: Pose) -> float:
    return float(np.linalg.norm(a.delta_to(b)[3:]))


def test_before_any_chunk_the_start_stands_still():
    setpoint = executor().at(500 * MS)
    np.testing.assert_allclose(setpoint.pose.position, START.position)
    np.testing.assert_array_equal(setpoint.twist, 0)
    assert setpoint.gripper == 1.0


def test_each_pose_is_reached_at_its_stamp_and_the_way_between_is_even():
    chunk, played = straight_chunk(first_ms=60), executor()
    played.accept(chunk, now_ns=0, commanded=START)
    for index, stamp_ns in enumerate(chunk.stamps_ns):
        np.testing.assert_allclose(played.at(stamp_ns).pose.delta_to(chunk.pose(index)), 0, atol=1e-9)
    half = played.at(90 * MS)
    np.testing.assert_allclose(half.pose.position, START.position + [0.009, 0, 0], atol=1e-12)
    assert angle_rad(START, half.pose) == pytest.approx(0.045)
    np.testing.assert_allclose(half.twist, [0.1, 0, 0, 0, 0, 0.5], atol=1e-9)


def test_after_the_last_stamp_the_last_pose_stands():
    chunk, played = straight_chunk(first_ms=60), executor()
    played.accept(chunk, now_ns=0, commanded=START)
    late = played.at(1000 * MS)
    np.testing.assert_allclose(late.pose.delta_to(chunk.pose(3)), 0, atol=1e-9)
    np.testing.assert_array_equal(late.twist, 0)


def test_rotation_takes_the_short_way_round():
    target = Pose(START.position, -START.moved(np.array([0, 0, 0, 0, 0, 0.2])).quaternion)
    chunk = ActionChunk(np.array([100 * MS]), target.position[None], target.quaternion[None], np.array([1.0]))
    played = executor()
    played.accept(chunk, now_ns=0, commanded=START)
    assert angle_rad(START, played.at(50 * MS).pose) == pytest.approx(0.1)


def test_a_chunk_in_the_future_starts_from_the_command_not_from_the_old_path():
    played = executor()
    played.accept(straight_chunk(first_ms=60), now_ns=0, commanded=START)
    limited = START.moved(np.array([0.001, 0.002, 0, 0, 0, 0]))
    played.accept(straight_chunk(first_ms=160, start=limited), now_ns=100 * MS, commanded=limited)
    np.testing.assert_allclose(played.at(100 * MS).pose.position, limited.position, atol=1e-12)
    np.testing.assert_allclose(played.at(130 * MS).pose.position, limited.position + [0.003, 0, 0], atol=1e-12)


def test_a_late_chunk_blends_in_without_a_jump_and_then_is_followed_exactly():
    off = START.moved(np.array([0, 0.01, 0, 0, 0.1, 0]))
    chunk, played = straight_chunk(first_ms=0, count=6), executor(blend_ms=60)
    played.accept(chunk, now_ns=80 * MS, commanded=off)
    np.testing.assert_allclose(played.at(80 * MS).pose.delta_to(off), 0, atol=1e-9)
    stamps_ns = np.arange(80, 300, 2) * MS
    positions = np.array([played.at(stamp).pose.position for stamp in stamps_ns])
    largest_step_m = np.linalg.norm(np.diff(positions, axis=0), axis=1).max()
    # The path moves at 0.1 m/s; the command is 17.2 mm away from it, which fades out in 60 ms.
    assert largest_step_m <= (0.1 + 0.0173 / 0.06) * 0.002
    np.testing.assert_allclose(played.at(180 * MS).pose.delta_to(chunk.pose(3)), 0, atol=1e-9)


def test_twist_is_the_derivative_of_the_pose_also_while_blending():
    off = START.moved(np.array([0, 0.01, 0, 0, 0, 0.05]))
    played = executor(blend_ms=60)
    played.accept(straight_chunk(first_ms=0, count=6), now_ns=80 * MS, commanded=off)
    for stamp_ms in (95, 130, 170):
        before, after = played.at(stamp_ms * MS - MS).pose, played.at(stamp_ms * MS + MS).pose
        np.testing.assert_allclose(played.at(stamp_ms * MS).twist, before.delta_to(after) / 0.002, atol=1e-6)


def test_the_gripper_command_belongs_to_the_way_to_its_pose():
    chunk = integrate_deltas(START, np.array([[0, 0, 0, 0, 0, 0, 0.0], [0, 0, 0, 0, 0, 0, 1.0]]), 60 * MS, 60 * MS)
    played = executor()
    played.accept(chunk, now_ns=0, commanded=START)
    assert [played.at(ms * MS).gripper for ms in (10, 60, 70, 500)] == [0.0, 0.0, 1.0, 1.0]


def test_a_chunk_that_is_over_is_not_accepted():
    with pytest.raises(ValueError, match="passed"):
        executor().accept(straight_chunk(first_ms=60), now_ns=240 * MS, commanded=START)


def test_single_actions_at_policy_rate_give_the_same_path_as_one_long_chunk():
    """Teleoperation sends one pose at a time: the arm must not stop and go between them."""
    long, single = executor(), executor()
    chunk = straight_chunk(first_ms=60, count=5)
    long.accept(chunk, now_ns=0, commanded=START)
    for index in range(5):
        one = ActionChunk(**{name: field[index : index + 1] for name, field in vars(chunk).items()})
        now_ns = index * 60 * MS
        single.accept(one, now_ns, commanded=single.at(now_ns).pose)
        for ms in range(0, 60, 10):
            expected, found = long.at(now_ns + ms * MS).pose, single.at(now_ns + ms * MS).pose
            np.testing.assert_allclose(found.delta_to(expected), 0, atol=1e-9)


def test_orientations_stay_unit_quaternions():
    played = executor()
    played.accept(straight_chunk(first_ms=0, count=20, turn_rad=0.3), now_ns=30 * MS, commanded=START)
    for ms in range(30, 1300, 7):
        assert np.linalg.norm(played.at(ms * MS).pose.quaternion) == pytest.approx(1.0, abs=1e-12)
