"""Which frames of a demonstration are scored: Robotic Steering's keyframe rules, or all frames.

The rules as the release states them (reference/robotic_steering.md, section 3). Both always take an episode's first
and last frame. `droid` adds frames at which the gripper's value differs from the frame before, and frames at rest
(norm of the state's change times frame rate below 0.03 rad/s). `libero` adds frames at which the gripper action changes sign
and frames whose pose moved less than 0.05 since the one before; at 15 Hz that is any motion below 0.75 m/s or rad/s, so
on such data it takes nearly every frame.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from robosteer_core.episodes.reader import Arrays
from robosteer_core.errors import UserError

Rule = Literal["droid", "libero", "all"]

#: rad/s for joint states as in DROID; for Cartesian states the same number of mixed m/s and rad/s.
REST_SPEED = 0.03
#: Norm over position [m] and rotation vector [rad].
REST_STEP = 0.05


def keyframes(rule: Rule, state: np.ndarray, action: np.ndarray, fps: float) -> np.ndarray:
    """Indices (K,) of one episode's keyframes, increasing.

    `state` (N, S) and `action` (N, A), the gripper last in both. The gripper is open above 0.5, or above 0 where its
    actions take both signs, so that its continuous value does not make every frame a keyframe.
    """
    if rule not in get_args(Rule):
        raise UserError(f"expected a keyframe rule of {', '.join(get_args(Rule))}; found {rule!r}")
    frames = len(state)
    if rule == "all" or frames < 3:
        return np.arange(frames)
    pose = state[:, : min(6, state.shape[1] - 1)] if rule == "libero" else state[:, :-1]
    step = np.linalg.norm(np.diff(pose.astype(np.float64), axis=0), axis=1)
    resting = step < REST_STEP if rule == "libero" else step * fps < REST_SPEED
    gripper = action[:, -1] > (0.0 if action[:, -1].min() < 0 else 0.5)
    taken = np.zeros(frames, bool)
    taken[[0, -1]] = True
    taken[1:] |= resting | (gripper[1:] != gripper[:-1])
    return np.flatnonzero(taken)


def keyframes_of(arrays: Arrays, rule: Rule, fps: float) -> np.ndarray:
    """Indices (K,) into a whole dataset's frames, episode by episode."""
    found = []
    for episode in np.unique(arrays.episode):
        rows = np.flatnonzero(arrays.episode == episode)
        found.append(rows[keyframes(rule, arrays.state[rows], arrays.action[rows], fps)])
    return np.concatenate(found) if found else np.zeros(0, int)
