"""The board: its page is to scale, and it is found in images, or the reason is told."""

import re

import cv2
import numpy as np
import pytest
import yaml

from calibration.board import Board
from calibration.detection import BoardDetector, BoardNotFound, Detection, depth_scale, refuse_other_scale, target_pose
from calibration.page import PAGES
from calibration.pose_set import projected
from calibration.rigid import distance, exp, pose
from robosteer_core.cli import main
from robosteer_core.errors import UserError

LENS = np.array([930.0, 930.0, 639.5, 359.5])
TARGET = pose(exp(np.array([0.3, -0.2, 0.4])), np.array([-0.1, -0.06, 0.5]))


def photograph(board, target=TARGET, size=(1280, 720)):
    """The board as a camera sees it, without noise: its picture under the homography."""
    scale, margin, finer = 6000, board.square_m, 4
    picture = board.picture(scale, margin)
    outline = np.array(
        [[-margin, -margin, 0], [board.size_m[0] + margin, -margin, 0], [board.size_m[0] + margin, board.size_m[1] + margin, 0]]
    )
    outline = np.vstack([outline, [-margin, board.size_m[1] + margin, 0]])
    height, width = picture.shape
    # Edges of pixels lie half a pixel before their centres.
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    seen = finer * (projected(outline, target, LENS) + 0.5) - 0.5
    warp = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
    large = cv2.warpPerspective(picture, warp, (finer * size[0], finer * size[1]), borderValue=150)
    return cv2.resize(large, size, interpolation=cv2.INTER_AREA)


def test_page_is_to_scale(tmp_path, capsys):
    """Read from the PDF itself: the size of the page, and the outline of every black rectangle, in points."""
    out = tmp_path / "board.pdf"
    assert main(["calibrate", "board", "--out", str(out)]) == 0
    assert "A4" in capsys.readouterr().out
    text, point = out.read_bytes().decode("latin-1"), 25.4 / 72
    box = [float(word) for word in re.search(r"/MediaBox \[([^\]]*)\]", text)[1].split()]
    np.testing.assert_allclose(np.array(box[2:]) * point, PAGES["A4"], atol=0.01)
    outlines = re.findall(r"([\d.]+) ([\d.]+) m\n([\d.]+) ([\d.]+) l\n([\d.]+) ([\d.]+) l\n([\d.]+) ([\d.]+) l\nh", text)
    rectangles = np.array(outlines, float).reshape(-1, 4, 2) * point
    rectangles = rectangles[np.ptp(rectangles, axis=1).max(1) < 100]  # but the page's own
    board = Board()
    assert len(rectangles) == len(board.black())
    expected = 1e3 * np.array(board.black())
    np.testing.assert_allclose(np.ptp(rectangles, axis=1), expected[:, 2:], atol=0.01)
    whole = rectangles.reshape(-1, 2)
    np.testing.assert_allclose(np.ptp(whole, axis=0), (252, 180), atol=0.01)
    ticks = re.findall(r"([\d.]+) [\d.]+ m\n\1 [\d.]+ l", text)
    steps = np.diff(np.array(ticks, float)) * point
    np.testing.assert_allclose(steps[:200], 1.0, atol=0.01)
    assert yaml.safe_load(out.with_suffix(".yaml").read_text()) == board.model_dump()
    assert BoardDetector(board).detect(cv2.imread(str(out.with_suffix(".png")))).ids.size == 24


def test_picture_is_that_of_opencv():
    board = Board(square_m=0.04, marker_m=0.03)
    expected = board.cv.generateImage((7 * 80, 5 * 80))
    assert (board.picture(2000) != expected).mean() < 0.001


def test_corners_are_found_where_they_are():
    board = Board()
    seen = BoardDetector(board).detect(photograph(board))
    assert seen.ids.tolist() == list(range(24))
    assert np.abs(seen.corners - projected(board.corners, TARGET, LENS)).max() < 0.15
    target, rms = target_pose(board, seen, LENS)
    far_mm, turned_deg = distance(target, TARGET)
    assert rms < 0.1 and far_mm < 0.5 and turned_deg < 0.05


def test_wrong_dictionary_is_named():
    with pytest.raises(BoardNotFound, match="wrong dictionary: 17 markers of DICT_6X6_.*expected DICT_4X4_50.*--board"):
        BoardDetector(Board()).detect(photograph(Board(dictionary="DICT_6X6_100")))


def test_absent_board_is_named_with_what_to_do():
    grey = np.full((720, 1280), 128, np.uint8)
    with pytest.raises(BoardNotFound, match="x.png: board not found.*almost uniform.*Show all of the board"):
        BoardDetector(Board()).detect(grey, "x.png")
    with pytest.raises(BoardNotFound, match="board not found"):
        BoardDetector(Board()).detect(np.random.default_rng(0).integers(0, 255, (720, 1280), np.uint8))


def test_board_printed_to_fit_the_page_is_refused():
    """At 94 % the camera believes the board farther away than depth says."""
    board = Board()
    seen = Detection(np.arange(24), projected(board.corners, TARGET, LENS), (1280, 720))
    expected = (board.corners @ TARGET[:3, :3].T + TARGET[:3, 3])[:, 2].mean()
    flat = pose(np.eye(3), np.array([-0.1, -0.06, expected]))
    seen = Detection(np.arange(24), projected(board.corners, flat, LENS), (1280, 720))
    depth = np.full((720, 1280), 0.94 * expected)
    assert depth_scale(board, seen, LENS, depth) == pytest.approx(0.94, abs=1e-3)
    with pytest.raises(UserError, match="another scale.*measure 33.8 mm, expected 36 mm.*100 %"):
        refuse_other_scale(board, seen, LENS, depth, "x.png")
    refuse_other_scale(board, seen, LENS, depth / 0.94, "x.png")
    refuse_other_scale(board, seen, LENS, np.zeros_like(depth), "x.png")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--marker-mm", "40"], "smaller than its square"),
        (["--dictionary", "DICT_9X9_9"], "expected one of DICT_4X4_100"),
        (["--columns", "30", "--rows", "20"], "has 50"),
        (["--columns", "12", "--square-mm", "200"], "fits on no page"),
    ],
)
def test_impossible_board_is_refused(options, words, tmp_path, capsys):
    assert main(["calibrate", "board", "--out", str(tmp_path / "board.pdf"), *options]) == 2
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())
