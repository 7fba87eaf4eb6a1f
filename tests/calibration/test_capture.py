"""Guided capture in the lab: the arm moves itself, through FCI, and the cameras' frames come through the SDK."""

import json

import numpy as np
import pytest
import robosteer_sim  # noqa: F401
import mujoco
from PIL import Image

from calibration.board import Board
from calibration.kinematics import forward, way
from known_mounting import within
from robosteer_core.camera_calibration import read_calibration
from robosteer_core.cli import main
from robosteer_core.rig import load_rig
from robosteer_sim.board import BOARDS, usual_board
from robosteer_sim.studio import Studio
from robosteer_sim.variations import AXES, parse_variation

HOME = np.array(load_rig("lab").arm.home_joint_positions_rad)


@pytest.fixture
def live_rig(new_rig, start, start_lab):
    path = new_rig(cameras=[{"name": "wrist", "serial": "lab:wrist", "mount": "hand", "width": 640, "height": 480, "fps": 10}])
    with start_lab(path), start("sim", "cameras", "--rig", str(path), line="drawing"):
        yield path


def test_arm_calibrates_its_wrist_camera_by_itself_and_touches_the_board(live_rig, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # of the nodes that are started: their logs
    out, views = tmp_path / "out", tmp_path / "views"
    words = [
        "calibrate",
        "hand-eye",
        "--rig",
        str(live_rig),
        "--camera",
        "wrist",
        "--keep",
        str(views),
        "--out",
        str(out),
        "--poses",
        "10",
    ]
    assert main([*words, "--json", str(tmp_path / "found.json")]) == 0
    told = capsys.readouterr().err
    assert "view to learn the mounting roughly" in told and "expected so far" in told
    assert f"live view, in a browser: {views.with_suffix('.html').as_uri()}" in told
    assert "10 of 10" in views.with_suffix(".html").read_text()
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(json.loads((views / "recording.json").read_text())["views"]) == 10
    assert within(found["camera_in_hand"], truth(live_rig), 1.5, 0.2)
    assert found["verdict"] == "accepted", found["reason"]
    assert read_calibration(out / "wrist.yaml").camera.serial == "lab:wrist"
    assert "<img" in (out / "wrist.html").read_text()
    assert (
        main(["calibrate", "touch", str(out / "wrist.yaml"), "--rig", str(live_rig), "--json", str(tmp_path / "touch.json")])
        == 0
    )
    touch = json.loads((tmp_path / "touch.json").read_text())
    board = usual_board("board_on_table")
    there = (board.pose @ [*(Board().corners[Board().middle][:2] + 0.01), 0, 1])[:3]
    miss_mm = 1e3 * np.linalg.norm(np.array(touch["point_m"])[:2] - there[:2])
    assert miss_mm < touch["miss_mm"] < 5 and abs(touch["point_m"][2] - there[2]) < 3e-3
    np.testing.assert_allclose(touch["arrived_mm"], (0, 0, 10), atol=0.8)


def truth(path):
    """Pose of the wrist camera's optical frame in the end effector's, from the scene."""
    with Studio(load_rig(path)) as studio:
        studio.build("touch the red cube", 0)
        mujoco.mj_forward(studio.model, studio.data)
        hand, camera = np.eye(4), np.eye(4)
        hand[:3, :3], hand[:3, 3] = studio.data.site("tcp").xmat.reshape(3, 3), studio.data.site("tcp").xpos
        camera[:3, :3], camera[:3, 3] = (
            studio.data.cam("wrist").xmat.reshape(3, 3) @ np.diag([1.0, -1, -1]),
            studio.data.cam("wrist").xpos,
        )
    return np.linalg.inv(hand) @ camera


def test_way_keeps_away_from_joint_limits():
    hand, _ = forward(HOME)
    wanted = hand.copy()
    wanted[2, 3] += 0.05
    arrived = way("fr3", HOME, wanted)
    np.testing.assert_allclose(forward(arrived)[0], wanted, atol=2e-3)
    turned = hand.copy()
    turned[:3, :3] = hand[:3, :3] @ np.array([[np.cos(2.2), -np.sin(2.2), 0], [np.sin(2.2), np.cos(2.2), 0], [0, 0, 1]])
    assert way("fr3", HOME, turned) is None  # joint 7 would come to its limit


def test_boards_of_the_lab_are_the_usual_one_and_no_axis_of_an_evaluation():
    picture = np.asarray(Image.open(robosteer_sim.__path__[0] + "/calibration_board.png").convert("L"))
    np.testing.assert_array_equal(picture, Board().picture(4000, 0.01))
    assert not set(BOARDS) & set(AXES) and parse_variation("board_on_hand+lighting") == ("lighting", "board_on_hand")


def test_without_images_or_pairs_the_command_says_what_to_give(capsys):
    assert main(["calibrate", "hand-eye"]) == 2
    assert "--pairs FILE.json, or --rig" in capsys.readouterr().err
    assert main(["calibrate", "hand-eye", "--rig", "lab", "--camera", "rear"]) == 2
    assert "no camera 'rear'" in capsys.readouterr().err
