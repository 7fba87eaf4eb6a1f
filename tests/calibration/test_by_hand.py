"""An operator who leads the hand as the words say, in a lab without physics: only where things are, and what is seen."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import robosteer_sim  # noqa: F401
import mujoco

from calibration.board import Board
from calibration.capture import Capture
from calibration.detection import BoardNotFound
from calibration.image_hand_eye import calibrate_images
from calibration.kinematics import forward, reach
from calibration.mover import LedByHand
from calibration.recording import RecordedFolder
from calibration.rigid import moved
from calibration.views import find_boards
from known_mounting import within
from lab_board import lab
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
    seen = []
    capture = Capture(led, led.rig.camera("front"), Board(), tmp_path / "views", LedByHand(led.lead), Clock(), seen.append)
    assert capture.run(14) == 14
    errors = [progress.expected.sigma_mm for progress in seen if progress.expected is not None]
    assert errors[-1] < errors[0] / 2 and errors == sorted(errors, reverse=True)
    assert len(led.told) >= 13 and all(words.startswith("next: ") for words in led.told)
    recording = RecordedFolder(tmp_path / "views")
    found = calibrate_images(find_boards(recording, Board(), 5), recording.content.intrinsics, "fixed")
    assert within(found.calibration.hand_eye.camera, led.truth.camera, 2.0, 0.2)


def test_enough_is_enough(led, tmp_path):
    """The operator may end, and so does a small expected error."""
    capture = Capture(
        led, led.rig.camera("front"), Board(), tmp_path / "views", LedByHand(led.lead), Clock(), lambda progress: None
    )
    assert capture.run(30, sigma_mm=5.0) == 10


def test_nothing_is_written_while_the_board_is_not_in_view(led, tmp_path):
    led.joints = led.joints + (1.2, 0, 0, 0, 0, 0, 0)
    capture = Capture(
        led, led.rig.camera("front"), Board(), tmp_path / "views", LedByHand(led.lead), Clock(), lambda progress: None
    )
    with pytest.raises(BoardNotFound, match="camera 'front': board not found"):
        capture.run(14)
    assert not (tmp_path / "views").exists()
