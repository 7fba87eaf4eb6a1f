"""Rigid motions as arrays of 4x4 matrices, and the small steps by which they are varied.

A step (6,) is a translation (3,) [m] and a rotation vector (3,) [rad], both in the moved frame: R' = R exp(w), t' = t + R v.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def inverse(poses: np.ndarray) -> np.ndarray:
    """(..., 4, 4) of (..., 4, 4)."""
    turned = np.swapaxes(poses[..., :3, :3], -1, -2)
    found = np.zeros_like(poses)
    found[..., :3, :3] = turned
    found[..., :3, 3] = -np.einsum("...ij,...j->...i", turned, poses[..., :3, 3])
    found[..., 3, 3] = 1.0
    return found


def hat(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3) with hat(a) b = a x b."""
    x, y, z = np.moveaxis(np.asarray(vectors, float), -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)


def exp(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3)."""
    return Rotation.from_rotvec(np.reshape(vectors, (-1, 3))).as_matrix().reshape(*np.shape(vectors)[:-1], 3, 3)


def log(rotations: np.ndarray) -> np.ndarray:
    """Rotation vectors (..., 3) of rotation matrices (..., 3, 3)."""
    return Rotation.from_matrix(np.reshape(rotations, (-1, 3, 3))).as_rotvec().reshape(*np.shape(rotations)[:-2], 3)


def moved(poses: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """`poses` (..., 4, 4), each after its step (..., 6)."""
    found = poses.copy()
    found[..., :3, :3] = poses[..., :3, :3] @ exp(steps[..., 3:])
    found[..., :3, 3] += np.einsum("...ij,...j->...i", poses[..., :3, :3], steps[..., :3])
    return found


def steps_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Steps (..., 6) with `moved(start, steps) == end`."""
    turned = np.swapaxes(start[..., :3, :3], -1, -2)
    translation = np.einsum("...ij,...j->...i", turned, end[..., :3, 3] - start[..., :3, 3])
    return np.concatenate([translation, log(turned @ end[..., :3, :3])], -1)


def pose(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """(..., 4, 4) of (..., 3, 3) and (..., 3)."""
    found = np.zeros((*np.shape(rotation)[:-2], 4, 4))
    found[..., :3, :3], found[..., :3, 3], found[..., 3, 3] = rotation, translation, 1.0
    return found


def mean(poses: np.ndarray) -> np.ndarray:
    """A 4x4 pose amid `poses` (n, 4, 4): the chordal mean of the rotations, the median of the translations."""
    rotation = Rotation.from_matrix(poses[:, :3, :3]).mean().as_matrix()
    return pose(rotation, np.median(poses[:, :3, 3], axis=0))


def distance(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """How far apart two poses are: millimetres and degrees."""
    step = steps_between(first, second)
    return float(np.linalg.norm(step[:3])) * 1e3, float(np.degrees(np.linalg.norm(step[3:])))
