"""Where a camera sits, as a calibration found it: the file that drivers, datasets and the graph read.

Frames by REP 103 and 105: metres, quaternions x y z w; the camera's is its optical frame (z forward, x right, y down), the
base's is the arm's first link (x forward, z up).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from pydantic import Field, ValidationError, model_validator

from robosteer_core.errors import UserError
from robosteer_core.files import write_text
from robosteer_core.rig import Camera, Contract, Finite, Positive, Rig, Vector3
from robosteer_core.runtime.pose import Pose

Quaternion = tuple[Finite, Finite, Finite, Finite]
Row6 = tuple[Finite, Finite, Finite, Finite, Finite, Finite]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CalibratedCamera(Contract):
    name: str
    serial: str = Field(min_length=1)
    mount: Literal["hand", "fixed"]


class CalibratedLens(Contract):
    """Pinhole, pixels; `distortion` is OpenCV's k1, k2, p1, p2, k3. The standard deviations are those of fx, fy, cx, cy."""

    width: int
    height: int
    fx: Positive
    fy: Positive
    cx: Positive
    cy: Positive
    distortion: tuple[Finite, Finite, Finite, Finite, Finite]
    sigma: tuple[NotNegative, NotNegative, NotNegative, NotNegative]


class StaticTransform(Contract):
    """Pose of `child_frame` in `parent_frame`, as in geometry_msgs/TransformStamped."""

    parent_frame: str
    child_frame: str
    translation_m: Vector3
    rotation_xyzw: Quaternion

    @model_validator(mode="after")
    def _unit(self) -> StaticTransform:
        length = float(np.linalg.norm(self.rotation_xyzw))
        if abs(length - 1) > 1e-6:
            raise ValueError(f"rotation_xyzw must be a unit quaternion; its length is {length:.9g}")
        return self

    def matrix(self) -> np.ndarray:
        """4x4."""
        return Pose(np.array(self.translation_m), np.array(self.rotation_xyzw)).matrix()

    @staticmethod
    def of(parent: str, child: str, matrix: np.ndarray) -> StaticTransform:
        pose = Pose.from_matrix(matrix)
        quaternion = pose.quaternion / np.linalg.norm(pose.quaternion)
        return StaticTransform(
            parent_frame=parent,
            child_frame=child,
            translation_m=tuple(map(float, pose.position)),
            rotation_xyzw=tuple(map(float, quaternion)),
        )


class CalibrationErrors(Contract):
    """Errors of poses left out (root mean square), standard deviations along the worst direction, spread of the solvers."""

    loo_mm: NotNegative
    loo_deg: NotNegative
    sigma_mm: NotNegative
    sigma_deg: NotNegative
    spread_mm: NotNegative
    spread_deg: NotNegative
    poses: int
    outliers: tuple[str, ...]


class CameraCalibration(Contract):
    """One calibration. `covariance` (6, 6) is that of a small step of the camera in its own frame: translation [m], rotation
    vector [rad]; the truth lies within a squared Mahalanobis distance of `ellipsoid_95` with a probability of 95 %. `target` is the
    board as it was, in the base frame for a camera on the hand, in the end effector's for one on a stand."""

    date: datetime
    robot: str = Field(description="name of the rig")
    arm: str
    camera: CalibratedCamera
    board: dict[str, int | float | str]
    transform: StaticTransform
    target: StaticTransform
    lens: CalibratedLens
    errors: CalibrationErrors
    covariance: tuple[Row6, Row6, Row6, Row6, Row6, Row6]
    ellipsoid_95: Positive
    verdict: Literal["accepted", "rejected"]
    reason: str

    def require_serial(self, serial: str, source: str = "the calibration") -> None:
        """Raises UserError where it is that of another camera."""
        if serial != self.camera.serial:
            raise UserError(
                f"{source} is of the camera with serial {self.camera.serial!r}, and this one has {serial!r}: every camera "
                "needs a calibration of its own: robosteer calibrate hand-eye"
            )


def frames(arm_model: str, camera_name: str, mount: str) -> tuple[str, str, str]:
    """Names of the frames: the camera's parent, the camera, and the target's parent; the arm's as in franka_description, the
    camera's as in realsense-ros."""
    base, hand = f"{arm_model}_link0", f"{arm_model}_hand_tcp"
    optical = f"{camera_name}_color_optical_frame"
    return (hand, optical, base) if mount == "hand" else (base, optical, hand)


def read_calibration(path: Path) -> CameraCalibration:
    """Raises UserError where the file is missing or is no calibration."""
    try:
        content = yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise UserError(
            f"cannot read the calibration {path}: {error.strerror}; make one: robosteer calibrate hand-eye"
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    try:
        return CameraCalibration.model_validate(content)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or 'calibration'}: {e['msg']} (found {e['input']!r:.60})"
            for e in error.errors()[:6]
        ]
        raise UserError(f"{path} is no calibration:\n" + "\n".join(lines)) from error


def write_calibration(calibration: CameraCalibration, path: Path) -> None:
    text = yaml.safe_dump(calibration.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=128)
    write_text(Path(path), "# Written by `robosteer calibrate hand-eye`; metres, radians, quaternions x y z w.\n" + text)


def rig_calibrations(rig: Rig, folder: Path) -> dict[str, CameraCalibration]:
    """Those of the rig's cameras that `folder` holds as <camera>.yaml, by camera. Raises UserError for one that is not theirs."""
    found = {camera.name: camera_calibration(rig, camera, folder) for camera in rig.cameras}
    return {name: calibration for name, calibration in found.items() if calibration is not None}


def camera_calibration(rig: Rig, camera: Camera, folder: Path) -> CameraCalibration | None:
    """The camera's <camera>.yaml in `folder`, None where there is none. Raises UserError for one of another serial, of a camera
    mounted otherwise or of another arm."""
    path = Path(folder) / f"{camera.name}.yaml"
    if not path.is_file():
        return None
    found = read_calibration(path)
    found.require_serial(camera.serial, str(path))
    was, now = (found.camera.mount, found.arm), (camera.mount, rig.arm.model)
    if was != now:
        raise UserError(
            f"{path} is of a camera mounted {was[0]!r} with the arm {was[1]!r}; in the rig {rig.name!r} it is {now[0]!r}, {now[1]!r}: "
            "calibrate it anew: robosteer calibrate hand-eye"
        )
    return found
