"""The state of the arm that belongs to what the cameras saw."""

import numpy as np
import pytest

from robosteer_core.runtime.observation import ArmState, RecentStates
from robosteer_core.runtime.pose import Pose

MS = 1_000_000


def state(number, mode="tracking"):
    """That of a set-point, 10 ms after the one before: each is told from the others by its numbers."""
    at = lambda x: Pose(np.array([x, 0.0, 0.4]), np.array([1.0, 0.0, 0.0, 0.0]))  # noqa: E731
    return ArmState(number * 10 * MS, at(0.001 * number), at(0.001 * number + 0.02), np.full(7, number), np.zeros(3), 1.0, mode)


@pytest.mark.parametrize("asked_ms, found", [(254, 25), (256, 26), (260, 26), (20, 2), (900, 29), (0, 0)])
def test_what_was_measured_nearest_to_a_stamp_is_joined_with_what_is_commanded_now(asked_ms, found):
    recent = RecentStates()
    for number in range(30):
        recent.add(state(number, "holding" if number == 29 else "tracking"))
    seen = recent.nearest(asked_ms * MS)
    assert seen.stamp_ns == found * 10 * MS and seen.measured.position[0] == 0.001 * found and seen.joint_positions[0] == found
    assert seen.commanded.position[0] == pytest.approx(0.049) and seen.mode == "holding"


def test_what_is_too_long_ago_is_forgotten():
    recent = RecentStates(count=3)
    for number in range(10):
        recent.add(state(number))
    assert recent.nearest(0).stamp_ns == 70 * MS
