"""Touch, press and push: with closed fingers."""

from __future__ import annotations

import numpy as np

from robosteer_sim.objects.bowl import BOWL_BOTTOM_M, BOWL_RADIUS_M
from robosteer_sim.objects.cube import CUBE_HALF_M
from robosteer_sim.objects.vessel import form_of
from robosteer_sim.skills.view import TIP_M, Move, View, funnel, leaning, over, upright

#: A touch is a tap: at the surface each command leads back, so that no force builds up between command and hand.
TAP_BACK_M = 0.004
GAIN = 0.25
#: A cup is pushed with the fingertips ahead of the hand, low above the table.
_PUSH_LEAN_RAD = np.deg2rad(8)
_PUSH_HEIGHT_M = 0.032
#: A hand that leans aside takes more of joint 7 than an upright one.
_LEANING_MARGIN_RAD = 1.25
_FINGER_HALF_M = 0.011


def touch(view: View) -> Move:
    target, kind = view.position(view.task.target), view.task.kind
    surface = TIP_M + (BOWL_BOTTOM_M if kind == "bowl" else view.height_m(view.task.target))
    goal = funnel(view, target[:2], surface - 0.003)
    above = view.tcp[2] - surface
    if above < 0.0005:
        goal[2] = view.tcp[2] + TAP_BACK_M / GAIN
    return Move(goal, 0.0, upright(0.0), float(np.clip(0.12 * above, 0.0015, 0.008)))


def press(view: View) -> Move:
    # Aimed well below the button: against it the command runs ahead of the hand until the spring gives way.
    low = view.height_m(view.task.target) + TIP_M - 0.04
    return Move(funnel(view, view.position(view.task.target)[:2], low), 0.0, upright(0.0), 0.008)


def push(view: View) -> Move:
    target, tcp, low = view.position(view.task.target), view.tcp, 0.012 + TIP_M
    behind = target[:2] - [CUBE_HALF_M + 0.035, 0.0]
    aside = abs(tcp[1] - target[1])
    if tcp[2] < low + 0.02 and tcp[0] < target[0] - 0.02 and aside < 0.015:
        return Move(np.array([tcp[0] + 0.04, target[1], low]), 0.0, upright(0.0))
    return Move(funnel(view, behind, low), 0.0, upright(0.0))


def push_to(view: View) -> Move:
    cup, bowl, tcp = view.position(view.task.target), view.position(view.task.goal), view.tcp
    form = form_of(view.task.kind, view.shape(view.task.target), view.scale(view.task.target))
    way = bowl[:2] - cup[:2]
    distance = np.linalg.norm(way)
    along = way / distance
    # The hand's x axis lies along the push; whichever way it points, the fingertips are ahead.
    heading = float(np.arctan2(along[1], along[0]))
    _, yaw = view.easiest_yaw([heading, heading + np.pi], margin_rad=_LEANING_MARGIN_RAD)
    rotation = leaning(yaw, _PUSH_LEAN_RAD if np.cos(yaw - heading) > 0 else -_PUSH_LEAN_RAD)
    touching = form.rim_m + _FINGER_HALF_M
    ahead, aside = along @ (cup[:2] - tcp[:2]), along[0] * (cup - tcp)[1] - along[1] * (cup - tcp)[0]
    turned = (rotation * view.hand.inv()).magnitude()
    if turned < 0.5 and tcp[2] < _PUSH_HEIGHT_M + 0.02 and 0.02 < ahead < touching + 0.05 and abs(aside) < 0.02:
        left = distance - form.rim_m - BOWL_RADIUS_M * view.scale(view.task.goal)[0] - 0.012
        goal = cup[:2] - along * form.foot_m + along * np.clip(left, -0.03, 0.035)
        return Move(np.array([*goal, _PUSH_HEIGHT_M]), 0.0, rotation)
    passing = max(view.pass_m(), form.height_m + TIP_M + 0.03)
    # Down only where it has passed the cup, and turned.
    low = _PUSH_HEIGHT_M if turned < 0.35 else passing
    return Move(over(view, cup[:2] - along * (touching + 0.035), low, passing, slope=8.0), 0.0, rotation)
