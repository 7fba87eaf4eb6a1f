"""Mug and cup: hollow things that stand upright, the mug with a handle.

What is drawn is a smooth surface of revolution; what is touched is a ring of flat walls behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from robosteer_sim.objects.item import Item

_WALLS = 10
_SEGMENTS = 28
#: Parts that are touched and not drawn: the renderer leaves out this group.
HIDDEN_GROUP = 3


@dataclass(frozen=True)
class Form:
    """Outer radius at the foot and at the rim, height and wall thickness, metres."""

    foot_m: float
    rim_m: float
    height_m: float
    wall_m: float
    mass_kg: float


MUG = Form(0.038, 0.038, 0.085, 0.004, 0.16)
CUP = Form(0.029, 0.036, 0.088, 0.003, 0.12)
#: The other shapes: a mug that widens, a cup that does not.
FORMS = {
    "mug": {"": MUG, "flared": Form(0.034, 0.040, 0.085, 0.004, 0.16)},
    "cup": {"": CUP, "straight": Form(0.033, 0.033, 0.088, 0.003, 0.12)},
}
MUG_HANDLE_M = 0.028
_HANDLE_RADIUS_M = 0.005
_BOTTOM_M = 0.006
_CREAM = (0.93, 0.91, 0.85)


def add_mug(spec: mujoco.MjSpec, item: Item) -> None:
    body, form = _add(spec, item)
    # A handle on the object's x axis: two spokes and an upright, drawn as they are touched.
    reach, middle, half = form.rim_m + MUG_HANDLE_M, form.height_m / 2, 0.3 * form.height_m
    near = (form.foot_m + form.rim_m) / 2 - form.wall_m
    for start, end in (
        ((near, middle + half), (reach - 0.006, middle + half)),
        ((reach - 0.006, middle + half), (reach, middle + half - 0.008)),
        ((reach, middle + half - 0.008), (reach, middle - 0.5 * half)),
        ((reach, middle - 0.5 * half), (near, middle - half)),
    ):
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=(start[0], 0, start[1], end[0], 0, end[1]),
                      size=(_HANDLE_RADIUS_M, 0, 0), mass=0.004, rgba=item.rgba(_CREAM), friction=(0.8, 0.005, 0.0001))


def add_cup(spec: mujoco.MjSpec, item: Item) -> None:
    _add(spec, item)


def form_of(kind: str, shape: str, scale: tuple[float, float, float]) -> Form:
    """The measures of a vessel as it stands there; the wall is as thick in every size."""
    usual = FORMS[kind][shape]
    return Form(usual.foot_m * scale[0], usual.rim_m * scale[0], usual.height_m * scale[2], usual.wall_m, usual.mass_kg)


def _add(spec: mujoco.MjSpec, item: Item) -> tuple[mujoco.MjsBody, Form]:
    form = form_of(item.kind, item.shape, item.scale)
    body = spec.worldbody.add_body(name=item.name, pos=(*item.position, 0.0005), quat=item.quaternion)
    body.add_freejoint(name=item.name)
    _draw(spec, body, item, form)
    touched = {"group": HIDDEN_GROUP, "friction": (0.8, 0.005, 0.0001)}
    # Its foot slides on the table more easily than anything holds to its walls, so that it is pushed and not toppled.
    foot = {"group": HIDDEN_GROUP, "friction": (0.3, 0.005, 0.0001), "priority": 1}
    body.add_geom(name=item.name, type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(form.foot_m, _BOTTOM_M / 2, 0),
                  pos=(0, 0, _BOTTOM_M / 2), mass=0.5 * form.mass_kg, **foot)
    lean = np.arctan2(form.rim_m - form.foot_m, form.height_m)
    radius, half = (form.foot_m + form.rim_m) / 2 - form.wall_m / 2, form.height_m / 2 / np.cos(lean)
    for wall in range(_WALLS):
        angle = 2 * np.pi * (wall + 0.5) / _WALLS
        turn = Rotation.from_euler("ZY", [angle, lean])
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, mass=0.5 * form.mass_kg / _WALLS, quat=turn.as_quat(scalar_first=True),
                      pos=(radius * np.cos(angle), radius * np.sin(angle), form.height_m / 2),
                      size=(form.wall_m / 2, np.tan(np.pi / _WALLS) * (radius + form.wall_m / 2), half), **touched)
    return body, form


def _draw(spec: mujoco.MjSpec, body: mujoco.MjsBody, item: Item, form: Form) -> None:
    wall = form.wall_m
    outline = np.array([
        (0.0, 0.0), (form.foot_m - 0.003, 0.0), (form.foot_m, 0.003), (form.rim_m, form.height_m - 0.001),
        (form.rim_m - wall / 2, form.height_m), (form.rim_m - wall, form.height_m - 0.001), (form.foot_m - wall, _BOTTOM_M), (0.0, _BOTTOM_M),
    ])  # fmt: skip
    vertices, faces = revolve(outline)
    mesh = spec.add_mesh(name=f"{item.name}_surface", uservert=vertices.ravel(), userface=faces.ravel())
    mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=mesh.name, contype=0, conaffinity=0, mass=0, rgba=item.rgba(_CREAM))


def revolve(outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3) and triangles (m, 3) of the surface that the outline (k, 2) of radius and height sweeps about z.

    The outline begins and ends on the axis and has the solid on its left.
    """
    angles = 2 * np.pi * np.arange(_SEGMENTS) / _SEGMENTS
    ring = np.column_stack([np.cos(angles), np.sin(angles)])
    vertices = [(0.0, 0.0, outline[0, 1])]
    for radius, height in outline[1:-1]:
        vertices += [(radius * x, radius * y, height) for x, y in ring]
    vertices.append((0.0, 0.0, outline[-1, 1]))
    last, rings, faces = len(vertices) - 1, len(outline) - 2, []
    for k in range(_SEGMENTS):
        after = (k + 1) % _SEGMENTS
        faces.append((0, 1 + after, 1 + k))
        for level in range(rings - 1):
            here, above = 1 + level * _SEGMENTS, 1 + (level + 1) * _SEGMENTS
            faces += [(here + k, here + after, above + after), (here + k, above + after, above + k)]
        top = 1 + (rings - 1) * _SEGMENTS
        faces.append((top + k, top + after, last))
    return np.array(vertices), np.array(faces)
