"""The lab's cameras as a set: every image that the rig asks for, drawn from a copy of the physics state."""

from __future__ import annotations

import robosteer_sim  # noqa: F401  (chooses the OpenGL backend before mujoco is imported)
import mujoco
import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Camera, Rig
from robosteer_core.runtime.frame_buffer import LAB_SERIAL, BufferFormat
from robosteer_sim.render import Renderer, intrinsics
from robosteer_sim.scene import build
from robosteer_sim.sensor import Sensor
from robosteer_sim.tasks import sample_scene

#: Depth is carried in millimetres, the unit that RealSense cameras are delivered with.
DEPTH_UNIT_M = 0.001
#: Largest distance in 16 bits of that unit.
_FARTHEST_M = 65.535


def lab_cameras(rig: Rig) -> tuple[Camera, ...]:
    """The rig's cameras that the lab draws. Raises UserError when there is none, or they differ in image size."""
    cameras = tuple(camera for camera in rig.cameras if camera.serial.startswith(LAB_SERIAL))
    if not cameras:
        raise UserError(f"rig {rig.name!r} has no camera of the simulated lab (serial {LAB_SERIAL}<name>)")
    sizes = {(camera.width, camera.height) for camera in cameras}
    if len(sizes) > 1:
        found = ", ".join(f"{camera.name} {camera.width}x{camera.height}" for camera in cameras)
        raise UserError(f"the lab draws all its cameras in one image size; rig {rig.name!r} has {found}")
    return cameras


class Studio:
    """`build` the scene, `pose` it, `draw` a camera. Use as a context manager, or call `close`; stays in one thread.

    Raises UserError where there is no off-screen OpenGL.
    """

    def __init__(self, rig: Rig) -> None:
        self._arm_model = rig.arm.model
        camera = lab_cameras(rig)[0]
        self._width, self._height = camera.width, camera.height
        # An empty scene shows whether this machine can draw, before any lab is there to be drawn.
        self._renderer = Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), self._width, self._height)
        self._scaled = np.empty((self._height, self._width), np.float32)

    def build(self, task: str, seed: int, variation: str = "none") -> None:
        """Put up the scene of (task, seed, variation), as the lab's physics does. Raises UserError for an unknown one."""
        scene = sample_scene(task, seed, variation)
        self.model = build(scene, self._arm_model)
        self.data = mujoco.MjData(self.model)
        # A larger off-screen buffer than the image costs a third more time: all of it is cleared for every image.
        self.model.vis.global_.offwidth, self.model.vis.global_.offheight = self._width, self._height
        self._farthest_m = min(0.999 * self.model.vis.map.zfar * self.model.stat.extent, _FARTHEST_M)
        self._renderer.load(self.model)
        self._sensors = {}
        if scene.sensor_seed is not None:
            for name in self._known():
                focal_px = intrinsics(self.model, name, self._width, self._height).fx
                self._sensors[name] = Sensor(scene.sensor_seed, name, self._height, self._width, focal_px)

    def pose(self, qpos: np.ndarray) -> None:
        """Move everything to the joint positions `qpos` (model.nq,)."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def format(self, camera: Camera) -> BufferFormat:
        """Lens, depth unit and rate of a camera. Raises UserError when the scene has no camera of this name."""
        name = self._name(camera)
        return BufferFormat(intrinsics(self.model, name, camera.width, camera.height), DEPTH_UNIT_M, camera.fps)

    def draw(self, camera: Camera, number: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Colour (height, width, 3) uint8 RGB and depth (height, width) uint16 in DEPTH_UNIT_M, 0 beyond the horizon and in
        holes; `number` is that of the frame, from which the noise of the variation `sensor` follows."""
        name = self._name(camera)
        colour, depth_m = self._renderer.render(self.data, name)
        beyond = depth_m > self._farthest_m
        if name in self._sensors:
            colour, depth_m = self._sensors[name].expose(colour, depth_m, number)
        np.multiply(depth_m, np.float32(1 / DEPTH_UNIT_M), out=self._scaled)
        self._scaled[beyond] = 0
        np.rint(self._scaled, out=self._scaled)
        return colour, self._scaled.astype(np.uint16)

    def _name(self, camera: Camera) -> str:
        name = camera.serial.removeprefix(LAB_SERIAL)
        known = self._known()
        if name not in known:
            raise UserError(f"the lab has no camera {name!r} (serial {camera.serial!r}); it has: {', '.join(known)}")
        return name

    def _known(self) -> list[str]:
        return [self.model.camera(index).name for index in range(self.model.ncam)]

    def close(self) -> None:
        self._renderer.close()

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
