"""When the gripper changes its mind. Its blocking calls are tested in the lab, with the arm."""

import pytest

from robosteer_ros.hardware.gripper import GripperSwitch


def changes(closed, openings):
    switch = GripperSwitch(closed)
    return [switch.decide(opening) for opening in openings]


def test_it_acts_once_per_change():
    assert changes(True, [0.0, 1.0, 1.0, 0.0, 0.0]) == [None, True, None, False, None]


def test_noise_around_the_middle_does_not_make_it_chatter():
    assert changes(True, [0.45, 0.55, 0.48, 0.59]) == [None] * 4
    assert changes(False, [0.55, 0.45, 0.52, 0.41]) == [None] * 4


@pytest.mark.parametrize("opening, first", [(0.51, True), (0.5, False), (0.0, False)])
def test_when_nothing_is_known_of_the_hand_the_first_command_counts(opening, first):
    assert changes(None, [opening, opening]) == [first, None]
