"""A calibration as plain numbers, and in words for a terminal."""

from __future__ import annotations

import math
from dataclasses import asdict

from calibration.acceptance import ellipsoid_scale
from calibration.hand_eye import Calibration, solver_table


def summary(found: Calibration) -> dict:
    """Plain numbers: poses 4x4 row-major in metres. `camera_in_hand` is None for a camera on a stand, `camera_in_base` for one
    on the hand. `covariance` is that of a step of the camera in its own frame [m, rad]; the truth lies within
    `ellipsoid_95` of it (squared Mahalanobis distance) with a probability of 95 %."""
    hand_eye, adjusted, quality = found.hand_eye, found.adjusted, found.quality
    on_hand = hand_eye.mount == "hand"
    camera, target = hand_eye.camera.tolist(), hand_eye.target.tolist()
    return finite({
        "mount": hand_eye.mount,
        "camera_in_hand": camera if on_hand else None,
        "camera_in_base": None if on_hand else camera,
        "target_in_base": target if on_hand else None,
        "target_in_hand": None if on_hand else target,
        "solvers": solver_table(found),
        "loo_mm": quality.loo_mm,
        "loo_deg": quality.loo_deg,
        "verdict": found.verdict.word,
        "reason": found.verdict.reason,
        "quality": asdict(quality),
        "outliers": [asdict(outlier) for outlier in found.outliers],
        "covariance": adjusted.covariance.tolist(),
        "ellipsoid_95": ellipsoid_scale(adjusted.freedom),
        "sigmas": adjusted.sigmas,
        "converged": adjusted.converged,
    })  # fmt: skip


def finite(value: object) -> object:
    """The same with None for numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def words(found: Calibration) -> str:
    """Some lines: the solvers side by side, the outliers by name, the verdict with its reason."""
    place = "in the end effector frame" if found.hand_eye.mount == "hand" else "in the base frame"
    x, y, z = found.hand_eye.camera[:3, 3]
    lines = [f"camera at {x:.4f} {y:.4f} {z:.4f} m {place}", "solver        misfit             from the adjusted one"]
    for name, row in solver_table(found).items():
        if row["camera"] is None:
            lines.append(f"{name:12s}  no solution")
        else:
            lines.append(
                f"{name:12s}  {row['misfit_mm']:7.2f} mm {row['misfit_deg']:6.3f} deg   {row['from_adjusted_mm']:7.2f} mm "
                f"{row['from_adjusted_deg']:6.3f} deg"
            )
    for outlier in found.outliers:
        note = f" ({outlier.note})" if outlier.note else ""
        lines.append(f"outlier: {outlier.name}, {outlier.misfit_mm:.1f} mm and {outlier.misfit_deg:.2f} degrees off{note}")
    if not found.outliers:
        worst = int(found.left_out[:, 0].argmax())
        name = [name for name, used in zip(found.pairs.names, found.used) if used][worst]
        lines.append(
            f"no outliers; worst when left out: {name}, {found.left_out[worst, 0]:.2f} mm and {found.left_out[worst, 1]:.3f} "
            "degrees"
        )
    lines.append(f"{found.verdict.word}: {found.verdict.reason}")
    return "\n".join(lines)
