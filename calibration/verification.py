"""Whether a camera has moved since it was calibrated, from a few images of the board, wherever that lies now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from calibration.acceptance import worst_sigma
from calibration.image_hand_eye import calibrate_images
from calibration.recording import Lens
from calibration.rigid import distance, steps_between
from calibration.views import Views
from robosteer_core.camera_calibration import CameraCalibration
from robosteer_core.errors import UserError

MIN_VIEWS = 5
#: A shift this improbable by chance, and larger than this, is one.
_PROBABILITY = 0.999
MOVED_MM, MOVED_DEG = 1.0, 0.15
#: A check that cannot see a shift of twice that has seen nothing.
_BLIND = 2.0


@dataclass(frozen=True)
class Verification:
    """`shift_mm`, `shift_deg` between the stored camera pose and the one found now; `seen_mm`, `seen_deg` the smallest shift
    that would have been noticed (at three standard deviations)."""

    moved: bool
    shift_mm: float
    shift_deg: float
    seen_mm: float
    seen_deg: float
    poses: int

    @property
    def words(self) -> str:
        if self.moved:
            return (
                f"moved: the camera is {self.shift_mm:.1f} mm and {self.shift_deg:.2f} degrees from where it was calibrated; "
                "fix it and calibrate again: robosteer calibrate hand-eye"
            )
        return (
            f"in place: {self.shift_mm:.1f} mm and {self.shift_deg:.2f} degrees from where it was calibrated, within what "
            f"{self.poses} poses can tell ({self.seen_mm:.1f} mm, {self.seen_deg:.2f} degrees)"
        )


def verify(stored: CameraCalibration, views: Views) -> Verification:
    """Calibrate from the few views with the lens as stored, and compare. Raises UserError for another camera, and where the
    views are too few or too alike to tell."""
    recording = views.recording.content
    stored.require_serial(recording.camera.serial)
    lens = Lens(**stored.lens.model_dump(exclude={"sigma"}))
    if (lens.width, lens.height) != views.size:
        raise UserError(
            f"the images are {views.size[0]}x{views.size[1]}, the calibration is for {lens.width}x{lens.height}: take them in "
            "that size"
        )
    found = calibrate_images(views, lens, recording.camera.mount, lens_fixed=True).calibration
    was, now = stored.transform.matrix(), found.hand_eye.camera
    covariance = found.adjusted.covariance + np.array(stored.covariance)
    step = steps_between(was, now)
    shift_mm, shift_deg = distance(was, now)
    improbable = step @ np.linalg.solve(covariance, step) > chi2.ppf(_PROBABILITY, 6)
    seen_mm, seen_deg = 3e3 * worst_sigma(covariance[:3, :3]), 3 * float(np.degrees(worst_sigma(covariance[3:, 3:])))
    moved = bool(improbable and (shift_mm > MOVED_MM or shift_deg > MOVED_DEG))
    if not moved and (seen_mm > _BLIND * 3 * MOVED_MM or seen_deg > _BLIND * 3 * MOVED_DEG):
        raise UserError(
            f"these views cannot tell: a shift below {seen_mm:.1f} mm or {seen_deg:.2f} degrees would go unnoticed; take some "
            "more, from poses that turn the hand by 20 degrees and more about different axes"
        )
    return Verification(moved, shift_mm, shift_deg, seen_mm, seen_deg, found.quality.poses)
