"""Guided capture: take views from poses that each lower the expected error most, until it is small enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.board import Board
from calibration.detection import BoardDetector, BoardNotFound, Detection, target_pose
from calibration.kinematics import way
from calibration.mover import Mover
from calibration.pairs import MIN_POSES, PosePairs
from calibration.pose_set import Expected, candidates, chosen, expected, lens_of, projected
from calibration.recording import Lens, RecordedCamera, RecordingWriter
from calibration.rigid import moved, steps_between
from calibration.robust_start import robust_start
from calibration.solvers import HandEye
from calibration.station import Station
from calibration.views import coverage_of
from robosteer_core.errors import UserError
from robosteer_core.rig import Camera
from robosteer_core.runtime.clock import Clock
from robosteer_core.runtime.frame import Frame

#: Before anything is known of the mounting: turns about the hand's own axes [degrees] that keep a centred board in view.
_FIRST_TURNS_DEG = ((0, 0, 0), (9, 0, 0), (-9, 0, 12), (0, 9, -12), (0, -9, 20), (7, 7, -25))
_OFFERED = 60
#: Images are taken that much after the hand has come to rest: one of a moment before may still be on its way.
_FRESH_S = 0.1


@dataclass(frozen=True)
class NextPose:
    """Where the hand goes next: in words, and as the board's outline in the image then, (4, 2) pixels, None until the mounting
    is roughly known."""

    words: str
    outline: np.ndarray | None


@dataclass(frozen=True)
class Progress:
    """After each look: how many views there are of how many, the expected error (None until the mounting is roughly known), the part
    of the image's cells that held corners, and what was said of the look. `image` (height, width, 3) uint8 RGB is the last one,
    `found` the board in it or None, `seen` the boards of all views; `next` is None when there is no next pose."""

    views: int
    poses: int
    expected: Expected | None
    coverage: np.ndarray
    words: str
    image: np.ndarray
    found: Detection | None
    seen: tuple[Detection, ...]
    next: NextPose | None


class Capture:
    """Takes views of `camera` through `station` into a recording."""

    def __init__(
        self, station: Station, camera: Camera, board: Board, folder: Path, mover: Mover, clock: Clock,
        watch: Callable[[Progress], None],
    ) -> None:  # fmt: skip
        self._station, self._camera, self._board, self._mover = station, camera, board, mover
        self._clock, self._watch, self._detector = clock, watch, BoardDetector(board)
        self._folder, self._writer = folder, None
        self._robots: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []
        self._seen: list[Detection] = []
        self._guess: HandEye | None = None

    def run(self, poses: int, sigma_mm: float = 0.0) -> int:
        """Take `poses` views, or fewer once the expected error is below `sigma_mm`; returns how many. Raises UserError where
        the board is not in view at first, and where too few poses are in reach."""
        self._poses = poses
        words = self._take("as it stands", required=True)
        for robot, why in self._wanted(sigma_mm):
            step = self._next_pose(robot)
            self._tell(words, step)
            if not self._mover.go(robot, step.words):
                break
            words = self._take(why)
        else:
            self._tell(words)
        if len(self._robots) < MIN_POSES:
            raise UserError(
                f"only {len(self._robots)} views with the board in them: put it where the camera sees it from many sides "
                "within the workspace"
            )
        return len(self._robots)

    def _wanted(self, sigma_mm: float) -> Iterator[tuple[np.ndarray, str]]:
        """Poses one by one, each with why: small turns about the first until they tell the mounting roughly, then those that
        lower the expected error most."""
        start = self._robots[0]
        for turn in _FIRST_TURNS_DEG[1:]:
            wanted = moved(start, np.concatenate([np.zeros(3), np.deg2rad(turn)]))
            if self._free(wanted):
                yield wanted, "to learn the mounting roughly"
        self._update()
        if self._guess is None:
            raise UserError(
                f"{len(self._robots)} views do not tell the mounting even roughly: put the board in the middle of the image, "
                "flat, and see that it does not move against its support"
            )
        while len(self._robots) < self._poses and not self._good_enough(sigma_mm):
            robot = self._next()
            if robot is None:
                return
            yield robot, "as planned"

    def _next(self) -> np.ndarray | None:
        """The pose that lowers the expected error most, None where none is in reach."""
        rig, intrinsics = self._station.rig, self._frame.intrinsics
        offered = candidates(rig, self._board, intrinsics, self._guess, _OFFERED, len(self._robots), self._targets[0])
        # Poses far apart need long ways; those that are new count.
        offered = [c for c in offered if min(np.linalg.norm(steps_between(c.robot, robot)) for robot in self._robots) > 0.05]
        order = chosen(self._board, intrinsics, self._guess, offered, len(offered), self._robots)
        return next((offered[index].robot for index in order if self._free(offered[index].robot)), None)

    def _free(self, wanted: np.ndarray) -> bool:
        """Whether the arm gets there from where it is, within the workspace and away from its joint limits."""
        rig = self._station.rig
        inside = (wanted[:3, 3] >= rig.limits.workspace.low_m).all() and (wanted[:3, 3] <= rig.limits.workspace.high_m).all()
        return bool(inside) and way(rig.arm.model, self._station.arm.state().joint_positions, wanted) is not None

    def _take(self, words: str, required: bool = False) -> str:
        """Look, and keep the view where the board is in it; returns what is to be said of it."""
        now_ns = self._clock.sleep_until_ns(self._clock.now_ns() + int((_FRESH_S + 2 / self._camera.fps) * 1e9))
        frame: Frame = self._station.frames(now_ns)[self._camera.name]
        robot = self._station.arm.state().measured.matrix()
        self._frame, self._found = frame, None
        try:
            seen = self._detector.detect(frame.colour, f"camera {self._camera.name!r}")
        except BoardNotFound as error:
            if required:
                self._tell(str(error))
                raise
            return f"no view {words}: {error}"
        if self._writer is None:
            lens = frame.intrinsics
            self._writer = RecordingWriter(
                self._folder, RecordedCamera(name=self._camera.name, serial=self._camera.serial, mount=self._camera.mount),
                self._station.rig.name, Lens(**{key: getattr(lens, key) for key in ("width", "height", "fx", "fy", "cx", "cy")}),
                frame.depth_unit_m,
            )  # fmt: skip
        self._writer.add(frame.colour, frame.depth, robot)
        self._robots.append(robot)
        self._targets.append(target_pose(self._board, seen, lens_of(frame.intrinsics))[0])
        self._seen.append(seen)
        self._found = seen
        if self._guess is not None:
            self._update()
        return f"view {words}, {len(seen.ids)} corners"

    def _update(self) -> None:
        names = tuple(map(str, range(len(self._robots))))
        start = (
            robust_start(PosePairs(np.array(self._robots), np.array(self._targets), names), self._camera.mount)
            if len(names) >= 4
            else None
        )
        self._guess = start.hand_eye if start is not None else self._guess

    def _tell(self, words: str, step: NextPose | None = None) -> None:
        lens = self._frame.intrinsics
        error = None if self._guess is None else expected(self._board, lens, self._guess, self._robots)
        self._watch(
            Progress(
                len(self._robots), self._poses, error, coverage_of(self._seen, (lens.width, lens.height)), words, self._frame.colour,
                self._found, tuple(self._seen), step,
            )
        )  # fmt: skip

    def _good_enough(self, sigma_mm: float) -> bool:
        return (
            len(self._robots) >= 10
            and expected(self._board, self._frame.intrinsics, self._guess, self._robots).sigma_mm < sigma_mm
        )

    def _next_pose(self, wanted: np.ndarray) -> NextPose:
        """How to get there, for somebody who leads the hand."""
        step = steps_between(self._station.arm.state().measured.matrix(), wanted)
        names = ("forward along the hand's x", "along its y", "along its z, out of the fingers")
        parts = [f"{1e3 * value:+.0f} mm {name}" for value, name in zip(step[:3], names) if abs(value) > 0.01]
        turn = np.degrees(step[3:])
        parts += [f"{value:+.0f} degrees about its {axis}" for value, axis in zip(turn, "xyz") if abs(value) > 3]
        outline = None
        if self._guess is not None:
            target = self._guess.target_in_camera(wanted[None])[0]
            outline = projected(self._board.outline, target, lens_of(self._frame.intrinsics))
        return NextPose("next: " + (", ".join(parts) or "as it stands"), outline)
