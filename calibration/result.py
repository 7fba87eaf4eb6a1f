"""From a solved calibration to the file that the rest of the stack reads."""

from __future__ import annotations

from datetime import datetime, timezone

from calibration.acceptance import ellipsoid_scale
from calibration.image_hand_eye import ImageCalibration
from robosteer_core.camera_calibration import (
    CalibratedCamera,
    CalibratedLens,
    CalibrationErrors,
    CameraCalibration,
    StaticTransform,
    frames,
)


def result(found: ImageCalibration, arm_model: str) -> CameraCalibration:
    """`arm_model` is fr3 or panda: it names the frames."""
    recording, calibration = found.views.recording.content, found.calibration
    quality, adjusted = calibration.quality, calibration.adjusted
    parent, optical, other = frames(arm_model, recording.camera.name, recording.camera.mount)
    return CameraCalibration(
        date=datetime.now(timezone.utc).replace(microsecond=0),
        robot=recording.robot,
        arm=arm_model,
        camera=CalibratedCamera(**recording.camera.model_dump()),
        board=found.views.board.model_dump(),
        transform=StaticTransform.of(parent, optical, calibration.hand_eye.camera),
        target=StaticTransform.of(other, "calibration_board", calibration.hand_eye.target),
        lens=CalibratedLens(**found.lens.model_dump(), sigma=tuple(map(float, found.lens_sigma))),
        errors=CalibrationErrors(
            **{name: getattr(quality, name) for name in ("loo_mm", "loo_deg", "sigma_mm", "sigma_deg", "spread_mm", "spread_deg", "poses")},
            outliers=tuple(outlier.name for outlier in calibration.outliers),
        ),
        covariance=tuple(tuple(map(float, row)) for row in adjusted.covariance),
        ellipsoid_95=ellipsoid_scale(adjusted.freedom),
        verdict=calibration.verdict.word,
        reason=calibration.verdict.reason,
    )  # fmt: skip
