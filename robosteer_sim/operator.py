"""A scripted operator: does any task of the lab from the ground truth, by Cartesian deltas as a teleoperator would.

It keeps no memory: each command follows from where things are now. So it recovers by itself from whatever went wrong,
and its demonstrations can be imitated by a policy that sees one moment only.
"""

from __future__ import annotations

import numpy as np

from robosteer_sim.skills import carry, drawer, touch
from robosteer_sim.skills.touch import GAIN
from robosteer_sim.skills.view import MAX_STEP_M, View
from robosteer_sim.tasks import parse

#: Largest rotation per command at 15 Hz: 0.6 rad/s.
MAX_STEP_RAD = 0.04
#: Joints are not led closer than this to the ends of their range.
JOINT_MARGIN_RAD = 0.08

_SKILLS = {
    "touch": touch.touch, "press": touch.press, "press hard": touch.press, "push": touch.push, "push to": touch.push_to,
    "pick up": carry.pick_up, "place in": carry.place_in, "stack": carry.stack, "open": drawer.open_drawer,
}  # fmt: skip


class Operator:
    """Commands for one task; `tremor_m` is the standard deviation of a person's unsteady hand, per command."""

    def __init__(self, instruction: str, seed: int = 0, tremor_m: float = 0.0) -> None:
        self.task = parse(instruction)
        self._random = np.random.default_rng([seed, 77])
        self._tremor_m = tremor_m

    def act(self, truth: dict) -> np.ndarray:
        """The next action (7,): delta [m, rad] in the base frame and gripper opening, from the lab's ground truth."""
        view = View(self.task, truth)
        move = _SKILLS[self.task.verb](view)
        step = GAIN * (move.goal - view.tcp)
        step[:2] *= min(1.0, MAX_STEP_M / max(np.linalg.norm(step[:2]), 1e-9))
        step[2] = np.clip(step[2], -move.fastest_down_m, MAX_STEP_M)
        step += self._random.normal(0, 1, 3) * self._tremor_m
        turn = GAIN * (move.rotation * view.hand.inv()).as_rotvec()
        turn *= min(1.0, MAX_STEP_RAD / max(np.linalg.norm(turn), 1e-9))
        return np.concatenate([within_joint_range(np.concatenate([step, turn]), truth), [move.opening]])


def within_joint_range(delta: np.ndarray, truth: dict) -> np.ndarray:
    """The part of a Cartesian delta (6,) that leads no joint closer to the end of its range than JOINT_MARGIN_RAD.

    The joints move by the damped least-squares solution; one that would go too far is kept where it is and the others
    are asked for what they can do of the delta.
    """
    q, (low, high), jacobian = (np.array(truth[name]) for name in ("joint_positions", "joint_range", "jacobian"))
    free = np.ones(7, bool)
    for _ in range(7):
        part = jacobian * free
        joints = part.T @ np.linalg.solve(part @ part.T + 1e-4 * np.eye(6), delta)
        # A joint that is beyond the margin already may go back.
        far = ((q + joints > high - JOINT_MARGIN_RAD) & (joints > 1e-4)) | ((q + joints < low + JOINT_MARGIN_RAD) & (joints < -1e-4))
        if not far.any():
            break
        free &= ~far
    return delta if free.all() else part @ joints
