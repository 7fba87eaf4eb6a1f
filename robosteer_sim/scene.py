"""What stands on the table, as data, and the MuJoCo model that is compiled from it."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from robosteer_sim.board import PictureBoard, add_board
from robosteer_sim.objects import bowl, button, can, cube, drawer, marker, vessel
from robosteer_sim.objects.item import Item
from robosteer_sim.robot import arm_spec
from robosteer_sim.textures import texture

TIMESTEP_S = 0.001

_ADD = {
    "cube": cube.add, "button": button.add, "bowl": bowl.add, "mug": vessel.add_mug, "cup": vessel.add_cup, "marker": marker.add,
    "drawer": drawer.add, "can": can.add,
}  # fmt: skip
#: Height of each kind of object above the table at its usual scale, metres.
HEIGHTS_M = {
    "cube": 2 * cube.CUBE_HALF_M, "button": button.BUTTON_HOUSING_M + button.BUTTON_CAP_M, "bowl": bowl.BOWL_HEIGHT_M,
    "mug": vessel.MUG.height_m, "cup": vessel.CUP.height_m, "marker": 2 * marker.MARKER_HALF_M, "drawer": drawer.CABINET_M[2],
    "can": can.CAN_HEIGHT_M,
}  # fmt: skip
#: The shapes of each kind, the usual one first; a kind that is not named here has the usual one alone.
SHAPES = {
    "button": button.SHAPES, "bowl": bowl.SHAPES, "mug": tuple(vessel.FORMS["mug"]), "cup": tuple(vessel.FORMS["cup"]),
    "marker": marker.SHAPES, "drawer": drawer.SHAPES,
}  # fmt: skip
_USUAL_LIGHT = (0.1, 0.3, -1.0)


@dataclass(frozen=True)
class Textures:
    """What table and floor are covered with: names of TEXTURES and the seed that the two are drawn from."""

    table: str
    floor: str
    seed: int


@dataclass(frozen=True)
class Scene:
    """Everything that (task, seed, variation) decides.

    `joint_offset` (7,) rad is added to the arm's home pose at reset; then the end effector is displaced by `start_offset`
    (6,): translation [m] and rotation vector [rad], base frame. `camera_offsets` displaces cameras likewise, each in the
    frame of what it is mounted on. `brightness` multiplies every light, `light_direction` (3,) is where the sun shines to.
    `sensor_seed` is that of the cameras' noise, None for cameras without any. `boards` are there to calibrate the cameras.
    """

    items: tuple[Item, ...]
    joint_offset: tuple[float, ...] = (0.0,) * 7
    start_offset: tuple[float, ...] = (0.0,) * 6
    camera_offsets: tuple[tuple[str, tuple[float, ...]], ...] = ()
    brightness: float = 1.0
    light_direction: tuple[float, float, float] = _USUAL_LIGHT
    textures: Textures | None = None
    sensor_seed: int | None = None
    boards: tuple[PictureBoard, ...] = ()

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
    bright = scene.brightness
    spec.visual.headlight.ambient = (0.45 * bright,) * 3
    spec.visual.headlight.diffuse = (0.25 * bright,) * 3
    spec.visual.headlight.specular = (0.1 * bright,) * 3
    # Off-screen buffers large enough for the largest RealSense colour image.
    getattr(spec.visual, "global").offwidth, getattr(spec.visual, "global").offheight = 1280, 720
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    # Depth resolution: the nearest thing that a camera sees is its own gripper, 5 cm away.
    spec.stat.extent, spec.visual.map.znear, spec.visual.map.zfar = 1.0, 0.02, 4.0

    world = spec.worldbody
    world.add_light(pos=(0.3, -0.6, 1.6), dir=scene.light_direction, diffuse=(0.45 * bright,) * 3, castshadow=False,
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
    for index, board in enumerate(scene.boards):
        add_board(spec, board, f"picture_board_{index}")
    _add_cameras(spec)
    if scene.textures is not None:
        _cover(spec, scene.textures)
    for name, offset in scene.camera_offsets:
        camera = spec.camera(name)
        camera.pos = camera.pos + np.array(offset[:3])
        turned = Rotation.from_rotvec(offset[3:]) * Rotation.from_quat(camera.quat, scalar_first=True)
        camera.quat = turned.as_quat(scalar_first=True)
    return spec.compile()


def _cover(spec: mujoco.MjSpec, textures: Textures) -> None:
    for number, (geom, name, repeat) in enumerate((("table_top", textures.table, (1.0, 1.0)), ("floor", textures.floor, (3.0, 3.0)))):
        image = texture(name, [textures.seed, number])
        drawn = spec.add_texture(name=f"{geom}_texture", type=mujoco.mjtTexture.mjTEXTURE_2D, width=image.shape[1],
                                 height=image.shape[0], nchannel=3)
        drawn.data = image.tobytes()
        material = spec.add_material(name=f"{geom}_material", texrepeat=repeat)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = drawn.name
        spec.geom(geom).material, spec.geom(geom).rgba = material.name, (1, 1, 1, 1)


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
