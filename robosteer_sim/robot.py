"""The FR3 with the Franka Hand, from the MJCF and the collision meshes of the installed `franky-sim` package."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np

from robosteer_core.errors import UserError

JOINTS = tuple(f"fr3_joint{number}" for number in range(1, 8))
FINGER_JOINTS = ("finger_joint1", "finger_joint2")
TCP_SITE = "tcp"

#: Distance from the flange to the point between the fingertips (Franka Hand datasheet), metres.
FLANGE_TO_TCP_M = 0.1034
#: Joint torque limits of the FR3 (datasheet), newton metres.
MAX_TORQUES_NM = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])

#: Bodies that may touch things. The other links cannot reach the table within the workspace, and each would cost time.
_TOUCHING_BODIES = ("hand", "left_finger", "right_finger")


def assets() -> Path:
    """Folder of the robot's MJCF, URDF and meshes. Raises UserError where `franky-sim` is not installed."""
    spec = find_spec("franky_sim")
    if spec is None or spec.origin is None:
        raise UserError("the FR3 model comes with the package franky-sim, which is not installed; install the extra `sim`")
    return Path(spec.origin).parent / "assets"


def arm_spec() -> mujoco.MjSpec:
    """A fresh spec of the arm: torque driven (no actuators), gravity compensated, drawn with its collision meshes."""
    return _prepared_spec().copy()


@cache
def _prepared_spec() -> mujoco.MjSpec:
    # Kept, because deleting what is not needed takes ten times as long as all the rest of making a scene.
    spec = mujoco.MjSpec.from_string((assets() / "fr3.xml").read_text())
    spec.meshdir = str(assets() / "meshes")
    for actuator in list(spec.actuators):
        spec.delete(actuator)
    for tendon in list(spec.tendons):
        spec.delete(tendon)
    for key in list(spec.keys):
        spec.delete(key)
    for geom in list(spec.geoms):
        if geom.classname is not None and geom.classname.name == "visual":
            spec.delete(geom)
    drawn = {geom.meshname for geom in spec.geoms}
    for mesh in list(spec.meshes):
        if mesh.name not in drawn:
            spec.delete(mesh)
    for body in spec.bodies:
        body.gravcomp = 1.0
        touching = body.name in _TOUCHING_BODIES
        for geom in body.geoms:
            geom.group = 0
            geom.contype, geom.conaffinity = (1, 1) if touching else (0, 0)
            geom.rgba = (0.25, 0.25, 0.27, 1) if "finger" in body.name else (0.92, 0.92, 0.93, 1)
            if touching:
                geom.friction = (1.0, 0.01, 0.001)
    spec.body("hand").add_site(name=TCP_SITE, pos=(0, 0, FLANGE_TO_TCP_M), group=4)
    return spec
