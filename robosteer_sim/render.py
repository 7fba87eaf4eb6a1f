"""Off-screen colour and depth images of a MuJoCo model, in one pass."""

from __future__ import annotations

import ctypes.util

import numpy as np

import robosteer_sim  # noqa: F401  (chooses EGL before mujoco is imported)
import mujoco

from robosteer_core.errors import UserError
from robosteer_core.runtime.frame import Intrinsics

APT_PACKAGES = "libegl1 libgl1-mesa-dri libgl1"


def intrinsics(model: mujoco.MjModel, camera: str, width: int, height: int) -> Intrinsics:
    """Pinhole intrinsics of a camera of the model; the principal point lies at the centre of the pixel grid."""
    focal = height / 2 / np.tan(np.deg2rad(model.camera(camera).fovy[0]) / 2)
    return Intrinsics(width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5)


class Renderer:
    """Draws `model` into an off-screen buffer of `width` x `height` pixels.

    Raises UserError where off-screen OpenGL is not available. Call `close()` when done; one per thread.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        if not hasattr(mujoco, "GLContext"):
            raise UserError(_no_egl("MuJoCo found no OpenGL backend"))
        try:
            self._gl = mujoco.GLContext(width, height)
            self._gl.make_current()
            self.width, self.height = width, height
            self._viewport = mujoco.MjrRect(0, 0, width, height)
            self._option = mujoco.MjvOption()
            self._colour = np.empty((height, width, 3), np.uint8)
            self._depth = np.empty((height, width), np.float32)
            self._context: mujoco.MjrContext | None = None
            self.load(model)
        except Exception as error:  # PyOpenGL raises many kinds, some of them plain RuntimeError or ImportError
            raise UserError(_no_egl(str(error))) from error

    def load(self, model: mujoco.MjModel) -> None:
        """Draw another model from now on, in the same buffer."""
        self._gl.make_current()  # another renderer of this thread may have been at work
        if self._context is not None:
            self._context.free()
        self.model = model
        self._scene = mujoco.MjvScene(model, maxgeom=200)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        extent = model.stat.extent
        self._near, self._far = model.vis.map.znear * extent, model.vis.map.zfar * extent
        self._cameras = {model.camera(i).name: i for i in range(model.ncam)}
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def render(self, data: mujoco.MjData, camera: str, depth: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
        """Colour (height, width, 3) uint8 RGB and depth (height, width) float32 in metres, top row first."""
        self._gl.make_current()
        self._view.fixedcamid = self._cameras[camera]
        mujoco.mjv_updateScene(
            self.model, data, self._option, None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(self._colour, self._depth if depth else None, self._viewport, self._context)
        colour = np.ascontiguousarray(self._colour[::-1])
        if not depth:
            return colour, None
        # The depth buffer holds z' = far (z - near) / (z (far - near)) of the distance z along the optical axis.
        metres = self._near / (1.0 - self._depth[::-1] * (1.0 - self._near / self._far))
        return colour, metres.astype(np.float32)

    def close(self) -> None:
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._context = None
        self._gl.free()


def _no_egl(found: str) -> str:
    missing = "" if ctypes.util.find_library("EGL") else " (libEGL is not on this machine)"
    return (
        f"drawing the lab's camera images needs off-screen OpenGL through EGL; found: {found}{missing}. "
        f"Install it: apt-get install {APT_PACKAGES}; and leave MUJOCO_GL unset or set it to egl"
    )
