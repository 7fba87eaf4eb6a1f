"""The arm with the Franka Hand: the FR3 from the MJCF and the collision meshes of the installed `franky-sim` package, or the
Panda from a model of our own. Bodies, joints and sites have the same names in both. Hand and fingers alone touch things: the
links of the arm pass through whatever is in their way, and through each other."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np

from robosteer_core.errors import UserError
from robosteer_sim.fci.limits import FR3
from robosteer_sim.panda.arm import DARK, WHITE, panda_spec

JOINTS = tuple(f"joint{number}" for number in range(1, 8))
FINGER_JOINTS = ("finger_joint1", "finger_joint2")
TCP_SITE = "tcp"

#: Distance from the flange to the point between the fingertips (Franka Hand datasheet), metres.
FLANGE_TO_TCP_M = 0.1034
#: Joint torque limits of the FR3 and of the Panda, newton metres.
MAX_TORQUES_NM = np.array(FR3.torque)

#: Bodies that touch things. The other links cannot reach the table within the workspace, and each would cost time.
HAND_BODIES = ("hand", "left_finger", "right_finger")


def assets() -> Path:
    """Folder of the robot's MJCF, URDF and meshes. Raises UserError where `franky-sim` is not installed."""
    spec = find_spec("franky_sim")
    if spec is None or spec.origin is None:
        raise UserError("the FR3 model comes with the package franky-sim, which is not installed; install the extra `sim`")
    return Path(spec.origin).parent / "assets"


def arm_spec(model: str = "fr3") -> mujoco.MjSpec:
    """A fresh spec of the arm, `fr3` or `panda`: torque driven (no actuators), gravity compensated."""
    return _PREPARED[model]().copy()


@cache
def _prepared_fr3() -> mujoco.MjSpec:
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
    # What is left is drawn: the collision meshes.
    drawn = {geom.meshname for geom in spec.geoms}
    for mesh in list(spec.meshes):
        if mesh.name not in drawn:
            spec.delete(mesh)
    for body in spec.bodies:
        for geom in body.geoms:
            geom.rgba = DARK if "finger" in body.name else WHITE
    for named in (*spec.bodies, *spec.joints):
        named.name = named.name.removeprefix("fr3_")
    for exclude in spec.excludes:
        exclude.bodyname1, exclude.bodyname2 = (n.removeprefix("fr3_") for n in (exclude.bodyname1, exclude.bodyname2))
    # The file has the narrower ranges of earlier systems.
    for name, low, high in zip(JOINTS, FR3.position_low, FR3.position_high):
        spec.joint(name).range = (low, high)
    return _fit(spec)


@cache
def _prepared_panda() -> mujoco.MjSpec:
    return _fit(panda_spec())


_PREPARED = {"fr3": _prepared_fr3, "panda": _prepared_panda}


def _fit(spec: mujoco.MjSpec) -> mujoco.MjSpec:
    """What the lab wants of either arm: no weight, touching hands alone, the point between the fingertips."""
    for body in spec.bodies:
        body.gravcomp = 1.0
        touching = body.name in HAND_BODIES
        for geom in body.geoms:
            geom.group = 0
            geom.contype, geom.conaffinity = (1, 1) if touching else (0, 0)
            if touching:
                geom.friction = (1.0, 0.01, 0.001)
    spec.body("hand").add_site(name=TCP_SITE, pos=(0, 0, FLANGE_TO_TCP_M), group=4)
    return spec
