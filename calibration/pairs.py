"""Pose pairs: where the end effector was, and where its camera saw the target."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robosteer_core.errors import UserError

MIN_POSES = 5
#: No arm of ours reaches, and no camera of ours sees a board, farther than this: larger numbers are no metres.
_FARTHEST_M = 10.0


@dataclass(frozen=True)
class PosePairs:
    """`robot` (n, 4, 4) end effector in the base frame, `target` (n, 4, 4) target in the camera's optical frame, metres;
    `names` say to the operator which pair is which."""

    robot: np.ndarray
    target: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.robot)

    def subset(self, keep: np.ndarray) -> PosePairs:
        """Those of a mask (n,) or of indices."""
        chosen = np.arange(len(self))[keep]
        return PosePairs(self.robot[chosen], self.target[chosen], tuple(self.names[i] for i in chosen))


def load_pairs(path: Path) -> PosePairs:
    """Read a JSON list of [end effector in base, target in camera], each 4x4 row-major, metres.

    Raises UserError where the file is no such list, and where a matrix is no rigid motion in metres.
    """
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read the pose pairs {path}: {error.strerror}; give a JSON file of pairs") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, list):
        raise UserError(f"{path}: expected a list of [end effector in base, target in camera]; found {type(content).__name__}")
    for index, pair in enumerate(content):
        if not isinstance(pair, list) or len(pair) != 2:
            found = f"{len(pair)} entries" if isinstance(pair, (list, dict)) else type(pair).__name__
            raise UserError(
                f"{path}: pair {index}: expected [end effector in base, target in camera], two 4x4 lists; found {found}"
            )
        for what, matrix in zip(("end effector in base", "target in camera"), pair):
            try:
                shape = np.array(matrix, float).shape
            except (TypeError, ValueError):
                shape = "no array of numbers"
            if shape != (4, 4):
                raise UserError(f"{path}: pair {index}, {what}: expected a 4x4 matrix of numbers, row by row; found {shape}")
    matrices = np.array(content, float).reshape(-1, 2, 4, 4)
    return checked_pairs(matrices[:, 0], matrices[:, 1], tuple(f"pair {index}" for index in range(len(content))))


def checked_pairs(robot: np.ndarray, target: np.ndarray, names: tuple[str, ...]) -> PosePairs:
    """Pairs whose matrices are rigid motions in metres, rotations made exact. Raises UserError naming what is not."""
    if len(robot) < MIN_POSES:
        raise UserError(
            f"too few poses: expected at least {MIN_POSES} pose pairs, found {len(robot)}; take about 20, of which each turns "
            "the hand by 20 degrees or more, about different axes"
        )
    for what, poses in (("end effector in base", robot), ("target in camera", target)):
        for name, matrix in zip(names, poses):
            _check_rigid(f"{name}, {what}", matrix)
        distances = np.linalg.norm(poses[:, :3, 3], axis=-1)
        if np.median(distances) > _FARTHEST_M:
            raise UserError(
                f"millimetres for metres: the positions of `{what}` are {np.median(distances):.0f} away from their origin in "
                "the median, and metres are expected; divide them by 1000"
            )
        if distances.max() > _FARTHEST_M:
            name = names[int(np.argmax(distances))]
            raise UserError(f"{name}, {what}: {distances.max():.3g} m from the origin; expected metres, below {_FARTHEST_M:g}")
    return PosePairs(_exact(robot), _exact(target), names)


def _check_rigid(label: str, matrix: np.ndarray) -> None:
    if not np.isfinite(matrix).all():
        raise UserError(f"{label}: expected finite numbers, found {matrix[~np.isfinite(matrix)][0]}; leave this pair out")
    if np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-6:
        hint = "; it is transposed: give it row by row" if np.abs(matrix[:, 3] - (0, 0, 0, 1)).max() < 1e-6 else ""
        raise UserError(f"{label}: expected 0 0 0 1 in the last row, found {matrix[3].tolist()}{hint}")
    turn = matrix[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-3 or np.linalg.det(turn) < 0:
        raise UserError(
            f"{label}: its upper left 3x3 is no rotation (it differs from one by "
            f"{np.abs(turn @ turn.T - np.eye(3)).max():.2g}, determinant {np.linalg.det(turn):.3g}); give a right-handed "
            "rotation matrix of unit columns"
        )


def _exact(poses: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(poses[:, :3, :3])
    found = poses.copy()
    found[:, :3, :3] = left @ right
    return found
