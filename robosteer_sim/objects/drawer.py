"""A low cabinet with one drawer, which a post in front of it pulls open."""

from __future__ import annotations

import mujoco

from robosteer_sim.objects.item import Item

#: Outer size of the cabinet along its own x (depth), y (width) and z.
CABINET_M = (0.15, 0.19, 0.10)
DRAWER_TRAVEL_M = 0.11
#: How far the post stands in front of the cabinet, as far as the hand is thick.
POST_OUT_M = 0.048
POST_RADIUS_M = 0.009
#: Height at which the fingers close on the post.
POST_GRIP_M = 0.068
_FRICTION_N = 1.5
_WOOD, _METAL = (0.72, 0.52, 0.34), (0.22, 0.23, 0.25, 1)
#: The other shape has a square post.
SHAPES = ("", "square")


def add(spec: mujoco.MjSpec, item: Item) -> None:
    """`item.position` is that of the closed drawer's post; it opens along the object's negative x axis.

    The body that carries the item's name is the drawer, with its origin in the post at POST_GRIP_M.
    """
    depth, width, height = (size * scale for size, scale in zip(CABINET_M, item.scale))
    grip, wall, box = POST_GRIP_M * item.scale[2], 0.008, mujoco.mjtGeom.mjGEOM_BOX
    front, wood = POST_OUT_M, item.rgba(_WOOD)
    paler = (*(0.45 + 0.55 * part for part in wood[:3]), 1)
    seen = {"contype": 0, "conaffinity": 0}
    cabinet = spec.worldbody.add_body(name=f"{item.name}_cabinet", pos=(*item.position, 0), quat=item.quaternion)
    middle = front + depth / 2
    cabinet.add_geom(type=box, size=(depth / 2, width / 2, wall / 2), pos=(middle, 0, height - wall / 2), rgba=wood, **seen)
    cabinet.add_geom(type=box, size=(wall / 2, width / 2, height / 2), pos=(front + depth - wall / 2, 0, height / 2), rgba=wood, **seen)
    for side in (-1, 1):
        cabinet.add_geom(type=box, size=(depth / 2, wall / 2, height / 2), pos=(middle, side * (width - wall) / 2, height / 2),
                         rgba=wood, **seen)
    # Touched as one block: the drawer itself passes through it.
    cabinet.add_geom(type=box, size=(depth / 2, width / 2, height / 2), pos=(middle, 0, height / 2), group=3)
    drawer = cabinet.add_body(name=item.name, pos=(0, 0, grip))
    spec.add_exclude(bodyname1=f"{item.name}_cabinet", bodyname2=item.name)
    joint = drawer.add_joint(name=item.name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(-1, 0, 0), limited=True,
                             range=(0, DRAWER_TRAVEL_M), frictionloss=_FRICTION_N)
    joint.damping[0], joint.armature = 4.0, 0.1
    inner, low = width / 2 - wall - 0.002, 0.012
    panel = (height - wall - low) / 2
    drawer.add_geom(name=item.name, type=box, size=(0.005, inner, panel), pos=(front + 0.003, 0, low + panel - grip), mass=0.15, rgba=paler)
    reach = depth / 2 - wall - 0.004
    drawer.add_geom(type=box, size=(reach, inner, 0.003), pos=(front + reach, 0, low - grip), mass=0.1, rgba=paler)
    for side in (-1, 1):
        drawer.add_geom(type=box, size=(reach, 0.003, 0.6 * panel), pos=(front + reach, side * (inner - 0.003), low + 0.6 * panel - grip),
                        mass=0.05, rgba=paler)
    drawer.add_geom(type=box, size=(0.003, inner, 0.6 * panel), pos=(front + 2 * reach, 0, low + 0.6 * panel - grip), mass=0.05, rgba=paler)
    # The post stands free above the bar that carries it, so that the fingers close on it from above.
    bar, top = 0.030 * item.scale[2] - grip, 0.092 * item.scale[2] - grip
    drawer.add_geom(type=box, size=(front / 2, 0.006, 0.005), pos=(front / 2, 0, bar), mass=0.02, rgba=_METAL)
    half = (top - bar) / 2
    square = item.shape == "square"
    drawer.add_geom(type=box if square else mujoco.mjtGeom.mjGEOM_CYLINDER, mass=0.03, rgba=_METAL, pos=(0, 0, bar + half),
                    size=(POST_RADIUS_M, POST_RADIUS_M, half) if square else (POST_RADIUS_M, half, 0), friction=(1.0, 0.005, 0.0001))
