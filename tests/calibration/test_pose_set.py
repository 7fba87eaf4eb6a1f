"""Poses to calibrate from: reachable, in view, and worth taking."""

import numpy as np
import pytest
from known_mounting import CAMERA_IN_HAND

from calibration.board import Board
from calibration.kinematics import MARGIN_RAD, forward, reach
from calibration.pose_set import candidates, chosen, expected, lens_of, projected
from calibration.rigid import distance, pose
from calibration.solvers import HandEye
from robosteer_core.rig import JOINT_LIMITS_RAD, load_rig
from robosteer_core.runtime.frame import Intrinsics
from robosteer_sim.fci.kinematics import ArmKinematics

# On the table, face up: z into the board is down.
BOARD_IN_BASE = pose(np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]]).T, np.array([0.55, 0.1, 0.0]))
GUESS = HandEye("hand", CAMERA_IN_HAND, BOARD_IN_BASE)
HOME = np.array(load_rig("lab").arm.home_joint_positions_rad)
INTRINSICS = Intrinsics(1280, 720, 930.0, 930.0, 639.5, 359.5)


@pytest.mark.parametrize("model", ["fr3", "panda"])
def test_kinematics_are_those_of_the_lab(model):
    lab, random = ArmKinematics(model), np.random.default_rng(0)
    low, high = JOINT_LIMITS_RAD[model]
    assert (low >= lab.joint_range[0] - 1e-9).all() and (high <= lab.joint_range[1] + 1e-9).all()
    for joints in random.uniform(*JOINT_LIMITS_RAD[model], (5, 7)):
        lab.move_to(joints)
        hand, jacobian = forward(joints)
        np.testing.assert_allclose(hand, lab.pose(), atol=1e-5)
        np.testing.assert_allclose(jacobian, lab.jacobian(), atol=1e-5)


def test_what_is_out_of_reach_or_at_a_joint_limit_is_told():
    hand, _ = forward(HOME + 0.2)
    joints = reach("fr3", hand, HOME)
    low, high = np.array(JOINT_LIMITS_RAD["fr3"])
    assert (joints >= low + MARGIN_RAD - 1e-9).all() and (joints <= high - MARGIN_RAD + 1e-9).all()
    far_mm, turned_deg = distance(forward(joints)[0], hand)
    assert far_mm < 1 and turned_deg < 0.1
    hand[0, 3] += 0.6
    assert reach("fr3", hand, HOME) is None


@pytest.fixture(scope="module")
def offered():
    near = GUESS.target_in_camera(forward(HOME)[0][None])[0]
    return candidates(load_rig("lab"), Board(), INTRINSICS, GUESS, 24, near=near)


def test_candidates_are_reachable_and_see_the_board(offered):
    assert len(offered) == 24
    workspace = load_rig("lab").limits.workspace
    for candidate in offered:
        far_mm, turned_deg = distance(forward(candidate.joints)[0], candidate.robot)
        assert far_mm < 1 and turned_deg < 0.1
        assert (candidate.robot[:3, 3] >= workspace.low_m).all() and (candidate.robot[:3, 3] <= workspace.high_m).all()
        seen = projected(Board().corners, candidate.target, lens_of(INTRINSICS))
        assert (seen > 0).all() and (seen < (1280, 720)).all()
        far_mm, turned_deg = distance(GUESS.target_in_camera(candidate.robot[None])[0], candidate.target)
        assert far_mm < 1e-6 and turned_deg < 1e-4


def test_chosen_poses_are_better_than_the_first_ones_and_each_lowers_the_error(offered):
    board, robots = Board(), [candidate.robot for candidate in offered]
    picked = chosen(board, INTRINSICS, GUESS, offered, 12)
    assert len(set(picked)) == 12
    errors = [
        expected(board, INTRINSICS, GUESS, [robots[index] for index in picked[:count]]).sigma_mm for count in (0, 2, 4, 8, 12)
    ]
    assert errors[0] == np.inf and all(later < earlier for earlier, later in zip(errors, errors[1:]))
    first = expected(board, INTRINSICS, GUESS, robots[:12])
    best = expected(board, INTRINSICS, GUESS, [robots[index] for index in picked])
    assert best.sigma_mm < first.sigma_mm and best.sigma_mm < 1
    taken = [robots[index] for index in picked[:4]]
    assert chosen(board, INTRINSICS, GUESS, offered, 1, taken)[0] not in picked[:4]
