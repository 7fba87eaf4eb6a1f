"""A button on a spring: it gives way to a hard press alone."""

from __future__ import annotations

import mujoco

from robosteer_sim.objects.item import Item

BUTTON_RADIUS_M = 0.030
BUTTON_TRAVEL_M = 0.005
BUTTON_HOUSING_M = 0.028
BUTTON_CAP_M = 0.014
BUTTON_PRELOAD_N = 12.0
BUTTON_STIFFNESS_N_PER_M = 1000.0
#: The other shape is square.
SHAPES = ("", "square")


def add(spec: mujoco.MjSpec, item: Item) -> None:
    radius, housing, cap_height = BUTTON_RADIUS_M * item.scale[0], BUTTON_HOUSING_M * item.scale[2], BUTTON_CAP_M * item.scale[2]
    square = item.shape == "square"
    shape = mujoco.mjtGeom.mjGEOM_BOX if square else mujoco.mjtGeom.mjGEOM_CYLINDER

    def size(radius: float, half: float) -> tuple[float, float, float]:
        return (radius, radius, half) if square else (radius, half, 0)

    body = spec.worldbody.add_body(name=f"{item.name}_housing", pos=(*item.position, 0), quat=item.quaternion)
    body.add_geom(type=shape, size=size(radius, housing / 2), pos=(0, 0, housing / 2), rgba=(0.16, 0.16, 0.17, 1))
    cap = body.add_body(name=item.name, pos=(0, 0, housing + cap_height / 2))
    spec.add_exclude(bodyname1=f"{item.name}_housing", bodyname2=item.name)
    # The spring's rest position lies above the upper stop: that is the preload.
    joint = cap.add_joint(name=item.name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(0, 0, -1), limited=True,
                          range=(0, BUTTON_TRAVEL_M), springref=-BUTTON_PRELOAD_N / BUTTON_STIFFNESS_N_PER_M)
    joint.stiffness[0], joint.damping[0] = BUTTON_STIFFNESS_N_PER_M, 5.0
    # Stops yield in proportion to the mass that runs into them: with a cap of 20 g alone they would be soft.
    joint.armature, joint.solref_limit = 0.2, (0.004, 1)
    joint.solimp_limit = (0.95, 0.99, 0.0005, 0.5, 2)
    cap.add_geom(name=item.name, type=shape, mass=0.02, rgba=item.rgba(), size=size(radius - 0.003, cap_height / 2))
