"""A cube that the fingers close on."""

from __future__ import annotations

import mujoco

from robosteer_sim.objects.item import Item

CUBE_HALF_M = 0.0225


def add(spec: mujoco.MjSpec, item: Item) -> None:
    half = tuple(CUBE_HALF_M * scale for scale in item.scale)
    body = spec.worldbody.add_body(name=item.name, pos=(*item.position, half[2]), quat=item.quaternion)
    body.add_freejoint(name=item.name)
    body.add_geom(name=item.name, type=mujoco.mjtGeom.mjGEOM_BOX, size=half, mass=0.08, rgba=item.rgba(),
                  friction=(0.8, 0.005, 0.0001))
