"""Pick up, place and stack: with the fingers around the object."""

from __future__ import annotations

import numpy as np

from robosteer_sim.objects.cube import CUBE_HALF_M
from robosteer_sim.objects.marker import MARKER_HALF_LENGTH_M, MARKER_HALF_M
from robosteer_sim.objects.vessel import form_of
from robosteer_sim.skills.view import TIP_M, Move, View, funnel, leaning, lifted, over, seize, upright

#: How far below a mug's rim the fingers hold its wall.
_RIM_GRIP_M = 0.012
_WALLS = 10
#: The marker is held this far from its middle, and the hand leans by this much when it is let go into a mug at these distances
#: from the robot.
_MARKER_GRIP_M = 0.025
_MARKER_LEAN_AT_M, _MARKER_LEANS_RAD = (0.52, 0.64), np.deg2rad((55, 40))
#: A marker's lower end goes down this far beyond the mug's middle, as it leans back toward the robot.
_MARKER_ASIDE_M = 0.013
#: What is put down is let go at most this far from where it is to be.
_LET_GO_ASIDE_M = 0.008


def pick_up(view: View) -> Move:
    return _pick_up_mug(view) if view.task.kind == "mug" else _pick_up_cube(view)


def place_in(view: View) -> Move:
    return _marker_in_mug(view) if view.task.kind == "marker" else _cube_in_bowl(view)


def _pick_up_cube(view: View) -> Move:
    target, tcp = view.position(view.task.target), view.tcp
    yaw, thickness = _cube_grasp(view, view.task.target)
    near = np.linalg.norm(tcp[:2] - target[:2]) < 0.012 and abs(tcp[2] - target[2]) < 0.012
    if near and view.width_m < thickness + 0.004:
        return Move(tcp + [0, 0, 0.05], 0.0, upright(yaw))
    return Move(funnel(view, target[:2], target[2]), 0.0 if near else 1.0, upright(yaw))


def _cube_grasp(view: View, name: str) -> tuple[float, float]:
    """Hand yaw that suits a cube, and the cube's thickness between the fingers: within 45 degrees of straight ahead, unless
    something stands where the open fingers come down."""
    yaw, place = view.yaw(name), view.position(name)[:2]
    quarter = _quarter_turn(yaw)
    if view.crowded(place, quarter):
        quarter = min((quarter - np.pi / 2, quarter + np.pi / 2), key=lambda other: (view.crowded(place, other), abs(other)))
    return quarter, _cube_thickness(view, name, quarter)


def _quarter_turn(yaw: float) -> float:
    """The same orientation of a square, within 45 degrees of zero."""
    return (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4


def _cube_thickness(view: View, name: str, hand_yaw: float) -> float:
    """How far the fingers of a hand at this yaw are apart around a cube, metres."""
    turned = round((view.yaw(name) - hand_yaw) / (np.pi / 2)) % 2
    return 2 * CUBE_HALF_M * view.scale(name)[0 if turned else 1]


def _pick_up_mug(view: View) -> Move:
    """By its wall, one finger inside; where the other finger has room and the handle is not."""
    mug, rotation = view.position(view.task.target), view.rotation(view.task.target)
    form = form_of("mug", view.shape(view.task.target), view.scale(view.task.target))
    # The flat walls that are touched, but not the two beside the handle.
    angles = 2 * np.pi * (np.arange(1, _WALLS - 1) + 0.5) / _WALLS
    radius, height = form.rim_m - form.wall_m / 2, form.height_m - _RIM_GRIP_M
    points = mug + rotation.apply(np.column_stack([radius * np.cos(angles), radius * np.sin(angles), np.full(len(angles), height)]))
    if view.holds(form.wall_m) and np.linalg.norm(points - view.tcp, axis=1).min() < 0.025:
        return Move(lifted(view), 0.0, upright(view.hand_yaw))
    yaws, costs = [], []
    for point in points:
        outward = float(np.arctan2(*(point - mug)[1::-1]))
        # The wall that the hand is nearest to stays the one that it is after.
        away = 20.0 * float(np.linalg.norm((view.tcp - point)[:2]))
        for turned in (-np.pi / 2, np.pi / 2):
            yaws.append(outward + turned)
            costs.append(away + 5.0 * view.crowded(point[:2], outward + turned))
    index, yaw = view.easiest_yaw(yaws, costs)
    point = points[index // 2]
    passing = max(view.pass_m(), mug[2] + form.height_m + TIP_M + 0.03)
    return seize(view, point, form.wall_m, _RIM_GRIP_M, view.near(point, 0.014, 0.012), passing, upright(yaw))


def _turn(angle: float) -> float:
    """Size of an angle, radians, the short way round."""
    return abs((angle + np.pi) % (2 * np.pi) - np.pi)


def _cube_in_bowl(view: View) -> Move:
    bowl = view.position(view.task.goal)
    rim = bowl[2] + view.height_m(view.task.goal)
    cube = view.position(view.task.target)
    inside = np.linalg.norm(cube[:2] - bowl[:2]) < 0.03 and cube[2] < rim + 0.025
    return _put_down(view, bowl[:2], rim + 0.018, inside)


def stack(view: View) -> Move:
    below, cube = view.position(view.task.goal), view.position(view.task.target)
    top = below[2] + (view.height_m(view.task.goal) + view.height_m(view.task.target)) / 2
    on_top = np.abs(cube[:2] - below[:2]).max() < 0.015 and abs(cube[2] - top) < 0.005
    return _put_down(view, below[:2], top + view.tcp[2] - cube[2] - 0.0005, on_top)


def _put_down(view: View, place: np.ndarray, low: float, there: bool) -> Move:
    """Bring the cube over `place` (2,), down to TCP height `low`, and let go; once it is `there`, out of its way."""
    cube, tcp = view.position(view.task.target), view.tcp
    hanging = 0.5 * view.height_m(view.task.target) + 0.006
    held = view.holds(_cube_thickness(view, view.task.target, view.hand_yaw)) and view.near(cube, 0.025, 0.025)
    if not held:
        if there:
            return Move(np.array([*tcp[:2], low + 0.08]), 1.0, upright(view.hand_yaw))
        # Held above its middle, so that the fingers stay out of what it is put into.
        grip, (yaw, thickness) = cube + [0.0, 0.0, 0.004], _cube_grasp(view, view.task.target)
        near = view.near(grip, 0.012, 0.011)
        return seize(view, grip, thickness, view.height_m(view.task.target) / 2, near, view.pass_m(), upright(yaw))
    aim = place + (tcp - cube)[:2]
    if np.linalg.norm(cube[:2] - place) < _LET_GO_ASIDE_M and tcp[2] < low + 0.003:
        return Move(np.array([*aim, low]), 1.0, upright(view.hand_yaw))
    return Move(over(view, aim, low, view.pass_m(hanging)), 0.0, upright(view.hand_yaw), 0.010)


def _marker_in_mug(view: View) -> Move:
    """The marker is held off its middle, leaned over in the air until one end hangs down, and that end let into the mug."""
    marker, mug, tcp = view.position(view.task.target), view.position(view.task.goal), view.tcp
    scale = view.scale(view.task.target)
    axis = view.rotation(view.task.target).apply([1.0, 0.0, 0.0])
    half, thick = MARKER_HALF_LENGTH_M * scale[0], MARKER_HALF_M * scale[2]
    form = form_of("mug", view.shape(view.task.goal), view.scale(view.task.goal))
    rim = mug[2] + form.height_m
    held = view.holds(2 * MARKER_HALF_M * scale[1]) and np.linalg.norm(tcp - marker) < _MARKER_GRIP_M + 0.022
    lower = min(marker - half * axis, marker + half * axis, key=lambda end: end[2])
    inside = np.linalg.norm((lower - mug)[:2]) < form.rim_m and lower[2] < rim - 0.02
    heading = float(np.arctan2(mug[1], mug[0]))
    # The fingers point back at the robot, less far out: the other way joint 6 passes the wrist's singular pose and comes to
    # the end of its range, and with the full lean the arm would not reach the far side of the table.
    lean = np.interp(np.hypot(*mug[:2]), _MARKER_LEAN_AT_M, _MARKER_LEANS_RAD)
    leant = leaning(heading, -lean)
    if not held:
        if inside:
            return Move(np.array([*tcp[:2], rim + 0.12]), 1.0, view.hand)
        yaw = float(np.arctan2(axis[1], axis[0]))
        yaws = [yaw, yaw + np.pi]
        _, yaw = view.easiest_yaw(yaws, [0.3 * _turn(one) for one in yaws])
        ahead = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        grip = marker - _MARKER_GRIP_M * scale[0] * ahead
        grip[2] = max(marker[2] - thick + 0.013, 0.012)
        return seize(view, grip, 2 * thick, thick, view.near(grip, 0.012, 0.009), view.pass_m(), upright(yaw))
    # The end on the side of the hand's x axis hangs down; it keeps its place in the hand while the hand turns.
    end = marker + half * axis * np.sign(axis @ view.hand.apply([1.0, 0.0, 0.0]))
    from_end = leant.apply(view.hand.inv().apply(tcp - end))
    hole = mug[:2] + _MARKER_ASIDE_M * np.array([np.cos(heading), np.sin(heading)])
    low = max(mug[2] + 0.030 + from_end[2], rim + 0.016)
    aim = hole + from_end[:2]
    error = (leant * view.hand.inv()).magnitude()
    high = rim + 0.025 + max(from_end[2], 0.0)
    if inside and tcp[2] < low + 0.006:
        return Move(np.array([*aim, low]), 1.0, leant)
    aside = np.linalg.norm(aim - tcp[:2])
    if (error > 0.2 or aside > 0.010) and not (inside and aside < 0.02):
        goal = over(view, aim, high, max(high, view.pass_m(0.06)))
        return Move(goal, 0.0, leant)
    return Move(np.array([*aim, low]), 0.0, leant, 0.010)
