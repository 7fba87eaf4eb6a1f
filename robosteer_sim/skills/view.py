"""What the operator sees of the lab's ground truth, and the ways of moving that its skills share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from robosteer_core.errors import UserError
from robosteer_core.runtime.pose import TOOL_DOWN
from robosteer_sim.placement import RADII_M
from robosteer_sim.scene import HEIGHTS_M
from robosteer_sim.tasks import Task

_DOWN = Rotation.from_quat(TOOL_DOWN)
#: From the point between the fingertips (the TCP) to the very end of the fingers, metres.
TIP_M = 0.0085
HOVER_M = 0.10
#: Largest translation per command at 15 Hz: 0.2 m/s.
MAX_STEP_M = 0.0133
#: How much higher the fingers stay per metre of horizontal distance from where they have to go down.
FUNNEL_SLOPE = 2.5
FUNNEL_RADIUS_M = 0.010
#: Down to a grip the hand goes by at most this share of the way that is left per command, and by at least this much, metres.
_APPROACH, _SLOWEST_M = 0.15, 0.003
#: Over the tallest thing on the table the fingers, or what they carry, pass with this room.
CLEARANCE_M = 0.03
#: Joint 7 is kept this far from the ends of its range when the operator chooses between equal grasps; where it stands when the
#: hand's x axis points straight ahead.
_JOINT_7_MARGIN_RAD, _JOINT_7_AHEAD_RAD = 0.7, np.pi / 4


@dataclass(frozen=True)
class Move:
    """Where the TCP (3,) [m] and the hand's orientation are to be, the gripper's opening in [0, 1], and the fastest that the
    hand may go down, metres per command."""

    goal: np.ndarray
    opening: float
    rotation: Rotation
    fastest_down_m: float = MAX_STEP_M


class View:
    """The lab's ground truth, as `World.truth` gives it, of a task. Raises UserError where the scene lacks what the task is about."""

    def __init__(self, task: Task, truth: dict) -> None:
        if absent := [name for name in (task.target, task.goal) if name and name not in truth["objects"]]:
            there = ", ".join(sorted(truth["objects"]))
            lacks = f"the scene has no {' and no '.join(absent)}"
            raise UserError(f"{task.instruction!r}: {lacks}; ask for something with {there}, or reset the lab")
        self.task = task
        self._truth = truth
        hand = np.array(truth["end_effector"])
        self.tcp: np.ndarray = hand[:3, 3]
        self.hand = Rotation.from_matrix(hand[:3, :3])
        #: Where the hand's x axis points on the table: 0 is away from the robot.
        self.hand_yaw = float(np.arctan2(hand[1, 0], hand[0, 0]))
        self.width_m: float = truth["gripper_width_m"]

    def pose(self, name: str) -> np.ndarray:
        """(7,) position [m] and quaternion x, y, z, w."""
        return np.array(self._truth["objects"][name])

    def position(self, name: str) -> np.ndarray:
        return self.pose(name)[:3]

    def rotation(self, name: str) -> Rotation:
        return Rotation.from_quat(self.pose(name)[3:])

    def yaw(self, name: str) -> float:
        return float(self.rotation(name).as_euler("ZYX")[0])

    def scale(self, name: str) -> tuple[float, float, float]:
        return tuple(self._truth["forms"][name]["scale"])

    def shape(self, name: str) -> str:
        return self._truth["forms"][name]["shape"]

    def height_m(self, name: str) -> float:
        """How high the object is in the usual position, metres."""
        return HEIGHTS_M[name.rsplit("_", 1)[-1]] * self.scale(name)[2]

    def others(self) -> list[str]:
        """Names of everything but the target."""
        return [name for name in self._truth["objects"] if name != self.task.target]

    def pass_m(self, hanging_m: float = TIP_M) -> float:
        """Height of the TCP at which what hangs `hanging_m` below it passes over everything but the target, metres."""
        return max((self.height_m(name) for name in self.others()), default=0.0) + hanging_m + CLEARANCE_M

    def crowded(self, place: np.ndarray, yaw: float) -> bool:
        """Whether something but the target stands where an open finger comes down beside `place` (2,) in a hand at `yaw`."""
        across = 0.052 * np.array([-np.sin(yaw), np.cos(yaw)])
        return any(
            np.linalg.norm(place + side * across - self.position(name)[:2]) < RADII_M[name.rsplit("_", 1)[-1]] + 0.014
            for side in (-1, 1) for name in self.others()
        )  # fmt: skip

    def near(self, point: np.ndarray, aside_m: float, above_m: float) -> bool:
        return bool(np.linalg.norm(self.tcp[:2] - point[:2]) < aside_m and abs(self.tcp[2] - point[2]) < above_m)

    def holds(self, thickness_m: float) -> bool:
        """Whether the fingers are as far apart as something of this thickness between them keeps them, which they yield to."""
        return max(0.4 * thickness_m, thickness_m - 0.012) < self.width_m < thickness_m + 0.005

    def easiest_yaw(
        self, yaws: list[float], costs: list[float] | None = None, margin_rad: float = _JOINT_7_MARGIN_RAD
    ) -> tuple[int, float]:
        """Of hand yaws that serve equally, radians, the index of the one that joint 7 reaches with the smallest turn, and that
        yaw; `costs` count as turns."""
        low, high = (limit[6] for limit in self._truth["joint_range"])
        x, y = self.position(self.task.target)[:2]
        best, least = (0, self.hand_yaw), np.inf
        for index, (yaw, cost) in enumerate(zip(yaws, costs or [0.0] * len(yaws))):
            # Of a hand that points down, with the elbow in the plane of the arm, joint 7 makes up for joint 1 and the yaw. It is
            # taken where the object is and not where the hand is now, so that the choice lasts.
            joint = (_JOINT_7_AHEAD_RAD + np.arctan2(y, x) - yaw + np.pi) % (2 * np.pi) - np.pi
            turn = (yaw - self.hand_yaw + np.pi) % (2 * np.pi) - np.pi
            beyond = not low + margin_rad < joint < high - margin_rad
            total = abs(turn) + cost + 100.0 * beyond
            if total < least:
                best, least = (index, self.hand_yaw + turn), total
        return best


def upright(yaw: float) -> Rotation:
    """The hand pointing straight down, its x axis at `yaw` [rad] from straight ahead."""
    return Rotation.from_euler("z", yaw) * _DOWN


def leaning(yaw: float, lean: float) -> Rotation:
    """As `upright`, then leaning by `lean` [rad] so that the fingers point ahead along the hand's x axis."""
    return Rotation.from_euler("zy", [yaw, 0.0]) * Rotation.from_euler("y", -lean) * _DOWN


def funnel(view: View, place: np.ndarray, low: float) -> np.ndarray:
    """Where to go next on the way to `low` above `place`: the farther away horizontally, the higher."""
    distance = np.linalg.norm(place - view.tcp[:2])
    hover = max(HOVER_M, view.pass_m() - low)
    height = low + np.clip(FUNNEL_SLOPE * (distance - FUNNEL_RADIUS_M), 0.0, hover)
    return np.array([*place, height])


def over(view: View, place: np.ndarray, low: float, passing: float, slope: float = FUNNEL_SLOPE) -> np.ndarray:
    """As `funnel`, but at TCP height `passing` on the way, which is reached before anything else when it is far below."""
    distance = np.linalg.norm(place - view.tcp[:2])
    height = low + np.clip(slope * (distance - FUNNEL_RADIUS_M), 0.0, max(passing - low, 0.02))
    if distance > 3 * FUNNEL_RADIUS_M and view.tcp[2] < height - 0.03:
        return np.array([*view.tcp[:2], height])
    return np.array([*place, height])


def seize(view: View, grip: np.ndarray, thickness_m: float, above_m: float, near: bool, passing: float, rotation: Rotation) -> Move:
    """Go to where the fingers close on something of this thickness whose top is `above_m` above the grip (3,), and close.

    Closed fingers stay above it until they have opened: pressed on it they could not.
    """
    closed = view.width_m < thickness_m + 0.012 and not near
    low = grip[2] + closed * (above_m + TIP_M + 0.015)
    # The hand is heavy and the command runs ahead of it: it comes to what it may not run into slowly.
    slowly = float(np.clip(_APPROACH * (view.tcp[2] - grip[2]), _SLOWEST_M, MAX_STEP_M))
    return Move(over(view, grip[:2], low, max(passing, low + 0.02)), 0.0 if near else 1.0, rotation, slowly)


def lifted(view: View) -> np.ndarray:
    """A little above where the hand is."""
    return view.tcp + [0, 0, 0.05]
