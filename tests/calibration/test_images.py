"""Calibration from images that the lab has drawn, of a known truth."""

import json
import shutil

import cv2
import numpy as np
import pytest
from known_mounting import BOARD_IN_BASE, CAMERA_IN_HAND, make_pairs, within
from lab_board import record

from calibration.adjustment import Chain, adjust
from calibration.board import Board
from calibration.corners import SeenCorners
from calibration.detection import Detection
from calibration.image_hand_eye import calibrate_detections
from calibration.pose_set import projected
from calibration.rigid import distance, exp, moved, pose
from calibration.solvers import HandEye
from robosteer_core.camera_calibration import read_calibration, rig_calibrations
from robosteer_core.cli import main
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig

LENS = np.array([930.0, 940.0, 640.0, 350.0])


@pytest.fixture(scope="module")
def wrist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrist") / "views"
    return folder, record(folder, "hand", 14, lens_part=0.01, robot_noise=1.0)


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    folder = tmp_path_factory.mktemp("front") / "views"
    return folder, record(folder, "fixed", 12, size=(640, 480), robot_noise=1.0)


def test_camera_on_the_hand_with_a_lens_one_per_cent_off(wrist, tmp_path, capsys):
    folder, truth = wrist
    out = tmp_path / "calibrations"
    assert main(["calibrate", "hand-eye", str(folder), "--out", str(out), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert within(found["camera_in_hand"], truth.camera, 1.0, 0.12)
    assert found["verdict"] == "accepted"
    assert found["lens"]["fx"] == pytest.approx(720 / 2 / np.tan(np.deg2rad(21)), rel=2e-3)
    assert not within(found["solvers"]["park"]["camera"], truth.camera, 3.0, 1.0)
    assert (out / "wrist.html").read_text().count("data:image/") == 6
    stored = read_calibration(out / "wrist.yaml")
    assert within(stored.transform.matrix(), truth.camera, 1.0, 0.12)
    assert (stored.transform.parent_frame, stored.transform.child_frame) == ("fr3_hand_tcp", "wrist_color_optical_frame")
    assert list(rig_calibrations(load_rig("lab"), out)) == ["wrist"]
    with pytest.raises(UserError, match="serial 'lab:wrist', and this one has '1234'"):
        stored.require_serial("1234")


def test_camera_on_a_stand(front, tmp_path, capsys):
    folder, truth = front
    assert main(["calibrate", "hand-eye", str(folder), "--out", str(tmp_path), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert within(found["camera_in_base"], truth.camera, 2.0, 0.2)
    assert found["depth_scale"] == pytest.approx(1.0, abs=0.01)
    assert read_calibration(tmp_path / "front.yaml").transform.parent_frame == "fr3_link0"


def test_camera_that_has_moved_is_told_from_one_that_has_not(wrist, tmp_path, capsys):
    folder, _ = wrist
    assert main(["calibrate", "hand-eye", str(folder), "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    stored = str(tmp_path / "wrist.yaml")
    record(tmp_path / "still", "hand", 7, seed=5, robot_noise=1.0)
    assert main(["calibrate", "verify", stored, str(tmp_path / "still")]) == 0
    assert "in place" in capsys.readouterr().err
    bumped = pose(exp(np.array([0.0, 0.02, 0.0])), np.array([0.003, 0.0, 0.0]))
    record(tmp_path / "bumped", "hand", 7, seed=5, robot_noise=1.0, moved_camera=bumped)
    assert main(["calibrate", "verify", stored, str(tmp_path / "bumped")]) == 1
    assert "moved: the camera is" in capsys.readouterr().err


def copied(folder, to, change):
    shutil.copytree(folder, to)
    content = json.loads((to / "recording.json").read_text())
    change(content)
    (to / "recording.json").write_text(json.dumps(content))
    return to


def blank(folder, content):
    for view in content["views"]:
        cv2.imwrite(str(folder / view["image"]), np.full((480, 640), 90, np.uint8))


BAD = {
    "another serial": (lambda to, c: c["views"][3].update(serial="1234"), ["mixed cameras", "1234", "folder of its own"]),
    "another size": (
        lambda to, c: cv2.imwrite(str(to / "003.png"), np.zeros((720, 1280), np.uint8)),
        ["mixed cameras", "1280x720"],
    ),
    "other intrinsics": (lambda to, c: c["intrinsics"].update(width=1280, height=720), ["the intrinsics are for 1280x720"]),
    "no board": (blank, ["too few poses", "0 of 12", "board not found"]),
    "few views": (lambda to, c: c.update(views=c["views"][:4]), ["too few poses", "4 of 4"]),
    "lost image": (lambda to, c: (to / "003.png").unlink(), ["cannot read the image"]),
    "lost pose": (lambda to, c: c["views"][2].pop("end_effector_in_base"), ["002.png needs end_effector_in_base"]),
    "unknown key": (lambda to, c: c.update(camrea=1), ["camrea"]),
    "wrong depth unit": (lambda to, c: c.update(depth_unit_m=0.00094), ["printed to another scale", "33.8 mm"]),
    "millimetres": (
        lambda to, c: [row.__setitem__(3, 1000 * row[3]) for view in c["views"] for row in view["end_effector_in_base"][:3]],
        ["millimetres for metres"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_recording_is_named(name, front, tmp_path, capsys):
    change, words = BAD[name]
    to = tmp_path / "views"
    copied(front[0], to, lambda content: change(to, content))
    assert main(["calibrate", "hand-eye", str(to), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert not (tmp_path / "out").exists()


def test_wrong_dictionary_in_the_images_is_named(tmp_path, capsys):
    record(tmp_path / "views", "fixed", 3, size=(640, 480), shown=Board(dictionary="DICT_5X5_50"))
    assert main(["calibrate", "hand-eye", str(tmp_path / "views"), "--out", str(tmp_path / "out")]) == 2
    assert "wrong dictionary" in capsys.readouterr().err


def test_factory_and_calibrated_intrinsics(wrist, capsys):
    folder, _ = wrist
    focal = 720 / 2 / np.tan(np.deg2rad(21))
    assert main(["calibrate", "intrinsics", str(folder), "--json", "-"]) == 0
    factory = json.loads(capsys.readouterr().out)
    assert factory["lens"]["fx"] == pytest.approx(1.01 * focal, rel=1e-4) and len(factory["rms_px"]) == 14
    assert main(["calibrate", "intrinsics", str(folder), "--calibrate", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lens"]["fx"] == pytest.approx(focal, rel=3e-3)
    assert found["total_rms_px"] < 0.1 and 0.3 < found["coverage"] < 0.6
    assert found["verdict"] == "rejected" and "show it in every corner" in found["advice"][0]


def test_derivatives_of_the_corners_are_those_of_finite_differences():
    board, pairs = Board(), make_pairs(count=4)
    hand_eye, small = HandEye("hand", CAMERA_IN_HAND, BOARD_IN_BASE), 1e-6
    views = [Detection(np.arange(24), projected(board.corners, target, LENS) + 3, (1280, 720)) for target in pairs.target]
    seen = SeenCorners(board, views, LENS)

    def values(camera=np.zeros(6), target=np.zeros(6), robot=np.zeros(6), lens=np.zeros(4)):
        chain = Chain(
            HandEye("hand", moved(hand_eye.camera, camera), moved(hand_eye.target, target)),
            moved(pairs.robot, np.tile(robot, (4, 1))),
        )
        return seen.blocks(chain, LENS + lens)[0].values

    block, before = seen.blocks(Chain(hand_eye, pairs.robot), LENS)[0], values()
    near = {"rtol": 1e-4, "atol": 0.02}
    for column, step in enumerate(small * np.eye(6)):
        np.testing.assert_allclose((values(camera=step) - before) / small, block.shared[..., column], **near)
        np.testing.assert_allclose((values(target=step) - before) / small, block.shared[..., 6 + column], **near)
        np.testing.assert_allclose((values(robot=step) - before) / small, block.own[..., column], **near)
    for column, step in enumerate(small * np.eye(4)):
        np.testing.assert_allclose((values(lens=step) - before) / small, block.shared[..., 12 + column], **near)


def test_a_few_wrong_corners_change_little():
    board, pairs = Board(), make_pairs(robot_mm=0.1, robot_deg=0.02, target_mm=0, target_deg=0)
    truth, random = make_pairs(robot_mm=0, robot_deg=0, target_mm=0, target_deg=0), np.random.default_rng(0)
    views = [
        Detection(np.arange(24), projected(board.corners, t, LENS) + random.normal(0, 0.05, (24, 2)), (1280, 720))
        for t in truth.target
    ]
    start = HandEye("hand", CAMERA_IN_HAND, BOARD_IN_BASE)
    clean = adjust(SeenCorners(board, views, LENS), pairs.robot, start)
    for view in views[:6]:
        view.corners[random.integers(24)] += 8.0
    spoilt = adjust(SeenCorners(board, views, LENS), pairs.robot, start)
    assert within(spoilt.hand_eye.camera, clean.hand_eye.camera, 0.05, 0.01)
    assert distance(clean.hand_eye.camera, CAMERA_IN_HAND)[0] < 0.5
    assert (spoilt.weights["corner"] < 0.1).sum() == 6


def test_lens_wrong_in_its_aspect_is_no_second_camera():
    """fx 1 % too long and fy 1 % too short turn what is seen by degrees from pose to pose, as two mixed cameras would."""
    board, pairs, random = Board(), make_pairs(target_mm=0, target_deg=0), np.random.default_rng(0)
    truth = make_pairs(robot_mm=0, robot_deg=0, target_mm=0, target_deg=0).target
    seen = [
        Detection(np.arange(24), projected(board.corners, t, LENS) + random.normal(0, 0.05, (24, 2)), (1280, 720))
        for t in truth
    ]
    given = LENS * (1.01, 0.99, 0.99, 1.01)
    found = calibrate_detections(board, seen, pairs.robot, pairs.names, given, "hand")
    assert found.verdict.accepted and found.used.all()
    assert within(found.hand_eye.camera, CAMERA_IN_HAND, 1.0, 0.1)
    assert not within(found.solvers["park"].camera, CAMERA_IN_HAND, 2.0, 0.2)
