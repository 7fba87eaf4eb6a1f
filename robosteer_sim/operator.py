"""A scripted operator: does any task of the grammar from the ground truth, by Cartesian deltas as a teleoperator would.

It keeps no memory: each command follows from where things are now. So it recovers by itself from whatever went wrong,
and its demonstrations can be imitated by a policy that sees one moment only.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from robosteer_core.runtime.pose import TOOL_DOWN
from robosteer_sim.scene import BOWL_BOTTOM_M, CUBE_HALF_M, HEIGHTS_M
from robosteer_sim.tasks import parse

#: From the point between the fingertips (the TCP) to the very end of the fingers, metres.
TIP_M = 0.0085
HOVER_M = 0.10
#: Largest translation and rotation per command at 15 Hz: 0.2 m/s and 0.6 rad/s.
MAX_STEP_M = 0.0133
MAX_STEP_RAD = 0.04
GAIN = 0.25
#: How much higher the fingers stay per metre of horizontal distance from where they have to go down.
FUNNEL_SLOPE = 2.5
FUNNEL_RADIUS_M = 0.010
#: A touch is a tap: at the surface each command leads back, so that no force builds up between command and hand.
TAP_BACK_M = 0.004


class Operator:
    """Commands for one task; `tremor_m` is the standard deviation of a person's unsteady hand, per command."""

    def __init__(self, instruction: str, seed: int = 0, tremor_m: float = 0.0) -> None:
        self.task = parse(instruction)
        self._random = np.random.default_rng([seed, 77])
        self._tremor_m = tremor_m

    def act(self, truth: dict) -> np.ndarray:
        """The next action (7,): delta [m, rad] in the base frame and gripper opening, from the lab's ground truth."""
        hand = np.array(truth["end_effector"])
        tcp = hand[:3, 3]
        target = np.array(truth["objects"][self.task.target])
        goal, opening, yaw, slowest = getattr(self, "_" + self.task.verb.replace(" ", "_"))(tcp, target, truth)
        step = GAIN * (goal - tcp)
        step[:2] *= min(1.0, MAX_STEP_M / max(np.linalg.norm(step[:2]), 1e-9))
        step[2] = np.clip(step[2], -slowest, MAX_STEP_M)
        step += self._random.normal(0, 1, 3) * self._tremor_m
        upright = Rotation.from_euler("z", yaw) * TOOL_DOWN
        turn = GAIN * (upright * Rotation.from_matrix(hand[:3, :3]).inv()).as_rotvec()
        turn *= min(1.0, MAX_STEP_RAD / max(np.linalg.norm(turn), 1e-9))
        return np.concatenate([step, turn, [opening]])

    def _touch(self, tcp, target, truth):
        surface = TIP_M + (BOWL_BOTTOM_M if self.task.kind == "bowl" else HEIGHTS_M[self.task.kind])
        goal = _funnel(tcp, target[:2], surface - 0.003)
        above = tcp[2] - surface
        if above < 0.0005:
            goal[2] = tcp[2] + TAP_BACK_M / GAIN
        return goal, 0.0, 0.0, float(np.clip(0.12 * above, 0.0015, 0.008))

    def _press(self, tcp, target, truth):
        # Aimed well below the button: against it the command runs ahead of the hand until the spring gives way.
        return _funnel(tcp, target[:2], HEIGHTS_M["button"] + TIP_M - 0.04), 0.0, 0.0, 0.008

    def _push(self, tcp, target, truth):
        low = 0.012 + TIP_M
        behind = target[:2] - [CUBE_HALF_M + 0.035, 0.0]
        aside = abs(tcp[1] - target[1])
        if tcp[2] < low + 0.02 and tcp[0] < target[0] - 0.02 and aside < 0.015:
            return np.array([tcp[0] + 0.04, target[1], low]), 0.0, 0.0, MAX_STEP_M
        return _funnel(tcp, behind, low), 0.0, 0.0, MAX_STEP_M

    def _pick_up(self, tcp, target, truth):
        low = target[2]
        yaw = _quarter_turn(Rotation.from_quat(target[3:]).as_euler("ZYX")[0])
        near = np.linalg.norm(tcp[:2] - target[:2]) < 0.012 and abs(tcp[2] - low) < 0.012
        if near and truth["gripper_width_m"] < 2 * CUBE_HALF_M + 0.004:
            return tcp + [0, 0, 0.05], 0.0, yaw, MAX_STEP_M
        return _funnel(tcp, target[:2], low), 0.0 if near else 1.0, yaw, MAX_STEP_M


def _funnel(tcp: np.ndarray, place: np.ndarray, low: float) -> np.ndarray:
    """Where to go next on the way to `low` above `place`: the farther away horizontally, the higher."""
    distance = np.linalg.norm(place - tcp[:2])
    height = low + np.clip(FUNNEL_SLOPE * (distance - FUNNEL_RADIUS_M), 0.0, HOVER_M)
    return np.array([*place, height])


def _quarter_turn(yaw: float) -> float:
    """The same orientation of a square, within 45 degrees of zero."""
    return (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
