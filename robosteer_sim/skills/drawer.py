"""Open a drawer: close the fingers on its post from above and pull."""

from __future__ import annotations

import numpy as np

from robosteer_sim.objects.drawer import POST_RADIUS_M
from robosteer_sim.skills.view import Move, View, seize, upright

_PULL_M = 0.045


def open_drawer(view: View) -> Move:
    post, yaw = view.position(view.task.target), view.yaw(view.task.target)
    # The fingers close across the pull: pulled along their axis, the post would slip out between them.
    rotation = upright(view.easiest_yaw([yaw, yaw + np.pi])[1])
    near = view.near(post, 0.014, 0.015)
    if near and view.holds(2 * POST_RADIUS_M):
        outward = -np.array([np.cos(yaw), np.sin(yaw), 0.0])
        return Move(post + outward * _PULL_M, 0.0, rotation)
    return seize(view, post, 2 * POST_RADIUS_M, 0.024, near, max(view.pass_m(), post[2] + 0.06), rotation)
