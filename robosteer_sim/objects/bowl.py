"""A bowl: a round bottom and a ring of leaning sides."""

from __future__ import annotations

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from robosteer_sim.objects.item import Item

BOWL_RADIUS_M = 0.055
BOWL_HEIGHT_M = 0.035
BOWL_BOTTOM_M = 0.006
#: How far the sides lean outward, radians; the other shape is steeper.
LEAN_RAD = {"": np.deg2rad(28), "steep": np.deg2rad(14)}
SHAPES = tuple(LEAN_RAD)
_SIDES = 12


def add(spec: mujoco.MjSpec, item: Item) -> None:
    wide, high = item.scale[0], item.scale[2]
    # The bottom reaches to where the sides begin.
    bottom = 0.036 + (0.045 * wide - 0.045) - (_out_m(item.shape, high) - _out_m("", 1.0))
    body = spec.worldbody.add_body(name=item.name, pos=(*item.position, 0.001), quat=item.quaternion)
    body.add_freejoint(name=item.name)
    body.add_geom(name=item.name, type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(bottom, BOWL_BOTTOM_M / 2, 0),
                  pos=(0, 0, BOWL_BOTTOM_M / 2), mass=0.06, rgba=item.rgba())
    for side in range(_SIDES):
        angle = 2 * np.pi * side / _SIDES
        turn = Rotation.from_euler("ZY", [angle, LEAN_RAD[item.shape]])
        body.add_geom(name=f"{item.name}_{side}", type=mujoco.mjtGeom.mjGEOM_BOX, mass=0.01, rgba=item.rgba(),
                      pos=(0.045 * wide * np.cos(angle), 0.045 * wide * np.sin(angle), BOWL_HEIGHT_M * high / 2),
                      size=(0.002, 0.0145 * wide, BOWL_HEIGHT_M * high / 2), quat=turn.as_quat(scalar_first=True))


def _out_m(shape: str, high: float) -> float:
    """How far a side leans outward between its foot and its middle, metres."""
    return BOWL_HEIGHT_M * high / 2 * np.tan(LEAN_RAD[shape])
