"""Hand-eye calibration from images: corners straight into the bundle adjustment, the lens free within bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calibration.acceptance import Criteria, Verdict
from calibration.adjustment import adjust
from calibration.corners import LENS_BOUND, SeenCorners
from calibration.detection import target_pose
from calibration.hand_eye import Calibration, again_outliers, conclude, first_solution, left_out_errors
from calibration.pairs import MIN_POSES, PosePairs, checked_pairs
from calibration.recording import Lens
from calibration.solvers import Mount
from calibration.views import Views, check_scale


@dataclass(frozen=True)
class ImageCalibration:
    """`calibration` over the views that show the board; `given` lens and the `lens` as adjusted, with standard deviations
    `lens_sigma` (4,) [px]; `depth_scale` as measured over expected, where there is depth."""

    calibration: Calibration
    views: Views
    given: Lens
    lens: Lens
    lens_sigma: np.ndarray
    depth_scale: float | None


def calibrate_images(
    views: Views, given: Lens, mount: Mount, criteria: Criteria = Criteria(), lens_fixed: bool = False
) -> ImageCalibration:
    """Solve hand-eye calibration from detected boards. Raises UserError where the views do not tell."""
    scale = check_scale(views, given)
    indices, seen = list(views.seen), views.straightened(given)
    robot = views.recording.robot()[indices]
    targets = np.array([target_pose(views.board, view, given.vector)[0] for view in seen])
    pairs = checked_pairs(robot, targets, views.names())
    start, used, notes = first_solution(pairs, mount)
    hand_eye = start
    for last in (False, True):
        chosen = [seen[index] for index in np.flatnonzero(used)]
        kept = pairs.subset(used)
        adjusted = adjust(SeenCorners(views.board, chosen, given.vector, lens_fixed), kept.robot, hand_eye)
        hand_eye = adjusted.hand_eye
        lens = given.vector if lens_fixed else adjusted.lens
        # With the lens as it was found the board is where it was.
        better = np.array([target_pose(views.board, view, lens)[0] for view in chosen])
        kept = PosePairs(kept.robot, better, kept.names)
        errors = left_out_errors(kept, adjusted)
        again = again_outliers(errors)
        if last or not again.any() or (~again).sum() < MIN_POSES:
            break
        used[np.flatnonzero(used)[again]] = False
    every = PosePairs(robot, np.array([target_pose(views.board, view, lens)[0] for view in seen]), pairs.names)
    found = conclude(every, used, adjusted, errors, notes, criteria)
    # The closed forms are compared on what they would have had: the lens as given.
    found = replace(found, solvers=conclude(pairs, used, adjusted, errors, notes, criteria).solvers)
    sigma = np.zeros(4) if lens_fixed else np.sqrt(np.diag(adjusted.lens_covariance))
    if not lens_fixed and np.any(np.abs(lens / given.vector - 1) > 0.98 * LENS_BOUND):
        reason = (
            f"the intrinsics would have to change by more than {100 * LENS_BOUND:.0f} %: calibrate them first (robosteer calibrate "
            "intrinsics)"
        )
        joined = reason if found.verdict.accepted else f"{reason}; {found.verdict.reason}"
        found = replace(found, verdict=Verdict(False, joined))
    better_lens = given.model_copy(update=dict(zip(("fx", "fy", "cx", "cy"), map(float, lens))))
    return ImageCalibration(found, views, given, better_lens, sigma, scale)
