"""Whether a calibration may be used: a plain verdict with its reasons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, f

from calibration.motion import Motion

#: Solvers that stand on their own rotation estimate; Andreff's and the robot-world ones are fragile with noisy poses.
STEADY_SOLVERS = ("tsai", "park", "horaud", "daniilidis")


@dataclass(frozen=True)
class Criteria:
    """What is asked of an accepted calibration. A grasp's margin is some millimetres."""

    loo_mm: float = 2.0
    loo_deg: float = 0.5
    poses: int = 10
    axes_deg: float = 12.0
    outliers: float = 0.25
    sigma_mm: float = 1.0
    sigma_deg: float = 0.2
    spread_mm: float = 10.0


@dataclass(frozen=True)
class Verdict:
    accepted: bool
    reason: str

    @property
    def word(self) -> str:
        return "accepted" if self.accepted else "rejected"


@dataclass(frozen=True)
class Quality:
    """What the verdict is made of: errors of the poses left out, root mean square and largest; standard deviations of the
    camera's pose along its worst direction; how far the steady closed-form solutions lie apart."""

    loo_mm: float
    loo_deg: float
    loo_worst_mm: float
    loo_worst_deg: float
    sigma_mm: float
    sigma_deg: float
    spread_mm: float
    spread_deg: float
    poses: int
    outliers: int
    motion: Motion


def judge(quality: Quality, criteria: Criteria = Criteria()) -> Verdict:
    """Rejected with every reason there is, or accepted with the figures that carry it."""
    q, c = quality, criteria
    reasons = []
    if q.loo_mm > c.loo_mm or q.loo_deg > c.loo_deg:
        reasons.append(
            f"left-out poses are predicted to {q.loo_mm:.2f} mm and {q.loo_deg:.3f} degrees (root mean square; allowed "
            f"{c.loo_mm:g} mm and {c.loo_deg:g}): check intrinsics, the board's printed size and that nothing moved"
        )
    if q.poses < c.poses:
        reasons.append(f"only {q.poses} poses count (at least {c.poses}): add {c.poses - q.poses} that turn the hand otherwise")
    if q.motion.axes_deg < c.axes_deg:
        reasons.append(
            f"the hand turns about axes within {q.motion.axes_deg:.0f} degrees of one (at least {c.axes_deg:g}): add poses "
            "turned about another"
        )
    if q.outliers > c.outliers * (q.poses + q.outliers):
        reasons.append(f"{q.outliers} of {q.poses + q.outliers} poses are outliers: find out why before you calibrate")
    if q.sigma_mm > c.sigma_mm or q.sigma_deg > c.sigma_deg:
        reasons.append(
            f"the camera's pose is known to {q.sigma_mm:.2f} mm and {q.sigma_deg:.3f} degrees (one standard deviation; allowed "
            f"{c.sigma_mm:g} mm and {c.sigma_deg:g}): add poses with larger turns"
        )
    if q.spread_mm > c.spread_mm:
        reasons.append(
            f"the closed-form solvers lie {q.spread_mm:.1f} mm apart (allowed {c.spread_mm:g}): the poses are too alike, or "
            "the intrinsics wrong"
        )
    if reasons:
        return Verdict(False, "; ".join(reasons))
    return Verdict(
        True,
        f"left-out poses are predicted to {q.loo_mm:.2f} mm and {q.loo_deg:.3f} degrees; the camera's pose is known to "
        f"{q.sigma_mm:.2f} mm and {q.sigma_deg:.3f} degrees (one standard deviation, worst direction); {q.poses} poses, "
        f"{q.outliers} outlier{'s' * (q.outliers != 1)}",
    )


def worst_sigma(covariance: np.ndarray) -> float:
    """Standard deviation along the worst direction."""
    return float(np.sqrt(np.linalg.eigvalsh(covariance)[-1]))


def ellipsoid_scale(freedom: float, probability: float = 0.95, dimensions: int = 6) -> float:
    """The squared Mahalanobis distance that the truth stays within with `probability`: Hotelling's, for a covariance whose
    scale was estimated with `freedom` degrees of freedom."""
    if freedom > 1e4:
        return float(chi2.ppf(probability, dimensions))
    return float(dimensions * f.ppf(probability, dimensions, max(freedom, 1.0)))
