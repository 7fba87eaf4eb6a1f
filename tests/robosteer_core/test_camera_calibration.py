"""The calibration file: whole, of the right camera, and in the metadata of what is recorded."""

import numpy as np
import pytest
import yaml

from robosteer_core.camera_calibration import read_calibration, rig_calibrations, write_calibration
from robosteer_core.episodes import layout
from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig


def test_file_gives_back_what_was_written(calibration, tmp_path):
    path = tmp_path / "calibrations" / "wrist.yaml"
    write_calibration(calibration(), path)
    assert read_calibration(path) == calibration()
    assert [file.name for file in path.parent.iterdir()] == ["wrist.yaml"]
    np.testing.assert_allclose(read_calibration(path).transform.matrix()[:3, 3], (0.07, 0, 0))


def test_another_camera_of_the_same_name_is_refused(calibration, tmp_path):
    write_calibration(calibration(serial="1234"), tmp_path / "wrist.yaml")
    with pytest.raises(UserError, match="wrist.yaml is of the camera with serial '1234', and this one has 'lab:wrist'"):
        rig_calibrations(load_rig("lab"), tmp_path)


def test_a_calibration_of_another_mounting_or_arm_is_refused(calibration, tmp_path):
    write_calibration(calibration("front", mount="hand"), tmp_path / "front.yaml")
    with pytest.raises(UserError, match="front.yaml is of a camera mounted 'hand' with the arm 'fr3'; in the rig 'lab' it is 'fixed'"):
        rig_calibrations(load_rig("lab"), tmp_path)
    write_calibration(calibration("front", mount="fixed"), tmp_path / "front.yaml")
    assert list(rig_calibrations(load_rig("lab"), tmp_path)) == ["front"]
    with pytest.raises(UserError, match="with the arm 'fr3'; in the rig 'panda_lab' it is 'fixed', 'panda'"):
        rig_calibrations(load_rig("panda_lab"), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["transform"].update(rotation_xyzw=[0, 0, 0, 2]), "must be a unit quaternion"),
        (lambda content: content.pop("covariance"), "covariance"),
        (lambda content: content.update(colour="red"), "colour"),
        (lambda content: content["lens"].update(fx=float("nan")), "lens.fx"),
    ],
)
def test_file_that_is_no_calibration_is_refused(calibration, tmp_path, change, words):
    content = calibration().model_dump(mode="json")
    change(content)
    (tmp_path / "wrist.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=words):
        read_calibration(tmp_path / "wrist.yaml")


def test_dataset_tells_from_which_episode_on_a_calibration_holds(calibration, tmp_path):
    rig, folder = load_rig("lab"), tmp_path / "dataset"
    sizes = {"front": (32, 32), "wrist": (32, 32)}

    def episode(**options):
        with DatasetWriter(folder, rig, image_sizes=sizes, **options) as writer:
            writer.begin("touch the red cube")
            images = {name: np.zeros((*size, 3), np.uint8) for name, size in sizes.items()}
            stamps = {"front": 0, "wrist": 0, "state": 0, "command": 0, "steering": 0}
            writer.add(state=np.zeros(7, np.float32), action=np.zeros(7, np.float32), images=images, stamps_ns=stamps)
            writer.keep()

    episode()
    assert not (folder / layout.CALIBRATIONS).exists()
    episode(calibrations={"wrist": calibration()})
    episode(calibrations={"wrist": calibration()})
    episode(calibrations={"wrist": calibration(x=0.08)})
    noted = layout.read_json(folder / layout.CALIBRATIONS)
    assert [(entry["from_episode"], entry["cameras"]["wrist"]["transform"]["translation_m"][0]) for entry in noted] == [
        (1, 0.07),
        (3, 0.08),
    ]
    with pytest.raises(UserError, match="serial 'other'"):
        episode(calibrations={"wrist": calibration(serial="other")})
