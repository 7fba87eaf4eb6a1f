"""Arithmetic of poses and deltas."""

import numpy as np

from robosteer_core.runtime.chunk import integrate_deltas
from robosteer_core.runtime.pose import TOOL_DOWN, Pose, interpolate
from robosteer_core.runtime.quaternion import turned


def some_pose(seed):
    random = np.random.default_rng(seed)
    return Pose(random.uniform(-0.5, 0.5, 3), turned(TOOL_DOWN, random.normal(0, 0.3, 3)))


def same(a, b):
    return np.allclose(a.matrix(), b.matrix(), atol=1e-12)


def test_a_pose_survives_the_way_through_vector_and_matrix():
    for seed in range(20):
        pose = some_pose(seed)
        assert same(Pose.from_vector(pose.vector()), pose)
        assert same(Pose.from_matrix(pose.matrix()), pose)


def test_a_tool_that_points_down_has_no_rotation():
    assert np.allclose(Pose(np.zeros(3), TOOL_DOWN).vector(), 0)


def test_moving_by_the_delta_to_a_pose_arrives_there():
    for seed in range(20):
        start, end = some_pose(seed), some_pose(seed + 100)
        assert same(start.moved(start.delta_to(end)), end)


def test_interpolation_starts_and_ends_where_it_should():
    start, end = some_pose(1), some_pose(2)
    assert same(interpolate(start, end, 0.0), start) and same(interpolate(start, end, 1.0), end)
    half = interpolate(start, end, 0.5)
    assert np.allclose(start.delta_to(half), half.delta_to(end))


def test_deltas_integrate_one_upon_the_other():
    start = some_pose(3)
    actions = np.array([[0.01, 0, 0, 0, 0, 0.1, 1.0], [0, 0.02, 0, 0, 0.1, 0, -0.2]])
    chunk = integrate_deltas(start, actions, first_stamp_ns=100, period_ns=10)
    assert same(chunk.pose(1), start.moved(actions[0][:6]).moved(actions[1][:6]))
    assert chunk.stamps_ns.tolist() == [100, 110] and chunk.gripper.tolist() == [1.0, 0.0]
