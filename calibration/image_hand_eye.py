"""Hand-eye calibration from images: corners straight into the bundle adjustment, the lens free within bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calibration.acceptance import Criteria, Verdict
from calibration.adjustment import adjust
from calibration.board import Board
from calibration.corners import LENS_BOUND, SeenCorners
from calibration.detection import Detection, target_pose
from calibration.hand_eye import Calibration, again_outliers, conclude, first_solution, left_out_errors
from calibration.pairs import MIN_POSES, PosePairs, checked_pairs
from calibration.recording import Lens
from calibration.robust_start import FLOOR, FLOOR_OF_FREE_LENS
from calibration.solvers import SOLVERS, Mount, solve
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
    robot = views.recording.robot()[list(views.seen)]
    found = calibrate_detections(
        views.board, views.straightened(given), robot, views.names(), given.vector, mount, criteria, lens_fixed
    )
    lens = found.adjusted.lens if len(found.adjusted.lens) else given.vector
    sigma = np.sqrt(np.diag(found.adjusted.lens_covariance)) if len(found.adjusted.lens) else np.zeros(4)
    better_lens = given.model_copy(update=dict(zip(("fx", "fy", "cx", "cy"), map(float, lens))))
    return ImageCalibration(found, views, given, better_lens, sigma, scale)


def calibrate_detections(
    board: Board, seen: list[Detection], robot: np.ndarray, names: tuple[str, ...], given: np.ndarray, mount: Mount,
    criteria: Criteria = Criteria(), lens_fixed: bool = False,
) -> Calibration:  # fmt: skip
    """The same from corners without distortion, seen from end effector poses `robot` (n, 4, 4) through the lens `given` (4,)."""
    pairs = checked_pairs(robot, _targets(board, seen, given), names)
    hand_eye, used, notes = first_solution(pairs, mount, FLOOR if lens_fixed else FLOOR_OF_FREE_LENS)
    for last in (False, True):
        chosen = [seen[index] for index in np.flatnonzero(used)]
        kept = pairs.subset(used)
        adjusted = adjust(SeenCorners(board, chosen, given, lens_fixed), kept.robot, hand_eye)
        hand_eye, lens = adjusted.hand_eye, given if lens_fixed else adjusted.lens
        # With the lens as it was found the board is where it was.
        errors = left_out_errors(PosePairs(kept.robot, _targets(board, chosen, lens), kept.names), adjusted)
        again = again_outliers(errors)
        if last or not again.any() or (~again).sum() < MIN_POSES:
            break
        used[np.flatnonzero(used)[again]] = False
    every = PosePairs(pairs.robot, _targets(board, seen, lens), names)
    found = conclude(every, used, adjusted, errors, notes, criteria)
    # The closed forms are shown with what they would have had: the lens as given.
    found = replace(found, solvers={solver: solve(pairs.subset(used), mount, solver) for solver in SOLVERS})
    if not lens_fixed and np.any(np.abs(lens / given - 1) > 0.98 * LENS_BOUND):
        reason = (
            f"the intrinsics would have to change by more than {100 * LENS_BOUND:.0f} %: calibrate them first "
            "(robosteer calibrate intrinsics)"
        )
        joined = reason if found.verdict.accepted else f"{reason}; {found.verdict.reason}"
        found = replace(found, verdict=Verdict(False, joined))
    return found


def _targets(board: Board, seen: list[Detection], lens: np.ndarray) -> np.ndarray:
    """(n, 4, 4) board in the camera, view by view."""
    return np.array([target_pose(board, view, lens)[0] for view in seen])
