"""A drinks can: it is in no task and stands in the way."""

from __future__ import annotations

import mujoco

from robosteer_sim.objects.item import Item

CAN_RADIUS_M = 0.028
CAN_HEIGHT_M = 0.075


def add(spec: mujoco.MjSpec, item: Item) -> None:
    radius, half = CAN_RADIUS_M * item.scale[0], CAN_HEIGHT_M * item.scale[2] / 2
    body = spec.worldbody.add_body(name=item.name, pos=(*item.position, half), quat=item.quaternion)
    body.add_freejoint(name=item.name)
    body.add_geom(name=item.name, type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(radius, half, 0), mass=0.1, rgba=item.rgba())
    for side in (-1, 1):
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(0.92 * radius, 0.0015, 0), pos=(0, 0, side * (half + 0.0005)),
                      contype=0, conaffinity=0, mass=0, rgba=(0.8, 0.81, 0.82, 1))
