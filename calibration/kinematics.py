"""Which poses an arm with the Franka Hand reaches without coming near its joint limits."""

from __future__ import annotations

import numpy as np

from calibration.rigid import exp, pose, steps_between
from robosteer_core.rig import JOINT_LIMITS_RAD

#: Denavit-Hartenberg parameters in Craig's convention, the same for Panda and FR3 (Franka's documentation): a [m], d [m],
#: alpha [rad]; the flange follows, and the hand, turned by -45 degrees, with the end effector between its fingertips.
_A = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
_D = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
_ALPHA = tuple(np.pi / 2 * sign for sign in (0, -1, 1, 1, -1, 1, 1))
_HAND = pose(exp(np.array([0.0, 0.0, -np.pi / 4])), np.array([0.0, 0.0, 0.107 + 0.1034]))

#: Kept from every joint limit.
MARGIN_RAD = 0.12
#: Kept from them on the way: near them an FR3 may move a joint slowly alone.
WAY_MARGIN_RAD = 0.3
_WAY_POINTS = 12
_STEPS = 60
_DAMPING = 0.02
_REACHED_M, _REACHED_RAD = 0.5e-3, 1e-3


def forward(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """End effector (4, 4) in the base frame at joint positions (7,) rad, and its Jacobian (6, 7): linear above angular, base
    frame."""
    frame, axes, origins = np.eye(4), [], []
    for a, d, alpha, angle in zip(_A, _D, _ALPHA, joints):
        ca, sa, ct, st = np.cos(alpha), np.sin(alpha), np.cos(angle), np.sin(angle)
        link = np.array([
            [ct, -st, 0, a], [st * ca, ct * ca, -sa, -d * sa], [st * sa, ct * sa, ca, d * ca], [0, 0, 0, 1],
        ])  # fmt: skip
        frame = frame @ link
        axes.append(frame[:3, 2])
        origins.append(frame[:3, 3])
    hand = frame @ _HAND
    axes = np.array(axes)
    return hand, np.vstack([np.cross(axes, hand[:3, 3] - np.array(origins)).T, axes.T])


def reach(model: str, wanted: np.ndarray, start: np.ndarray) -> np.ndarray | None:
    """Joint positions (7,) rad at which the end effector of `model` (fr3, panda) is at `wanted` (4x4), found from `start` (7,);
    None where that leads out of the joint limits less MARGIN_RAD."""
    low, high = np.array(JOINT_LIMITS_RAD[model]) + np.array([[MARGIN_RAD], [-MARGIN_RAD]])
    joints = np.clip(start, low, high)
    middle = (low + high) / 2
    for _ in range(_STEPS):
        hand, jacobian = forward(joints)
        step = steps_between(hand, wanted)
        if np.linalg.norm(step[:3]) < _REACHED_M and np.linalg.norm(step[3:]) < _REACHED_RAD:
            return joints
        error = np.concatenate([hand[:3, :3] @ step[:3], hand[:3, :3] @ step[3:]])
        # A long way is gone in parts: the step is good near the present pose alone.
        error *= min(1.0, 0.5 / max(np.linalg.norm(error), 1e-9))
        pseudo = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + _DAMPING**2 * np.eye(6))
        centring = 0.05 * (middle - joints)
        joints = np.clip(joints + pseudo @ error + centring - pseudo @ (jacobian @ centring), low, high)
    return None


def way(model: str, joints: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """Joint positions (7,) rad in which an arm that yields arrives at `wanted` (4x4) on the straight way from `joints` (7,),
    None where that comes within WAY_MARGIN_RAD of a joint limit or leads nowhere."""
    low, high = np.array(JOINT_LIMITS_RAD[model]) + np.array([[WAY_MARGIN_RAD], [-WAY_MARGIN_RAD]])
    start, _ = forward(joints)
    step = steps_between(start, wanted)
    for part in np.linspace(0, 1, _WAY_POINTS + 1)[1:]:
        point = pose(start[:3, :3] @ exp(part * step[3:]), start[:3, 3] + part * (wanted[:3, 3] - start[:3, 3]))
        for _ in range(6):
            hand, jacobian = forward(joints)
            rest = steps_between(hand, point)
            error = np.concatenate([hand[:3, :3] @ rest[:3], hand[:3, :3] @ rest[3:]])
            if np.linalg.norm(error) < 1e-3:
                break
            joints = joints + jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING**2 * np.eye(6), error)
        else:
            return None
        if (joints < low).any() or (joints > high).any():
            return None
    return joints
