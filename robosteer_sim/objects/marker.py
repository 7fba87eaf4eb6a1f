"""A whiteboard marker that lies on the table."""

from __future__ import annotations

import mujoco

from robosteer_sim.objects.item import Item
from robosteer_sim.objects.vessel import HIDDEN_GROUP

MARKER_HALF_LENGTH_M = 0.060
#: Half of its thickness. It is drawn round and touched square, so that it does not roll away: a clip does that in life.
MARKER_HALF_M = 0.009
_BLUE = (0.10, 0.25, 0.75)
#: The other shape is as square as it is touched.
SHAPES = ("", "square")


def add(spec: mujoco.MjSpec, item: Item) -> None:
    """The cap is at the end of the object's negative x axis."""
    length, half = MARKER_HALF_LENGTH_M * item.scale[0], MARKER_HALF_M * item.scale[2]
    body = spec.worldbody.add_body(name=item.name, pos=(*item.position, half + 0.0002), quat=item.quaternion)
    body.add_freejoint(name=item.name)
    body.add_geom(name=item.name, type=mujoco.mjtGeom.mjGEOM_BOX, size=(length, half, half), mass=0.03, group=HIDDEN_GROUP,
                  friction=(0.8, 0.005, 0.0001))
    square = item.shape == "square"
    for start, end, slim, rgba in (
        (-1.0, -0.30, 1.0, item.rgba(_BLUE)),
        (-0.30, 0.82, 0.92, (0.95, 0.95, 0.93, 1)),
        (0.82, 1.0, 0.85, item.rgba(_BLUE)),
    ):
        kind = mujoco.mjtGeom.mjGEOM_BOX if square else mujoco.mjtGeom.mjGEOM_CYLINDER
        middle, reach = (start + end) / 2 * length, (end - start) / 2 * length
        size = (reach, half * slim, half * slim) if square else (half * slim, reach, 0)
        quat = (1, 0, 0, 0) if square else (0.70710678, 0, 0.70710678, 0)
        body.add_geom(type=kind, size=size, pos=(middle, 0, 0), quat=quat, contype=0, conaffinity=0, mass=0, rgba=rgba)
