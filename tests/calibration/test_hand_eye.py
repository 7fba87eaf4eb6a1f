"""Hand-eye calibration from pose pairs."""

import json
from pathlib import Path

import numpy as np
import pytest
from known_mounting import BOARD_IN_BASE, BOARD_IN_HAND, CAMERA_IN_BASE, CAMERA_IN_HAND, make_pairs, within

from calibration.acceptance import ellipsoid_scale
from calibration.adjustment import Chain
from calibration.hand_eye import calibrate_pairs, mahalanobis
from calibration.rigid import distance, moved
from calibration.seen_targets import SeenTargets
from calibration.solvers import SOLVERS, HandEye
from robosteer_core.cli import main

SAMPLES = Path("/work/shared/data/hand_eye/pose_samples.json")


@pytest.mark.parametrize(("mount", "camera"), [("hand", CAMERA_IN_HAND), ("fixed", CAMERA_IN_BASE)])
def test_mounting_is_found_and_told_which_it_is(mount, camera):
    found = calibrate_pairs(make_pairs(mount=mount))
    assert found.hand_eye.mount == mount
    assert within(found.hand_eye.camera, camera, 0.6, 0.06)
    assert found.verdict.accepted and found.used.all() and found.adjusted.converged


@pytest.mark.parametrize("mount", ["hand", "fixed"])
def test_every_solver_finds_the_truth_without_noise(mount):
    found = calibrate_pairs(make_pairs(mount=mount, robot_mm=0, robot_deg=0, target_mm=0, target_deg=0))
    truth = {"hand": CAMERA_IN_HAND, "fixed": CAMERA_IN_BASE}[mount]
    assert set(found.solvers) == set(SOLVERS)
    for hand_eye in (*found.solvers.values(), found.hand_eye):
        assert within(hand_eye.camera, truth, 1e-3, 1e-4)


@pytest.mark.parametrize("mount", ["hand", "fixed"])
def test_derivatives_are_those_of_finite_differences(mount):
    pairs = make_pairs(count=5, mount=mount, target_mm=5, target_deg=1)
    truth = (CAMERA_IN_HAND, BOARD_IN_BASE) if mount == "hand" else (CAMERA_IN_BASE, BOARD_IN_HAND)
    hand_eye, seen, small = HandEye(mount, *truth), SeenTargets(pairs.target), 1e-6

    def values(camera=np.zeros(6), target=np.zeros(6), robot=np.zeros(6)):
        chain = Chain(
            HandEye(mount, moved(hand_eye.camera, camera), moved(hand_eye.target, target)),
            moved(pairs.robot, np.tile(robot, (5, 1))),
        )
        return [block.values for block in seen.blocks(chain, np.empty(0))]

    blocks = seen.blocks(Chain(hand_eye, pairs.robot), np.empty(0))
    for column, step in enumerate(small * np.eye(6)):
        for block, camera, target, robot, before in zip(
            blocks, values(camera=step), values(target=step), values(robot=step), values()
        ):
            # The rotation's derivative is exact to first order in its size, here 1 degree.
            near = {"rtol": 0, "atol": 2e-3}
            np.testing.assert_allclose((camera - before) / small, block.shared[..., column], **near)
            np.testing.assert_allclose((target - before) / small, block.shared[..., 6 + column], **near)
            np.testing.assert_allclose((robot - before) / small, block.own[..., column], **near)


def test_stated_ellipsoid_covers_the_truth():
    """95 % are stated; of 40 draws 34 to 40 lie inside with a probability above 0.99."""
    inside = 0
    for seed in range(40):
        found = calibrate_pairs(make_pairs(seed=seed)).adjusted
        inside += mahalanobis(CAMERA_IN_HAND, found) < ellipsoid_scale(found.freedom)
    assert 34 <= inside <= 40


def test_left_out_error_is_that_of_a_calibration_without_the_pair():
    pairs = make_pairs(count=12)
    found = calibrate_pairs(pairs)
    for index in (0, 7):
        rest = calibrate_pairs(pairs.subset(np.arange(12) != index)).hand_eye
        again = distance(pairs.target[index], rest.target_in_camera(pairs.robot[index : index + 1])[0])
        np.testing.assert_allclose(found.left_out[index], again, rtol=0.1)


def test_a_wrong_pair_is_named_and_changes_little():
    pairs = make_pairs()
    pairs.robot[4] = moved(pairs.robot[4], np.array([0.02, 0.01, 0, 0, 0.05, 0]))
    found = calibrate_pairs(pairs)
    assert [outlier.name for outlier in found.outliers] == ["pair 4"]
    assert found.outliers[0].misfit_mm > 10
    assert within(found.hand_eye.camera, CAMERA_IN_HAND, 0.7, 0.07)


def test_two_pairs_that_exchanged_their_targets_are_named():
    pairs = make_pairs()
    pairs.target[[3, 11]] = pairs.target[[11, 3]]
    outliers = calibrate_pairs(pairs).outliers
    assert [outlier.name for outlier in outliers] == ["pair 3", "pair 11"]
    assert "fits pair 11" in outliers[0].note and "exchanged" in outliers[0].note


def test_noisy_robot_is_rejected_with_the_reason():
    verdict = calibrate_pairs(make_pairs(robot_mm=4, robot_deg=0.8)).verdict
    assert not verdict.accepted and "left-out poses" in verdict.reason


def test_few_poses_are_rejected_with_how_many_to_add():
    verdict = calibrate_pairs(make_pairs(count=7)).verdict
    assert not verdict.accepted and "add 3" in verdict.reason


def test_command_prints_the_result_as_json_and_writes_a_report(write_pairs, capsys, tmp_path):
    pairs, report = make_pairs(), tmp_path / "report.html"
    words = [
        "calibrate",
        "hand-eye",
        "--pairs",
        str(write_pairs(pairs.robot, pairs.target)),
        "--json",
        "-",
        "--report",
        str(report),
    ]
    assert main(words) == 0
    assert report.read_text().count("data:image/") == 3
    printed = capsys.readouterr()
    assert "no outliers; worst when left out: pair" in printed.err
    found = json.loads(printed.out)
    assert within(np.array(found["camera_in_hand"]), CAMERA_IN_HAND, 0.6, 0.06)
    assert set(SOLVERS) < set(found["solvers"]) and found["verdict"] == "accepted"
    assert 0 < found["loo_mm"] < 2 and 0 < found["loo_deg"] < 0.5
    assert np.array(found["covariance"]).shape == (6, 6)


@pytest.mark.skipif(not SAMPLES.is_file(), reason="the samples of moveit_calibration are not part of the project")
def test_samples_of_moveit_are_of_a_camera_on_a_stand(capsys):
    """Their target is the hand itself, within 5 mm of noise per pair."""
    assert main(["calibrate", "hand-eye", "--pairs", str(SAMPLES), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mount"] == "fixed" and found["camera_in_hand"] is None
    assert within(np.array(found["target_in_hand"]), np.eye(4), 8.0, 0.1)
    assert max(row["from_adjusted_mm"] for row in found["solvers"].values()) < 1.0
    assert found["verdict"] == "rejected" and "left-out" in found["reason"]
