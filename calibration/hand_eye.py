"""Hand-eye calibration from pose pairs: closed forms, bundle adjustment, errors of poses left out, verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.acceptance import STEADY_SOLVERS, Criteria, Quality, Verdict, judge, worst_sigma
from calibration.adjustment import Adjusted, adjust
from calibration.diagnosis import exchanged, explained, refuse_mismatched_turns, refuse_poor_motion
from calibration.motion import motion_of
from calibration.pairs import MIN_POSES, PosePairs
from calibration.rigid import distance, steps_between
from calibration.robust_start import FLOOR
from calibration.seen_targets import SeenTargets
from calibration.solvers import SOLVERS, HandEye, Mount, misfit_sizes, solve
from robosteer_core.errors import UserError

#: A left-out pair farther off than this many times the typical one is an outlier.
_OUTLIER = 4.0


@dataclass(frozen=True)
class Outlier:
    """A pair that was left out: its misfit, and what may be wrong with it."""

    name: str
    index: int
    misfit_mm: float
    misfit_deg: float
    note: str = ""


@dataclass(frozen=True)
class Calibration:
    """The result. `used` (n,) bool of the given pairs; `solvers` by name, None where one has no solution; `left_out` (m, 2)
    errors of the used pairs' targets as predicted without them, millimetres and degrees."""

    pairs: PosePairs
    used: np.ndarray
    adjusted: Adjusted
    solvers: dict[str, HandEye | None]
    left_out: np.ndarray
    outliers: tuple[Outlier, ...]
    quality: Quality
    verdict: Verdict

    @property
    def hand_eye(self) -> HandEye:
        return self.adjusted.hand_eye


def calibrate_pairs(pairs: PosePairs, mount: Mount | None = None, criteria: Criteria = Criteria()) -> Calibration:
    """Solve hand-eye calibration; `mount` None finds out which one it is. Raises UserError where the pairs do not tell."""
    start, used, notes = first_solution(pairs, mount)
    kept = pairs.subset(used)
    adjusted = adjust(SeenTargets(kept.target), kept.robot, start)
    errors = left_out_errors(kept, adjusted)
    again = again_outliers(errors)
    if again.any() and (~again).sum() >= MIN_POSES:
        used[np.flatnonzero(used)[again]] = False
        kept = pairs.subset(used)
        adjusted = adjust(SeenTargets(kept.target), kept.robot, adjusted.hand_eye)
        errors = left_out_errors(kept, adjusted)
    return conclude(pairs, used, adjusted, errors, notes, criteria)


def first_solution(
    pairs: PosePairs, mount: Mount | None, floor: np.ndarray = FLOOR
) -> tuple[HandEye, np.ndarray, dict[int, str]]:
    """Park's solution over the pairs that agree, which these are (n,), and notes on others by index. Pairs that fit to
    within `floor` (2,) [m, rad] agree in any case.

    Raises UserError naming what is wrong with the pairs as a whole.
    """
    if len(pairs) < MIN_POSES:
        raise UserError(f"too few poses: expected at least {MIN_POSES}, found {len(pairs)}; take about 20")
    refuse_mismatched_turns(pairs, floor)
    refuse_poor_motion(pairs)
    start = explained(pairs, mount, floor)
    if start.inliers.sum() < MIN_POSES:
        raise UserError(
            f"too few poses: only {start.inliers.sum()} of {len(pairs)} pairs agree with each other, expected at least "
            f"{MIN_POSES}; take about 20"
        )
    refuse_poor_motion(pairs.subset(start.inliers))
    notes = {}
    for first, second in exchanged(pairs, start):
        notes[first] = f"its target fits {pairs.names[second]}: the two seem exchanged"
        notes[second] = f"its target fits {pairs.names[first]}: the two seem exchanged"
    return start.hand_eye, start.inliers.copy(), notes


def left_out_errors(pairs: PosePairs, adjusted: Adjusted) -> np.ndarray:
    """(n, 2) millimetres and degrees between each target as seen and as predicted from all the other pairs."""
    found = np.empty((len(pairs), 2))
    for index, (without, _) in enumerate(adjusted.without):
        predicted = without.target_in_camera(pairs.robot[index : index + 1])[0]
        found[index] = distance(pairs.target[index], predicted)
    return found


def again_outliers(errors: np.ndarray) -> np.ndarray:
    limit = np.maximum(_OUTLIER / 1.54 * np.median(errors, axis=0), FLOOR * (1e3, 180 / np.pi) / 2)
    return (errors > limit).any(1)


def conclude(
    pairs: PosePairs, used: np.ndarray, adjusted: Adjusted, errors: np.ndarray, notes: dict[int, str], criteria: Criteria
) -> Calibration:
    """Compare the solvers, name the outliers and judge."""
    kept, mount = pairs.subset(used), adjusted.hand_eye.mount
    solvers = {solver: solve(kept, mount, solver) for solver in SOLVERS}
    sizes = misfit_sizes(pairs, adjusted.hand_eye)
    outliers = tuple(
        Outlier(pairs.names[i], int(i), float(sizes[i, 0] * 1e3), float(np.degrees(sizes[i, 1])), notes.get(int(i), ""))
        for i in np.flatnonzero(~used)
    )
    steady = [solvers[name].camera for name in STEADY_SOLVERS if solvers[name] is not None]
    apart = np.array([distance(one, other) for one in steady for other in steady] or [(np.inf, np.inf)]).max(0)
    rms, worst = np.sqrt((errors**2).mean(0)), errors.max(0)
    quality = Quality(
        *map(float, rms), *map(float, worst), worst_sigma(adjusted.covariance[:3, :3]) * 1e3,
        float(np.degrees(worst_sigma(adjusted.covariance[3:, 3:]))), *map(float, apart), int(used.sum()), len(outliers),
        motion_of(kept.robot),
    )  # fmt: skip
    return Calibration(pairs, used, adjusted, solvers, errors, outliers, quality, judge(quality, criteria))


def solver_table(calibration: Calibration) -> dict[str, dict]:
    """What each solver found, and how it compares: with the adjusted result, and with the used pairs."""
    kept, found = calibration.pairs.subset(calibration.used), {}
    for name, hand_eye in {**calibration.solvers, "adjusted": calibration.hand_eye}.items():
        if hand_eye is None:
            found[name] = {"camera": None}
            continue
        sizes = np.sqrt((misfit_sizes(kept, hand_eye) ** 2).mean(0))
        away_mm, away_deg = distance(calibration.hand_eye.camera, hand_eye.camera)
        found[name] = {
            "camera": hand_eye.camera.tolist(), "misfit_mm": float(sizes[0] * 1e3), "misfit_deg": float(np.degrees(sizes[1])),
            "from_adjusted_mm": away_mm, "from_adjusted_deg": away_deg,
        }  # fmt: skip
    return found


def mahalanobis(truth: np.ndarray, adjusted: Adjusted) -> float:
    """Squared distance of a camera pose (4x4) from the adjusted one in units of its covariance."""
    step = steps_between(adjusted.hand_eye.camera, truth)
    return float(step @ np.linalg.solve(adjusted.covariance, step))
