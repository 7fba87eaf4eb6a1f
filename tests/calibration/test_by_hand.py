"""An operator who leads the hand as the words say, in a lab without physics: only where things are, and what is seen."""

import re
import time
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import robosteer_sim  # noqa: F401
import mujoco
from PIL import Image

from calibration.board import Board
from calibration.capture import Capture, NextPose
from calibration.detection import BoardNotFound
from calibration.image_hand_eye import calibrate_images
from calibration.kinematics import forward, reach
from calibration.live_page import LivePage
from calibration.mover import LedByHand
from calibration.recording import RecordedFolder
from calibration.rigid import moved
from calibration.views import find_boards
from known_mounting import within
from lab_board import lab
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame import Frame
from robosteer_core.runtime.pose import Pose
from robosteer_sim.render import Renderer, intrinsics


class Clock:
    """Time that passes when it is slept."""

    now = 0

    def now_ns(self):
        return self.now

    def sleep_until_ns(self, stamp_ns):
        self.now = max(self.now, stamp_ns)
        return self.now


class LedArm:
    """Camera, arm and operator."""

    def __init__(self, rig, board):
        self.rig, self.arm = rig, self
        self._model, self._name, self.truth = lab(board, "fixed", rig)
        self._data, self._renderer = mujoco.MjData(self._model), Renderer(self._model, 640, 480)
        self._lens = intrinsics(self._model, self._name, 640, 480)
        self.joints = np.array(rig.arm.home_joint_positions_rad)
        self.told = []

    def state(self):
        return SimpleNamespace(measured=Pose.from_matrix(forward(self.joints)[0]), joint_positions=self.joints)

    def frames(self, stamp_ns):
        self._data.qpos[:7] = self.joints
        mujoco.mj_forward(self._model, self._data)
        colour, depth = self._renderer.render(self._data, self._name)
        return {self._name: Frame(self._name, stamp_ns, 0, colour, np.rint(1000 * depth).astype(np.uint16), 0.001, self._lens)}

    def lead(self, words):
        """Go by the words alone; where they lead out of reach, stay."""
        self.told.append(words)
        step = np.zeros(6)
        for value, unit, axis in re.findall(
            r"([+-]\d+) (mm|degrees) (?:forward along the |along |about )(hand's x|its [xyz],?)", words
        ):
            step["xyz".index(axis.rstrip(",")[-1]) + 3 * (unit == "degrees")] = float(value) * (
                1e-3 if unit == "mm" else np.pi / 180
            )
        joints = reach("fr3", moved(forward(self.joints)[0], step), self.joints)
        self.joints = self.joints if joints is None else joints
        return True

    def close(self):
        self._renderer.close()


@pytest.fixture
def led():
    arm = LedArm(load_rig("lab"), Board())
    yield arm
    arm.close()


def test_views_that_the_words_lead_to_calibrate_the_camera(led, tmp_path):
    seen, page = [], LivePage(tmp_path / "views.html", "front of the lab")

    def watch(progress):
        seen.append(progress)
        page.show(progress)

    capture = Capture(led, led.rig.camera("front"), Board(), tmp_path / "views", LedByHand(led.lead), Clock(), watch)
    assert capture.run(14) == 14
    page.end()
    assert [progress.views for progress in seen] == list(range(1, 15)) and seen[-1].next is None
    shown = page.path.read_text()
    assert "14 of 14" in shown and f"{seen[-1].expected.sigma_mm:.2f} mm" in shown and shown.count("<img") == 2
    assert "http-equiv" not in shown, "what has ended is not drawn anew"
    errors = [progress.expected.sigma_mm for progress in seen if progress.expected is not None]
    assert errors[-1] < errors[0] / 2 and errors == sorted(errors, reverse=True)
    assert led.told == [progress.next.words for progress in seen[:-1]] and all(words.startswith("next: ") for words in led.told)
    recording = RecordedFolder(tmp_path / "views")
    found = calibrate_images(find_boards(recording, Board(), 5), recording.content.intrinsics, "fixed")
    assert within(found.calibration.hand_eye.camera, led.truth.camera, 2.0, 0.2)


def test_the_page_shows_the_image_its_corners_and_where_the_board_is_to_be_next(led, tmp_path):
    def stop(words):
        return False

    page, seen = LivePage(tmp_path / "views.html", "front of the lab"), []
    capture = Capture(led, led.rig.camera("front"), Board(), tmp_path / "views", LedByHand(stop), Clock(), seen.append)
    with pytest.raises(UserError, match="only 1 views"):
        capture.run(14)
    outline = np.array([[100.0, 60], [500, 60], [500, 400], [100, 400]])
    page.show(replace(seen[0], next=NextPose("next: +20 mm along its y", outline)))
    deadline = time.monotonic() + 30
    while not page.path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shown = page.path.read_text()
    assert 'http-equiv="refresh"' in shown and "next: +20 mm along its y" in shown and "1 of 14" in shown and "not yet" in shown
    picture = np.asarray(Image.open(BytesIO(b64decode(re.search(r"base64,([^\"]+)", shown)[1]))), float)
    scale = picture.shape[1] / 640

    def colour_at(point):
        x, y = np.rint(scale * np.asarray(point)).astype(int)
        return picture[y, x]

    np.testing.assert_allclose(colour_at((300, 400)), (240, 110, 0), atol=40)
    for corner in seen[0].found.corners:
        np.testing.assert_allclose(colour_at(corner), (190, 18, 60), atol=60)
    page.end()


def test_enough_is_enough(led, tmp_path):
    """The operator may end, and so does a small expected error."""
    capture = Capture(
        led, led.rig.camera("front"), Board(), tmp_path / "views", LedByHand(led.lead), Clock(), lambda progress: None
    )
    assert capture.run(30, sigma_mm=5.0) == 10


def test_a_board_that_is_not_in_view_is_said_beside_the_image_and_no_view_is_written(led, tmp_path):
    led.joints = led.joints + (1.2, 0, 0, 0, 0, 0, 0)
    page = LivePage(tmp_path / "views.html", "front of the lab")
    capture = Capture(led, led.rig.camera("front"), Board(), tmp_path / "views", LedByHand(led.lead), Clock(), page.show)
    with pytest.raises(BoardNotFound, match="camera 'front': board not found"):
        capture.run(14)
    page.end()
    assert "0: camera &#39;front&#39;: board not found" in page.path.read_text() and "<img" in page.path.read_text()
    assert not (tmp_path / "views").exists()
