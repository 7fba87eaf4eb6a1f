"""Pose pairs that cannot be used are named, with what to do."""

import json

import numpy as np
import pytest
from known_mounting import looking, make_pairs
from scipy.spatial.transform import Rotation

from calibration.rigid import exp, inverse, pose
from robosteer_core.cli import main


def wrong_unit(poses, factor):
    """Rotations made from Euler angles times `factor`."""
    angles = Rotation.from_matrix(poses[:, :3, :3]).as_euler("xyz")
    return pose(Rotation.from_euler("xyz", factor * angles).as_matrix(), poses[:, :3, 3])


def moved_by(poses, transform):
    return np.concatenate([poses[: len(poses) // 2], (transform @ poses)[len(poses) // 2 :]])


def about_one_axis():
    target = looking(np.random.default_rng(1), 20)
    target[:, :3, :3] = np.array([exp(np.array([0, 0, angle])) @ target[0, :3, :3] for angle in np.linspace(-0.8, 0.8, 20)])
    return make_pairs(target=target)


def pure_translation():
    target = looking(np.random.default_rng(1), 20)
    target[:, :3, :3] = target[0, :3, :3]
    return make_pairs(target=target)


def two_cameras():
    pairs = make_pairs()
    return pairs.robot, moved_by(pairs.target, pose(exp(np.array([0.0, 0.3, 0.1])), np.array([0.06, 0.0, 0.02])))


def millimetres(poses):
    return pose(poses[:, :3, :3], 1000 * poses[:, :3, 3])


P, STAND = make_pairs(), make_pairs(mount="fixed")
ORDER = np.random.default_rng(3).permutation(20)
CASES = {
    "too few poses": ((P.robot[:3], P.target[:3]), "at least 5", "take about 20"),
    "pure translation": ((pure_translation().robot, pure_translation().target), "turn the hand"),
    "one axis of rotation": ((about_one_axis().robot, about_one_axis().target), "about two axes"),
    "mixed cameras": (two_cameras(), "10 pairs", "Calibrate each camera by itself"),
    "swapped pairs": ((P.target, P.robot), "exchange the two parts of each pair"),
    "swapped pairs?": ((STAND.target, STAND.robot), "exchange the two parts of each pair"),
    "degrees for radians": ((wrong_unit(P.robot, 180 / np.pi), P.target), "wrong unit"),
    "degrees for radians?": ((P.robot, wrong_unit(P.target, 180 / np.pi)), "wrong unit"),
    "radians for degrees": ((wrong_unit(P.robot, np.pi / 180), P.target), "wrong unit"),
    "millimetres for metres": ((millimetres(P.robot), millimetres(P.target)), "divide them by 1000"),
    "millimetres for metres:": ((P.robot, millimetres(P.target)), "target in camera", "divide them by 1000"),
    "out of step": ((P.robot[1:], P.target[:-1]), "1 earlier", "capture stamp"),
    "wrong order": ((P.robot, P.target[ORDER]), "Put each target beside"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_pairs_are_named(name, write_pairs, capsys, tmp_path):
    (robot, target), *words = CASES[name]
    out = tmp_path / "result.json"
    assert main(["calibrate", "hand-eye", "--pairs", str(write_pairs(robot, target)), "--json", str(out)]) == 2
    message = capsys.readouterr().err
    for word in (name, *words):
        assert word in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("mount", "robot", "target", "words"),
    [
        ("fixed", P.robot, P.target, "one on the hand (--mount hand)"),
        ("hand", inverse(P.robot), P.target, "one side is inverted"),
        ("hand", P.robot, inverse(P.target), "one side is inverted"),
    ],
)
def test_wrong_mounting_and_inverted_poses_are_named(mount, robot, target, words, write_pairs, capsys):
    """Without the mounting these pairs are as good as those of a board on the hand and a camera on a stand."""
    assert main(["calibrate", "hand-eye", "--pairs", str(write_pairs(robot, target)), "--mount", mount]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "not valid JSON"),
        ({"robot": []}, "expected a list"),
        ([[np.eye(4).tolist()]], "pair 0: expected [end effector in base, target in camera]"),
        ([[np.eye(4).tolist(), np.eye(3).tolist()]], "target in camera: expected a 4x4 matrix"),
        ([[np.diag([2.0, 1, 1, 1]).tolist(), np.eye(4).tolist()]] * 6, "is no rotation"),
        ([[np.diag([-1.0, 1, 1, 1]).tolist(), np.eye(4).tolist()]] * 6, "is no rotation"),
        ([[pose(np.eye(3), np.ones(3)).T.tolist(), np.eye(4).tolist()]] * 6, "transposed"),
        ([[np.eye(4).tolist(), np.diag([1, 1, np.nan, 1]).tolist()]] * 6, "expected finite numbers"),
    ],
)
def test_what_is_no_list_of_pairs_is_refused(tmp_path, capsys, content, word):
    path = tmp_path / "pairs.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert main(["calibrate", "hand-eye", "--pairs", str(path)]) == 2
    assert word in capsys.readouterr().err
