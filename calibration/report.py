"""The page of a calibration: verdict, figures, and pictures to see them by."""

from __future__ import annotations

from pathlib import Path

from calibration import pictures
from calibration.hand_eye import Calibration, solver_table
from calibration.image_hand_eye import ImageCalibration
from calibration.touch import Touch, touch_on_table
from robosteer_core.files import write_text
from robosteer_core.page import render


def write_report(path: Path, found: Calibration, images: ImageCalibration | None = None, title: str = "") -> None:
    """Write one HTML file with its pictures inside, in one step. `images` where the calibration is one from images."""
    table = solver_table(found)
    drawn = {"frames": pictures.frames(found, images.views.board.size_m if images else None)}
    drawn |= {"left_out": pictures.left_out(found), "solvers": pictures.solvers(table)}
    lens = []
    if images is not None:
        drawn |= {
            "corners": pictures.detected_corners(images), "coverage": pictures.coverage(images), "residuals": pictures.corner_residuals(images),
        }  # fmt: skip
        given, after = images.given, images.lens
        names = ("fx", "fy", "cx", "cy")
        lens = [(name, getattr(given, name), getattr(after, name), sigma) for name, sigma in zip(names, images.lens_sigma)]
    page = render(
        Path(__file__).with_name("report.html"),
        title=title, found=found, quality=found.quality, verdict=found.verdict, solvers=table, pictures=drawn, lens=lens, images=images,
        place="in the end effector frame" if found.hand_eye.mount == "hand" else "in the base frame",
        camera=found.hand_eye.camera.tolist(), sigmas=found.adjusted.sigmas, touch=predicted_touch(images) if images else None,
    )  # fmt: skip
    write_text(path, page)


def predicted_touch(images: ImageCalibration) -> Touch | None:
    """The touch test on the board as it lay: above the corner in its middle. None for a board on the hand."""
    hand_eye, adjusted = images.calibration.hand_eye, images.calibration.adjusted
    if hand_eye.mount != "hand":
        return None
    corners = images.views.board.corners
    return touch_on_table(
        corners, images.views.board.middle, hand_eye.target, adjusted.target_covariance, adjusted.sigmas["robot_translation"]
    )
