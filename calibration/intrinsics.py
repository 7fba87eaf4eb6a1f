"""The lens: factory values, or calibrated; how well each image fits, and how much of the image the board has been in."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from calibration.detection import target_pose
from calibration.recording import Lens
from calibration.views import Views
from robosteer_core.errors import UserError

MIN_IMAGES = 8
#: Of the image's cells so many must have held a corner, or the lens is guessed in the rest.
MIN_COVERAGE = 0.6
#: A sharp image of a flat board fits to a tenth of a pixel; one that fits worse than this is blurred or the board is bent.
ACCEPTED_RMS_PX = 0.5
_TILT_RAD = np.deg2rad(10)


@dataclass(frozen=True)
class LensCalibration:
    """`rms_px` root mean square of the reprojection by image name, `sigma` standard deviations of fx, fy, cx, cy (None for
    factory values), `coverage` part of the image's cells that held corners, `advice` what would make it better."""

    lens: Lens
    source: str
    rms_px: dict[str, float]
    total_rms_px: float
    coverage: float
    sigma: tuple[float, float, float, float] | None
    advice: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        return not self.advice


def factory_lens(views: Views) -> LensCalibration:
    """How the recording's own intrinsics fit its images. Raises UserError where it has none."""
    lens = views.recording.content.intrinsics
    if lens is None:
        raise UserError(
            f"{views.recording.folder} has no intrinsics of its own; calibrate them: robosteer calibrate intrinsics --calibrate"
        )
    rms = {name: target_pose(views.board, seen, lens.vector)[1] for name, seen in zip(views.names(), views.straightened(lens))}
    return _judged(lens, "factory", rms, views, None, tilt=np.inf)


def calibrated_lens(views: Views) -> LensCalibration:
    """Zhang's calibration by OpenCV, with distortion k1, k2, p1, p2, k3. Raises UserError where the images do not allow it."""
    if len(views.seen) < MIN_IMAGES:
        raise UserError(
            f"calibrating a lens takes at least {MIN_IMAGES} images of the board, tilted differently; found {len(views.seen)}"
        )
    points = [views.board.corners[seen.ids].astype(np.float32) for seen in views.seen.values()]
    corners = [seen.corners.astype(np.float32)[:, None] for seen in views.seen.values()]
    _, matrix, distortion, turns, _, deviations, _, errors = cv2.calibrateCameraExtended(
        points, corners, views.size, None, None
    )
    tilts = [np.arccos(np.clip(abs(cv2.Rodrigues(turn)[0][2, 2]), 0, 1)) for turn in turns]
    k = (float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]))
    if not np.isfinite(matrix).all() or min(k) <= 0:
        raise UserError("the images determine no lens: tilt the board by 20 to 40 degrees in different directions between them")
    lens = Lens(
        width=views.size[0],
        height=views.size[1],
        fx=k[0],
        fy=k[1],
        cx=k[2],
        cy=k[3],
        distortion=tuple(map(float, distortion.ravel()[:5])),
    )
    rms = dict(zip(views.names(), map(float, errors.ravel())))
    return _judged(lens, "calibrated", rms, views, tuple(map(float, deviations.ravel()[:4])), tilt=float(np.max(tilts)))


def _judged(lens: Lens, source: str, rms: dict[str, float], views: Views, sigma: tuple | None, tilt: float) -> LensCalibration:
    total = float(np.sqrt(np.mean(np.square(list(rms.values())))))
    coverage = float((views.coverage() > 0).mean())
    advice = []
    if total > ACCEPTED_RMS_PX:
        worst = max(rms, key=rms.get)
        advice.append(
            f"the images fit to {total:.2f} px, {worst} to {rms[worst]:.2f} px: hold still, light evenly, glue the board flat"
        )
    if source == "calibrated" and coverage < MIN_COVERAGE:
        advice.append(
            f"the board was in {100 * coverage:.0f} % of the image: show it in every corner (at least "
            f"{100 * MIN_COVERAGE:.0f} %)"
        )
    if tilt < _TILT_RAD:
        advice.append(f"the board was tilted by {np.degrees(tilt):.0f} degrees at most: tilt it by 20 to 40")
    return LensCalibration(lens, source, rms, total, coverage, sigma, tuple(advice))
