"""What stands on the table, as data, and the MuJoCo model that is compiled from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from robosteer_sim.robot import arm_spec

COLOURS = {
    "red": (0.85, 0.08, 0.08),
    "green": (0.08, 0.60, 0.15),
    "blue": (0.08, 0.22, 0.85),
    "yellow": (0.95, 0.80, 0.08),
}
TIMESTEP_S = 0.001

CUBE_HALF_M = 0.0225
BUTTON_RADIUS_M = 0.030
BUTTON_TRAVEL_M = 0.005
BUTTON_HOUSING_M = 0.028
BUTTON_CAP_M = 0.014
BUTTON_PRELOAD_N = 12.0
BUTTON_STIFFNESS_N_PER_M = 1000.0
BOWL_RADIUS_M = 0.055
BOWL_HEIGHT_M = 0.035
BOWL_BOTTOM_M = 0.006

#: Height of each kind of object above the table, metres.
HEIGHTS_M = {"cube": 2 * CUBE_HALF_M, "button": BUTTON_HOUSING_M + BUTTON_CAP_M, "bowl": BOWL_HEIGHT_M}


@dataclass(frozen=True)
class Item:
    """One object on the table: kind, colour, position (x, y) in metres and yaw in radians, base frame."""

    kind: str
    colour: str
    position: tuple[float, float]
    yaw: float

    @property
    def name(self) -> str:
        return f"{self.colour}_{self.kind}"


@dataclass(frozen=True)
class Scene:
    """`joint_offset` (7,) rad is added to the arm's home pose at reset."""

    items: tuple[Item, ...]
    joint_offset: tuple[float, ...] = field(default=(0.0,) * 7)

    def item(self, name: str) -> Item:
        return next(item for item in self.items if item.name == name)


def build(scene: Scene, arm: str = "fr3") -> mujoco.MjModel:
    """Compile the robot (`arm`, fr3 or panda), the table, the cameras and the items. The same scene gives the same model everywhere."""
    spec = arm_spec(arm)
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # Things at rest sleep until something touches them; that halves the cost of a step. The arm never sleeps.
    spec.option.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP
    spec.body("link1").sleep = mujoco.mjtSleepPolicy.mjSLEEP_NEVER
    spec.visual.headlight.ambient = (0.45, 0.45, 0.45)
    spec.visual.headlight.diffuse = (0.25, 0.25, 0.25)
    spec.visual.headlight.specular = (0.1, 0.1, 0.1)
    # Off-screen buffers large enough for the largest RealSense colour image.
    getattr(spec.visual, "global").offwidth, getattr(spec.visual, "global").offheight = 1280, 720
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    # Depth resolution: the nearest thing that a camera sees is its own gripper, 5 cm away.
    spec.stat.extent, spec.visual.map.znear, spec.visual.map.zfar = 1.0, 0.02, 4.0

    world = spec.worldbody
    world.add_light(pos=(0.3, -0.6, 1.6), dir=(0.1, 0.3, -1), diffuse=(0.45, 0.45, 0.45), castshadow=False,
                    type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
    # Things rest on an unseen plane: contacts with it cost a fraction of those with the box that is drawn.
    world.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(2, 2, 0.1), rgba=(0, 0, 0, 0),
                   friction=(0.6, 0.005, 0.0001))
    world.add_geom(name="table_top", type=mujoco.mjtGeom.mjGEOM_BOX, pos=(0.45, 0, -0.0201), size=(0.65, 0.7, 0.02),
                   rgba=(0.74, 0.68, 0.58, 1), contype=0, conaffinity=0)
    world.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, pos=(0, 0, -0.75), size=(3, 3, 0.1),
                   rgba=(0.35, 0.37, 0.4, 1), contype=0, conaffinity=0)
    for item in scene.items:
        _ADD[item.kind](spec, item)
    _add_cameras(spec)
    return spec.compile()


def _add_cameras(spec: mujoco.MjSpec) -> None:
    # 42 degrees is the vertical field of view of a RealSense D435's colour camera.
    eye, target = np.array([0.96, 0.0, 0.60]), np.array([0.47, 0.0, 0.09])
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    front = Rotation.from_matrix(np.column_stack([right, np.cross(back, right), back]))
    spec.worldbody.add_camera(name="front", pos=eye, quat=front.as_quat(scalar_first=True), fovy=42)
    # In front of the hand, leaning back so that the fingertips are at the lower edge of the image.
    lean = np.deg2rad(18)
    view = np.array([-np.sin(lean), 0, np.cos(lean)])
    right = np.array([0.0, 1.0, 0.0])
    wrist = Rotation.from_matrix(np.column_stack([right, np.cross(-view, right), -view]))
    spec.body("hand").add_camera(name="wrist", pos=(0.07, 0, 0.0), quat=wrist.as_quat(scalar_first=True), fovy=42)


def _yaw(item: Item) -> np.ndarray:
    return Rotation.from_euler("z", item.yaw).as_quat(scalar_first=True)


def _add_cube(spec: mujoco.MjSpec, item: Item) -> None:
    body = spec.worldbody.add_body(name=item.name, pos=(*item.position, CUBE_HALF_M), quat=_yaw(item))
    body.add_freejoint(name=item.name)
    body.add_geom(name=item.name, type=mujoco.mjtGeom.mjGEOM_BOX, size=(CUBE_HALF_M,) * 3, mass=0.08,
                  rgba=(*COLOURS[item.colour], 1), friction=(0.8, 0.005, 0.0001))


def _add_button(spec: mujoco.MjSpec, item: Item) -> None:
    body = spec.worldbody.add_body(name=f"{item.name}_housing", pos=(*item.position, 0), quat=_yaw(item))
    half = BUTTON_HOUSING_M / 2
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(BUTTON_RADIUS_M, half, 0), pos=(0, 0, half),
                  rgba=(0.16, 0.16, 0.17, 1))
    cap = body.add_body(name=item.name, pos=(0, 0, BUTTON_HOUSING_M + BUTTON_CAP_M / 2))
    spec.add_exclude(bodyname1=f"{item.name}_housing", bodyname2=item.name)
    # The spring's rest position lies above the upper stop: that is the preload.
    joint = cap.add_joint(name=item.name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(0, 0, -1), limited=True,
                          range=(0, BUTTON_TRAVEL_M), springref=-BUTTON_PRELOAD_N / BUTTON_STIFFNESS_N_PER_M)
    joint.stiffness[0], joint.damping[0] = BUTTON_STIFFNESS_N_PER_M, 5.0
    # Stops yield in proportion to the mass that runs into them: with a cap of 20 g alone they would be soft.
    joint.armature, joint.solref_limit = 0.2, (0.004, 1)
    joint.solimp_limit = (0.95, 0.99, 0.0005, 0.5, 2)
    cap.add_geom(name=item.name, type=mujoco.mjtGeom.mjGEOM_CYLINDER, mass=0.02, rgba=(*COLOURS[item.colour], 1),
                 size=(BUTTON_RADIUS_M - 0.003, BUTTON_CAP_M / 2, 0))


def _add_bowl(spec: mujoco.MjSpec, item: Item) -> None:
    body = spec.worldbody.add_body(name=item.name, pos=(*item.position, 0.001), quat=_yaw(item))
    body.add_freejoint(name=item.name)
    colour = (*COLOURS[item.colour], 1)
    body.add_geom(name=item.name, type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(0.036, BOWL_BOTTOM_M / 2, 0), pos=(0, 0, BOWL_BOTTOM_M / 2),
                  mass=0.06, rgba=colour)
    sides = 12
    for side in range(sides):
        angle = 2 * np.pi * side / sides
        turn = Rotation.from_euler("ZY", [angle, np.deg2rad(28)])
        body.add_geom(name=f"{item.name}_{side}", type=mujoco.mjtGeom.mjGEOM_BOX, mass=0.01, rgba=colour,
                      pos=(0.045 * np.cos(angle), 0.045 * np.sin(angle), BOWL_HEIGHT_M / 2),
                      size=(0.002, 0.0145, BOWL_HEIGHT_M / 2), quat=turn.as_quat(scalar_first=True))


_ADD = {"cube": _add_cube, "button": _add_button, "bowl": _add_bowl}
KINDS = tuple(_ADD)
