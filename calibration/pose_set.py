"""Poses to calibrate from: reachable, with the board in view, and chosen one by one for what each adds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.acceptance import worst_sigma
from calibration.adjustment import expected_covariance, information
from calibration.board import Board
from calibration.corners import SeenCorners
from calibration.detection import Detection
from calibration.kinematics import reach
from calibration.rigid import inverse, pose
from calibration.solvers import HandEye
from robosteer_core.rig import Rig
from robosteer_core.runtime.frame import Intrinsics

#: Largest tilt of the board against the image, and turn about the optical axis from where it is at first.
TILT_RAD, ROLL_RAD = np.deg2rad(32), np.deg2rad(60)
#: How much of the image's width or height the board takes.
_SHARE = (0.35, 0.8)
_BORDER_PX = 15
#: A degree counts as much as this many millimetres when poses are chosen: what it makes of a fingertip 0.3 m away.
_MM_PER_DEG = 5.0


@dataclass(frozen=True)
class Candidate:
    """`robot` (4x4) end effector in base, `target` (4x4) where the camera should then see the board; `joints` (7,) rad."""

    robot: np.ndarray
    target: np.ndarray
    joints: np.ndarray | None


@dataclass(frozen=True)
class Expected:
    """Standard deviation of the camera's pose along its worst direction, as it would come out."""

    sigma_mm: float
    sigma_deg: float


def lens_of(intrinsics: Intrinsics) -> np.ndarray:
    """(4,) fx, fy, cx, cy in pixels."""
    return np.array([intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy])


def candidates(
    rig: Rig, board: Board, intrinsics: Intrinsics, guess: HandEye, count: int, seed: int = 0, near: np.ndarray | None = None
) -> list[Candidate]:
    """Up to `count` poses that the arm of `rig` reaches within its workspace and joint limits, and at which a camera mounted
    as `guess` sees all of the board. `near` (4x4) is where the target is in the camera at first."""
    generator, found = np.random.default_rng(seed), []
    lens, home = lens_of(intrinsics), np.array(rig.arm.home_joint_positions_rad)
    low, high = np.array(rig.limits.workspace.low_m), np.array(rig.limits.workspace.high_m)
    roll = 0.0 if near is None else np.arctan2(near[1, 0], near[0, 0])
    for _ in range(60 * count):
        if len(found) == count:
            break
        target = _drawn_view(generator, board, intrinsics, lens, roll)
        if target is None:
            continue
        robot = robot_pose(guess, target)
        if not ((robot[:3, 3] >= low) & (robot[:3, 3] <= high)).all() or robot[2, 2] > -0.3:
            continue
        joints = reach(rig.arm.model, robot, home)
        if joints is not None:
            found.append(Candidate(robot, target, joints))
    return found


def robot_pose(guess: HandEye, target: np.ndarray) -> np.ndarray:
    """Where the end effector is when the camera sees the target at `target` (4x4)."""
    if guess.mount == "hand":
        return guess.target @ inverse(target) @ inverse(guess.camera)
    return guess.camera @ target @ inverse(guess.target)


def chosen(
    board: Board, intrinsics: Intrinsics, guess: HandEye, offered: list[Candidate], count: int, taken: list[np.ndarray] = ()
) -> list[int]:
    """Indices of `count` of the candidates, each the one that lowers the expected error most after those before it and after
    the robot poses `taken` already."""
    each = _information(board, intrinsics, guess, [candidate.robot for candidate in offered])
    total = _information(board, intrinsics, guess, list(taken)).sum(0) if len(taken) else np.zeros(each.shape[1:])
    prior = _prior(intrinsics)
    picked: list[int] = []
    while len(picked) < min(count, len(offered)):
        left = [index for index in range(len(offered)) if index not in picked]
        costs = [_cost(expected_covariance(total + each[index], prior)) for index in left]
        best = left[int(np.argmin(costs))]
        picked.append(best)
        total = total + each[best]
    return picked


def expected(board: Board, intrinsics: Intrinsics, guess: HandEye, robots: list[np.ndarray]) -> Expected:
    """What calibrating from these robot poses would give."""
    if not robots:
        return Expected(float("inf"), float("inf"))
    covariance = expected_covariance(_information(board, intrinsics, guess, robots).sum(0), _prior(intrinsics))
    return Expected(1e3 * worst_sigma(covariance[:3, :3]), float(np.degrees(worst_sigma(covariance[3:6, 3:6]))))


def _information(board: Board, intrinsics: Intrinsics, guess: HandEye, robots: list[np.ndarray]) -> np.ndarray:
    """(n, k, k) what each view tells about camera, target and lens."""
    robot, lens = np.array(robots), lens_of(intrinsics)
    size = (intrinsics.width, intrinsics.height)
    ids = np.arange(len(board.corners))
    views = [Detection(ids, projected(board.corners, target, lens), size) for target in guess.target_in_camera(robot)]
    return information(SeenCorners(board, views, lens), robot, guess)


def _prior(intrinsics: Intrinsics) -> np.ndarray:
    return SeenCorners(Board(), [], lens_of(intrinsics)).lens_prior()[1]


def _cost(covariance: np.ndarray) -> float:
    turn = np.trace(covariance[3:6, 3:6]) * (np.degrees(1) * _MM_PER_DEG) ** 2
    return float(np.trace(covariance[:3, :3]) * 1e6 + turn)


def projected(points: np.ndarray, target: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """(m, 2) pixels of points (m, 3) of the target."""
    seen = points @ target[:3, :3].T + target[:3, 3]
    return seen[:, :2] / seen[:, 2:] * lens[:2] + lens[2:]


def _drawn_view(
    generator: np.random.Generator, board: Board, intrinsics: Intrinsics, lens: np.ndarray, roll: float
) -> np.ndarray | None:
    azimuth, tilt = generator.uniform(0, 2 * np.pi), TILT_RAD * np.sqrt(generator.uniform())
    turn = Rotation.from_rotvec(tilt * np.array([np.cos(azimuth), np.sin(azimuth), 0]))
    turn = turn * Rotation.from_rotvec([0, 0, roll + generator.uniform(-ROLL_RAD, ROLL_RAD)])
    width, height = board.size_m
    share = generator.uniform(*_SHARE)
    distance = min(lens[0] * max(width, height) / (share * intrinsics.width), 0.9)
    pixel = generator.uniform((0.25, 0.25), (0.75, 0.75)) * (intrinsics.width, intrinsics.height)
    centre = distance * np.append((pixel - lens[2:]) / lens[:2], 1.0)
    target = pose(turn.as_matrix(), centre - turn.as_matrix() @ board.centre)
    seen = projected(board.outline, target, lens)
    inside = (seen > _BORDER_PX).all() and (seen < np.array([intrinsics.width, intrinsics.height]) - _BORDER_PX).all()
    return target if inside else None
