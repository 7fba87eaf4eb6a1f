"""The calibration file: whole, of the right camera, and in the metadata of what is recorded."""

from datetime import datetime, timezone

import numpy as np
import pytest
import yaml

from robosteer_core.camera_calibration import (
    CalibratedCamera,
    CalibratedLens,
    CalibrationErrors,
    CameraCalibration,
    StaticTransform,
    frames,
    read_calibration,
    rig_calibrations,
    write_calibration,
)
from robosteer_core.episodes import layout
from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig


def calibration(serial="lab:wrist", x=0.07):
    camera = np.eye(4)
    camera[0, 3] = x
    parent, optical, other = frames("fr3", "wrist", "hand")
    return CameraCalibration(
        date=datetime(2026, 11, 21, tzinfo=timezone.utc), robot="lab", arm="fr3",
        camera=CalibratedCamera(name="wrist", serial=serial, mount="hand"), board={"columns": 7},
        transform=StaticTransform.of(parent, optical, camera), target=StaticTransform.of(other, "calibration_board", np.eye(4)),
        lens=CalibratedLens(width=640, height=480, fx=600, fy=600, cx=320, cy=240, distortion=(0,) * 5, sigma=(1,) * 4),
        errors=CalibrationErrors(loo_mm=1, loo_deg=0.1, sigma_mm=0.2, sigma_deg=0.02, spread_mm=1, spread_deg=0.1, poses=20, outliers=()),
        covariance=tuple(map(tuple, (1e-8 * np.eye(6)).tolist())), ellipsoid_95=12.6, verdict="accepted", reason="",
    )  # fmt: skip


def test_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "calibrations" / "wrist.yaml"
    write_calibration(calibration(), path)
    assert read_calibration(path) == calibration()
    assert [file.name for file in path.parent.iterdir()] == ["wrist.yaml"]
    np.testing.assert_allclose(read_calibration(path).transform.matrix()[:3, 3], (0.07, 0, 0))


def test_another_camera_of_the_same_name_is_refused(tmp_path):
    write_calibration(calibration("1234"), tmp_path / "wrist.yaml")
    with pytest.raises(UserError, match="wrist.yaml is of the camera with serial '1234', and this one has 'lab:wrist'"):
        rig_calibrations(load_rig("lab"), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["transform"].update(rotation_xyzw=[0, 0, 0, 2]), "must be a unit quaternion"),
        (lambda content: content.pop("covariance"), "covariance"),
        (lambda content: content.update(colour="red"), "colour"),
        (lambda content: content["lens"].update(fx=float("nan")), "lens.fx"),
    ],
)
def test_file_that_is_no_calibration_is_refused(tmp_path, change, words):
    content = calibration().model_dump(mode="json")
    change(content)
    (tmp_path / "wrist.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=words):
        read_calibration(tmp_path / "wrist.yaml")


def test_dataset_tells_from_which_episode_on_a_calibration_holds(tmp_path):
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
        episode(calibrations={"wrist": calibration("other")})
