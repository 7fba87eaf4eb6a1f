"""Taking views with the rig itself: the arm moves, or is led by hand, and the camera looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration.board import Board
from calibration.capture import Capture, Progress
from calibration.detection import BoardDetector
from calibration.kinematics import way
from calibration.live_page import LivePage
from calibration.mover import ArmMover, LedByHand
from calibration.recording import Lens
from calibration.station import Station, open_station
from calibration.touch import Touch, touch_in_view
from robosteer_core.camera_calibration import CameraCalibration
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.clock import Clock, rig_clock
from robosteer_core.runtime.lab_link import LabLink

#: What the simulated lab puts up: any task's scene, with the usual board in it.
_LAB_TASK = "touch the red cube"
#: The fingertips come down from this much higher.
_ABOVE_M = 0.08
_ARRIVED_M, _TRIES = 0.3e-3, 4
_LAB_BOARD = {"hand": "board_on_table", "fixed": "board_on_hand"}


def take_views(
    rig_name: str, camera: str, board: Board, folder: Path, poses: int, sigma_mm: float,
    ask: Callable[[str], bool] | None, tell: Callable[[str], None],
) -> int:  # fmt: skip
    """Take up to `poses` views of the rig's camera into `folder`; returns how many. `ask` leads an operator by words where
    given, else the arm moves itself. Beside the folder a page shows each view and the next pose. In the lab the usual board is put
    up. Raises UserError where a part of the rig is not there."""
    rig = load_rig(rig_name)
    chosen = rig.camera(camera)
    page = LivePage(folder.parent / f"{folder.name}.html", f"{camera} ({chosen.serial}) of {rig.name}")

    def watch(progress: Progress) -> None:
        page.show(progress)
        if progress.views:  # of a first image without the board an error tells
            tell(words(progress))

    with ExitStack() as stack:
        station, clock = stack.enter_context(rig_at_rest(rig_name, _LAB_BOARD[chosen.mount], ask is None, tell))
        stack.callback(page.end)
        mover = ArmMover(rig, station.arm, clock) if ask is None else LedByHand(ask)
        if isinstance(mover, ArmMover):
            mover.settle()
        tell(f"live view, in a browser: {page.path.resolve().as_uri()}")
        return Capture(station, chosen, board, folder, mover, clock, watch).run(poses, sigma_mm)


def touch(
    rig_name: str, stored: CameraCalibration, board: Board, corner: int, height_m: float, tell: Callable[[str], None]
) -> tuple[Touch, np.ndarray]:
    """Look at the board, which lies on the table, and move the fingertips `height_m` above one of its corners; returns what is
    predicted and where the end effector is then (4, 4). It stays there. Raises UserError where the board is not in view or the
    corner out of reach."""
    rig = load_rig(rig_name)
    camera = rig.camera(stored.camera.name)
    stored.require_serial(camera.serial)
    if not 0 <= corner < len(board.corners):
        raise UserError(f"the board has the corners 0 to {len(board.corners) - 1}; found {corner}")
    with rig_at_rest(rig_name, "board_on_table", True, tell) as (station, clock):
        mover = ArmMover(rig, station.arm, clock)
        mover.settle()
        now_ns = clock.sleep_until_ns(clock.now_ns() + int(3e9 / camera.fps))
        frame, robot = station.frames(now_ns)[camera.name], station.arm.state().measured.matrix()
        lens = Lens(**stored.lens.model_dump(exclude={"sigma"}))
        if frame.colour.shape[:2] != (lens.height, lens.width):
            raise UserError(
                f"the calibration is for images of {lens.width}x{lens.height}, the rig's are "
                f"{frame.colour.shape[1]}x{frame.colour.shape[0]}"
            )
        seen = BoardDetector(board).detect(frame.colour, f"camera {camera.name!r}")
        seen = replace(seen, corners=lens.straightened(seen.corners))
        where = robot if stored.camera.mount == "hand" else None
        found = touch_in_view(board, corner, seen, lens.vector, stored.transform.matrix(), np.array(stored.covariance), where)
        for wanted in (found.above(robot, height_m + _ABOVE_M), found.above(robot, height_m)):
            if way(rig.arm.model, station.arm.state().joint_positions, wanted) is None:
                raise UserError(
                    f"corner {corner} at {np.round(found.point_m, 3).tolist()} m is out of the arm's reach: put the board "
                    "nearer"
                )
            reached = _arrive(mover, station, wanted)
        return found, reached


def _arrive(mover: ArmMover, station: Station, wanted: np.ndarray) -> np.ndarray:
    """Go to a pose (4, 4), again from where friction has stopped a yielding arm; returns where it is then."""
    aim = wanted.copy()
    for _ in range(_TRIES):
        mover.go(aim, "")
        reached = station.arm.state().measured.matrix()
        rest = wanted[:3, 3] - reached[:3, 3]
        if np.linalg.norm(rest) < _ARRIVED_M:
            break
        aim[:3, 3] += rest
    return reached


@contextmanager
def rig_at_rest(rig_name: str, lab_board: str, moving: bool, tell: Callable[[str], None]) -> Iterator[tuple[Station, Clock]]:
    """Station and clock, the arm tracking where it is to move; in the lab with this one of its boards put up. Leaves the arm at
    rest."""
    with ExitStack() as stack:
        station = stack.enter_context(open_station(rig_name, tell))
        rig = station.rig
        station.arm.rest()
        if rig.lab is not None:
            with LabLink(rig.lab.control, "calibration") as link:
                link.reset(_LAB_TASK, 0, hold=True, variation=lab_board)
        # The arm is let go before the lab's time may run on without us; its rest takes time, so we leave first.
        stack.callback(station.arm.rest)
        clock = rig_clock(rig, "policy")
        stack.callback(clock.close)
        if moving:
            station.arm.start()
            stack.callback(station.arm.release)
        yield station, clock


def words(progress: Progress) -> str:
    """One line for a terminal, and the coverage as a picture of letters."""
    error = progress.expected
    known = (
        ""
        if error is None or not np.isfinite(error.sigma_mm)
        else f"; expected so far {error.sigma_mm:.2f} mm, {error.sigma_deg:.3f} degrees"
    )
    rows = [" ".join("#" if count else "." for count in row) for row in progress.coverage]
    return f"{progress.views}: {progress.words}{known}; {100 * (progress.coverage > 0).mean():.0f} % covered\n  " + "\n  ".join(
        rows
    )
