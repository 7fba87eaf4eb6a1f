"""The pictures of a calibration: of its report, and of the capture as it goes on."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import cv2
import numpy as np

from calibration.capture import Progress
from calibration.hand_eye import Calibration
from calibration.image_hand_eye import ImageCalibration
from calibration.pose_set import Expected

_INK, _ACCENT, _WARN = "#1d2733", "#0f766e", "#be123c"
#: OpenCV has blue first.
_GREEN, _RED, _ORANGE = (110, 118, 15), (60, 18, 190), (0, 110, 240)
_SHOWN = 6
_TILE, _LIVE = 420, 860


def detected_corners(found: ImageCalibration) -> str:
    """Some of the images with their corners, where the adjusted calibration expects them as circles; a data URI."""
    views, calibration = found.views, found.calibration
    indices = list(views.seen)
    shown = [indices[i] for i in np.unique(np.linspace(0, len(indices) - 1, min(_SHOWN, len(indices))).astype(int))]
    used = dict(zip(np.array(indices)[calibration.used], range(int(calibration.used.sum()))))
    predicted = calibration.hand_eye.target_in_camera(calibration.adjusted.robot)
    tiles = []
    for index in shown:
        image = cv2.cvtColor(views.recording.image(index), cv2.COLOR_GRAY2BGR)
        scale = _TILE / image.shape[1]
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        seen = views.seen[index]
        for corner in seen.corners:
            cv2.drawMarker(image, _pixel(corner, scale), _GREEN, cv2.MARKER_CROSS, 9, 2, cv2.LINE_AA)
        if index in used:
            points = views.board.corners @ predicted[used[index], :3, :3].T + predicted[used[index], :3, 3]
            turned, shift = np.zeros(3), np.zeros(3)
            pixels = cv2.projectPoints(points, turned, shift, found.lens.matrix, np.array(found.lens.distortion))[0].reshape(
                -1, 2
            )
            for pixel in pixels:
                cv2.circle(image, _pixel(pixel, scale), 7, _RED, 1, cv2.LINE_AA)
        label = views.recording.names[index] + ("" if index in used else " (outlier)")
        cv2.rectangle(image, (0, 0), (10 + 9 * len(label), 22), (255, 255, 255), -1)
        cv2.putText(image, label, (5, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (51, 39, 29), 1, cv2.LINE_AA)
        tiles.append(image)
    while len(tiles) % 3:
        tiles.append(np.full_like(tiles[0], 255))
    rows = [np.hstack(tiles[start : start + 3]) for start in range(0, len(tiles), 3)]
    return _photo(np.vstack(rows))


def live_view(progress: Progress) -> str:
    """The last image, with the corners in it (crosses), those of all views (dots), the cells that held any (tinted), and where the
    board is to be next (outline); a data URI."""
    image = np.ascontiguousarray(progress.image[..., ::-1])
    height, width = image.shape[:2]
    grid = cv2.resize((progress.coverage > 0).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    image = np.where(grid[..., None] > 0, (0.75 * image + 0.25 * np.array(_GREEN)).astype(np.uint8), image)
    scale = _LIVE / width
    image = cv2.resize(image, None, fx=scale, fy=scale)
    for seen in progress.seen:
        for corner in seen.corners:
            cv2.circle(image, _pixel(corner, scale), 2, _GREEN, -1, cv2.LINE_AA)
    for corner in progress.found.corners if progress.found else ():
        cv2.drawMarker(image, _pixel(corner, scale), _RED, cv2.MARKER_CROSS, 12, 2, cv2.LINE_AA)
    if progress.next is not None and progress.next.outline is not None:
        outline = [_pixel(corner, scale) for corner in progress.next.outline]
        for thickness, colour in ((7, (255, 255, 255)), (3, _ORANGE)):
            cv2.polylines(image, [np.array(outline)], True, colour, thickness, cv2.LINE_AA)
    return _photo(image)


def expected_errors(errors: dict[int, Expected]) -> str:
    """The expected error by the number of views."""
    figure, (top, bottom) = _figures(5.6, 3.9)
    for axes, unit, values in (
        (top, "mm", [error.sigma_mm for error in errors.values()]), (bottom, "degrees", [error.sigma_deg for error in errors.values()])
    ):  # fmt: skip
        axes.plot(list(errors), values, "o-", color=_ACCENT, markersize=4)
        axes.set(ylabel=unit, ylim=(0, None), xticks=list(errors))
        axes.grid(color="#e3e7ec", lw=0.6)
    top.set_title("expected error of the camera's pose, one standard deviation", fontsize=10)
    bottom.set_xlabel("views")
    return _uri(figure)


def coverage(found: ImageCalibration) -> str:
    """Every corner in the image, over the number of corners in each cell."""
    width, height = found.views.size
    figure, axes = _figure(6.4, 6.4 * height / width + 0.6)
    grid = found.views.coverage()
    picture = axes.imshow(np.where(grid > 0, grid, np.nan), extent=(0, width, height, 0), cmap="Greens", alpha=0.55, vmin=0)
    for seen in found.views.seen.values():
        axes.plot(*seen.corners.T, ".", color=_INK, markersize=2.2)
    axes.set(
        xlim=(0, width),
        ylim=(height, 0),
        xlabel="pixels",
        title=f"{100 * (grid > 0).mean():.0f} % of the image's cells held corners",
    )
    figure.colorbar(picture, ax=axes, label="corners", shrink=0.85)
    return _uri(figure)


def corner_residuals(found: ImageCalibration) -> str:
    """Where the corners are seen less where they are expected."""
    residuals, weights = found.calibration.adjusted.residuals["corner"], found.calibration.adjusted.weights["corner"]
    sigma = found.calibration.adjusted.sigmas["corner"]
    present, full = ~np.isnan(weights), np.nan_to_num(weights) > 0.99
    figure, axes = _figure(5.2, 5.2)
    far = max(4 * sigma, 1.1 * np.abs(residuals[present]).max())
    axes.axhline(0, color="#e3e7ec", lw=1)
    axes.axvline(0, color="#e3e7ec", lw=1)
    axes.plot(*residuals[full].T, ".", color=_ACCENT, markersize=3, label="counted in full")
    if (present & ~full).any():
        axes.plot(*residuals[present & ~full].T, "x", color=_WARN, markersize=5, label="counted less, or not at all")
    angle = np.linspace(0, 2 * np.pi, 100)
    axes.plot(
        3 * sigma * np.cos(angle),
        3 * sigma * np.sin(angle),
        color=_INK,
        lw=0.8,
        label=f"3 standard deviations ({3 * sigma:.2f} px)",
    )
    axes.set(
        xlim=(-far, far), ylim=(-far, far), aspect="equal", xlabel="x [px]", ylabel="y [px]", title="residuals of the corners"
    )
    axes.legend(
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        ncols=3,
        frameon=False,
        handletextpad=0.3,
        columnspacing=1.0,
    )
    return _uri(figure)


def left_out(found: Calibration) -> str:
    """Error of each pose when it is left out, and how far the arm's own poses had to give."""
    names = [name for name, used in zip(found.pairs.names, found.used) if used]
    figure, (top, bottom) = _figures(max(6.0, 0.3 * len(names) + 1.5), 5.4)
    for axes, column, unit in ((top, 0, "mm"), (bottom, 1, "degrees")):
        axes.bar(range(len(names)), found.left_out[:, column], color=_ACCENT)
        rms = np.sqrt((found.left_out[:, column] ** 2).mean())
        axes.axhline(rms, color=_INK, lw=1, ls="--", label=f"root mean square {rms:.2g}")
        axes.set(ylabel=f"left-out error [{unit}]", xticks=[])
        axes.legend(fontsize=8)
    bottom.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    return _uri(figure)


def solvers(table: dict[str, dict]) -> str:
    """How far each solver's camera is from the adjusted one."""
    names = [name for name, row in table.items() if row["camera"] is not None and name != "adjusted"]
    figure, axes = _figure(6.4, 2.8)
    positions = np.arange(len(names))
    axes.bar(positions - 0.2, [table[name]["from_adjusted_mm"] for name in names], 0.4, color=_ACCENT, label="mm")
    axes.set(ylabel="mm", xticks=positions, xticklabels=names, title="closed forms: distance from the adjusted camera")
    other = axes.twinx()
    other.bar(positions + 0.2, [table[name]["from_adjusted_deg"] for name in names], 0.4, color="#94a3b8", label="degrees")
    other.set_ylabel("degrees")
    handles = [*axes.get_legend_handles_labels()[0], *other.get_legend_handles_labels()[0]]
    axes.legend(handles, ["mm", "degrees"], fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    return _uri(figure)


def frames(found: Calibration, board_size_m: tuple[float, float] | None) -> str:
    """Base, end effector poses, camera poses and the board, in the base frame."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 6.2), layout="tight")
    axes = figure.add_subplot(projection="3d")
    robot, hand_eye = found.pairs.robot[found.used], found.hand_eye
    on_hand = hand_eye.mount == "hand"
    cameras = robot @ hand_eye.camera if on_hand else hand_eye.camera[None]
    boards = hand_eye.target[None] if on_hand else robot @ hand_eye.target
    _triad(axes, np.eye(4), 0.15, "base")
    for index, pose in enumerate(robot):
        _triad(axes, pose, 0.03, "end effector" if index == 0 else "")
    for index, pose in enumerate(cameras):
        _pyramid(axes, pose, 0.05, _ACCENT)
        if index == 0:
            axes.text(*pose[:3, 3], " camera", color=_ACCENT, fontsize=9)
    width, height = board_size_m or (0.1, 0.1)
    outline = np.array([[0, 0, 0, 1], [width, 0, 0, 1], [width, height, 0, 1], [0, height, 0, 1], [0, 0, 0, 1]])
    for index, pose in enumerate(boards):
        axes.plot(*(pose @ outline.T)[:3], color=_WARN, lw=1.8 if on_hand else 0.7)
        if index == 0:
            axes.text(*(pose @ outline[0])[:3], " board", color=_WARN, fontsize=9)
    everything = np.concatenate(
        [np.zeros((1, 3)), robot[:, :3, 3], cameras[:, :3, 3], *[(pose @ outline.T)[:3].T for pose in boards]]
    )
    middle, half = (everything.max(0) + everything.min(0)) / 2, np.ptp(everything, axis=0).max() / 2 + 0.05
    axes.set(
        xlim=middle[0] + np.array([-half, half]),
        ylim=middle[1] + np.array([-half, half]),
        zlim=middle[2] + np.array([-half, half]),
    )
    axes.set(xlabel="x [m]", ylabel="y [m]", zlabel="z [m]", title="frames, in the base frame (x red, y green, z blue)")
    axes.set_box_aspect((1, 1, 1))
    axes.view_init(elev=22, azim=-60)
    return _uri(figure)


def _triad(axes: object, pose: np.ndarray, length: float, name: str) -> None:
    origin = pose[:3, 3]
    for axis, colour in enumerate(("#dc2626", "#16a34a", "#2563eb")):
        axes.plot(*np.stack([origin, origin + length * pose[:3, axis]]).T, color=colour, lw=1.5)
    if name:
        axes.text(*origin, f" {name}", color=_INK, fontsize=9)


def _pyramid(axes: object, pose: np.ndarray, length: float, colour: str) -> None:
    corners = length * np.array([[-0.6, -0.4, 1], [0.6, -0.4, 1], [0.6, 0.4, 1], [-0.6, 0.4, 1]])
    corners = corners @ pose[:3, :3].T + pose[:3, 3]
    axes.plot(*np.vstack([corners, corners[:1]]).T, color=colour, lw=0.8)
    for corner in corners:
        axes.plot(*np.stack([pose[:3, 3], corner]).T, color=colour, lw=0.8)


def _figure(width: float, height: float) -> tuple:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _figures(width: float, height: float) -> tuple:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(2, 1)


def _pixel(point: np.ndarray, scale: float) -> tuple[int, int]:
    x, y = np.rint(scale * point).astype(int)
    return int(x), int(y)


def _photo(image: np.ndarray) -> str:
    """(height, width, 3) blue first, as a data URI."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + b64encode(encoded.tobytes()).decode()


def _uri(figure: object) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode()
