"""Keyframes follow the two published rules, worked out here frame by frame."""

import numpy as np
import pytest

from robosteer_core.episodes.keyframes import keyframes, keyframes_of
from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError


def episode(steps, gripper):
    """States whose first dimension advances by `steps`, actions whose last is `gripper`."""
    state = np.zeros((len(gripper), 7), np.float32)
    state[1:, 0] = np.cumsum(steps)
    action = np.zeros((len(gripper), 7), np.float32)
    action[:, -1] = gripper
    return state, action


def test_droid_takes_ends_gripper_changes_and_rest():
    # At 15 Hz a step of 0.002 is 0.03 rad/s: 0.0021 moves, 0.0019 rests.
    state, action = episode([0.0021, 0.0021, 0.0019, 0.0021, 0.0021, 0.0021], [1, 1, 1, 1, 1, 0, 0])
    assert keyframes("droid", state, action, 15).tolist() == [0, 3, 5, 6]
    assert keyframes("droid", state, action, 5).tolist() == [0, 1, 2, 3, 4, 5, 6]  # the same steps are slower at 5 Hz


def test_libero_takes_sign_changes_and_short_steps():
    state, action = episode([0.06, 0.06, 0.04, 0.06, 0.06, 0.06], [-1, -1, -1, -1, -1, 1, 1])
    assert keyframes("libero", state, action, 20).tolist() == [0, 3, 5, 6]


def test_a_continuous_opening_counts_as_open_or_closed():
    state, action = episode([1, 1, 1, 1, 1], [1.0, 0.9, 0.6, 0.4, 0.1, 0.0])
    assert keyframes("droid", state, action, 15).tolist() == [0, 3, 5]


def test_the_grippers_own_opening_is_no_motion():
    state, action = episode([0, 0, 0, 0], [1, 1, 1, 1, 1])
    state[:, -1] = np.arange(5)
    assert keyframes("droid", state, action, 15).tolist() == [0, 1, 2, 3, 4]


def test_all_takes_all_and_other_names_are_refused():
    state, action = episode([1, 1, 1], [1, 1, 1, 1])
    assert keyframes("all", state, action, 15).tolist() == [0, 1, 2, 3]
    with pytest.raises(UserError, match="expected a keyframe rule of droid, libero, all; found 'bridge'"):
        keyframes("bridge", state, action, 15)


def test_real_episodes_each_keep_their_ends_and_every_grasp(bridge_sample):
    dataset = Dataset(bridge_sample)
    arrays = dataset.arrays()
    for rule in ("droid", "libero"):
        found = set(keyframes_of(arrays, rule, dataset.fps).tolist())
        for item in dataset.episodes:
            rows = np.arange(item.first_frame, item.first_frame + item.length)
            assert {rows[0], rows[-1]} <= found
            opening = arrays.action[rows, -1] > 0.5
            assert set(rows[1:][opening[1:] != opening[:-1]]) <= found
    assert keyframes_of(arrays, "all", dataset.fps).tolist() == list(range(250))
