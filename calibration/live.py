"""Taking views with the rig itself: the arm moves, or is led by hand, and the camera looks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from calibration.board import Board
from calibration.capture import Capture, Progress
from calibration.mover import ArmMover, LedByHand
from calibration.station import open_station
from robosteer_core.rig import Rig
from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.lab_link import LabLink

#: What the simulated lab puts up: any task's scene, with the usual board in it.
_LAB_TASK = "touch the red cube"
_LAB_BOARD = {"hand": "board_on_table", "fixed": "board_on_hand"}


def take_views(
    rig: Rig, camera: str, board: Board, folder: Path, poses: int, sigma_mm: float, ask: Callable[[str], bool] | None, tell: Callable[[str], None]
) -> int:  # fmt: skip
    """Take up to `poses` views of the rig's camera into `folder`; returns how many. `ask` leads an operator by words where given, else the
    arm moves itself. In the lab the usual board is put up. Raises UserError where a part of the rig is not there."""
    chosen = rig.camera(camera)
    with ExitStack() as stack:
        station = stack.enter_context(open_station(rig))
        station.arm.rest()
        if rig.lab is not None:
            with LabLink(rig.lab.control, "calibration") as link:
                link.reset(_LAB_TASK, 0, hold=True, variation=_LAB_BOARD[chosen.mount])
        # The arm is told to stop before the lab's time may run on without us; its rest takes time, so we leave first.
        stack.callback(station.arm.rest)
        clock = rig_clock(rig, "policy")
        stack.callback(clock.close)
        if ask is None:
            station.arm.start()
            stack.callback(station.arm.stop)
            mover = ArmMover(rig, station.arm, clock)
            mover.settle()
        else:
            mover = LedByHand(ask)
        return Capture(station, chosen, board, folder, mover, clock, lambda progress: tell(words(progress))).run(poses, sigma_mm)


def words(progress: Progress) -> str:
    """One line for a terminal, and the coverage as a picture of letters."""
    error = progress.expected
    known = "" if error is None or not np.isfinite(error.sigma_mm) else f"; expected so far {error.sigma_mm:.2f} mm, {error.sigma_deg:.3f} degrees"
    rows = [" ".join("#" if count else "." for count in row) for row in progress.coverage]
    return f"{progress.views}: {progress.words}{known}; {100 * (progress.coverage > 0).mean():.0f} % covered\n  " + "\n  ".join(rows)
