"""Whether a set of poses moves enough, in enough ways, for hand-eye calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.rigid import inverse, log

#: Below this a turn is taken for noise.
STILL_RAD = np.deg2rad(3.0)


@dataclass(frozen=True)
class Motion:
    """`largest_deg` turn between two poses; `axes_deg` how far the turning axes leave their common direction (0: all turn
    about one axis, root mean square); `condition` of the equations (R - 1) t of the translation: 1 is ideal."""

    largest_deg: float
    axes_deg: float
    condition: float


def relative(poses: np.ndarray) -> np.ndarray:
    """(n (n - 1) / 2, 3) rotation vectors between each two of the poses (n, 4, 4)."""
    first, second = np.triu_indices(len(poses), 1)
    return log((inverse(poses[first]) @ poses[second])[:, :3, :3])


def motion_of(poses: np.ndarray) -> Motion:
    vectors = relative(poses)
    angles = np.linalg.norm(vectors, axis=1)
    turning = angles > STILL_RAD
    if not turning.any():
        return Motion(float(np.degrees(angles.max(initial=0.0))), 0.0, float("inf"))
    axes = vectors[turning] / angles[turning, None]
    scatter = np.linalg.eigvalsh(axes.T @ axes / len(axes))
    off_axis = np.arcsin(np.sqrt(np.clip(1.0 - scatter[-1], 0.0, 1.0)))
    # |(R - 1) t|^2 = t^T (2 - R - R^T) t
    first, second = np.triu_indices(len(poses), 1)
    turns = (inverse(poses[first]) @ poses[second])[:, :3, :3]
    normal = (2 * np.eye(3) - turns - turns.transpose(0, 2, 1)).mean(0)
    values = np.linalg.eigvalsh(normal)
    condition = float(np.sqrt(values[-1] / values[0])) if values[0] > 1e-12 else float("inf")
    return Motion(float(np.degrees(angles.max())), float(np.degrees(off_axis)), condition)
