"""A first solution that a minority of wrong pose pairs does not spoil."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.pairs import PosePairs
from calibration.solvers import HandEye, Mount, misfit_sizes, solve

#: Pairs that fit this well are never called wrong here: [m, rad].
FLOOR = np.array([3e-3, np.deg2rad(0.5)])
#: The same where the lens is yet to be found: 1 % of error in fx and -1 % in fy alone turn a target by up to 4 degrees and move it by
#: up to 16 mm (rendered views of the lab).
FLOOR_OF_FREE_LENS = np.array([25e-3, np.deg2rad(6)])
_DRAWS = 120
_DRAWN = 4
#: Candidates are judged by the best this part of the pairs: where two cameras are mixed, neither has more than half.
_PART = 0.4
#: Of normal 3-D errors that part is shorter than 1.37 standard deviations of a component; three and a half of these are kept.
_KEPT = 3.5 / 1.37


@dataclass(frozen=True)
class Start:
    """`inliers` (n,) bool; `sizes` (n, 2) misfit of each pair [m, rad]; `typical` (2,) their medians over the inliers."""

    hand_eye: HandEye
    inliers: np.ndarray
    sizes: np.ndarray
    typical: np.ndarray


def robust_start(pairs: PosePairs, mount: Mount, floor: np.ndarray = FLOOR) -> Start | None:
    """Park's solution over the pairs that agree: of Park on all and on drawn subsets the one of least misfit, then Park
    on what it fits. None where Park has no solution."""
    best = _with_score(pairs, solve(pairs, mount, "park"), floor)
    if len(pairs) > _DRAWN and (best is None or best[0] > 1.0 or (misfit_sizes(pairs, best[1]) / floor).max() > 2.0):
        generator = np.random.default_rng(0)
        for _ in range(_DRAWS):
            drawn = pairs.subset(generator.choice(len(pairs), _DRAWN, replace=False))
            candidate = solve(drawn, mount, "park")
            scored = _with_score(pairs, candidate, floor)
            if scored is not None and (best is None or scored[0] < best[0]):
                best = scored
    if best is None:
        return None
    found = best[1]
    for _ in range(3):
        sizes = misfit_sizes(pairs, found)
        inliers = (sizes <= np.maximum(_KEPT * np.quantile(sizes, _PART, axis=0), floor)).all(1)
        again = solve(pairs.subset(inliers), mount, "park") if inliers.sum() >= 3 else None
        if again is None:
            break
        found = again
    sizes = misfit_sizes(pairs, found)
    inliers = (sizes <= np.maximum(_KEPT * np.quantile(sizes, _PART, axis=0), floor)).all(1)
    return Start(found, inliers, sizes, np.median(sizes[inliers], axis=0))


def _with_score(pairs: PosePairs, found: HandEye | None, floor: np.ndarray) -> tuple[float, HandEye] | None:
    """Misfit of the best `_PART` in units of `floor`."""
    if found is None:
        return None
    return float(np.quantile((misfit_sizes(pairs, found) / floor).max(1), _PART)), found
