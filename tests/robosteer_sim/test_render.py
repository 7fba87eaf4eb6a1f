"""Camera images of the lab."""

import os
import subprocess
import sys

import numpy as np
import pytest

from robosteer_core.rig import load_rig
from robosteer_sim.render import Renderer, intrinsics
from robosteer_sim.scene import HEIGHTS_M
from robosteer_sim.world import World


@pytest.fixture(scope="module")
def drawn():
    world = World(load_rig("lab"))
    world.reset("press the red button", 0)
    renderer = Renderer(world.model, 640, 480)
    images = {name: renderer.render(world.data, name) for name in ("front", "wrist")}
    yield world, images
    renderer.close()


def test_depth_and_intrinsics_give_the_target_back_in_metres(drawn):
    world, images = drawn
    _, depth = images["front"]
    camera, data = world.model.camera("front").id, world.data
    lens = intrinsics(world.model, "front", 640, 480)
    rotation = data.cam_xmat[camera].reshape(3, 3)
    x, y = world.scene.item("red_button").position
    top = np.array([x, y, HEIGHTS_M["button"]])
    seen = rotation.T @ (top - data.cam_xpos[camera])
    column, row = lens.cx + lens.fx * seen[0] / -seen[2], lens.cy - lens.fy * seen[1] / -seen[2]
    measured = depth[round(row), round(column)]
    assert measured == pytest.approx(-seen[2], abs=0.002)


def test_the_target_shows_in_its_colour(drawn):
    _, images = drawn
    colour = images["front"][0].astype(int)
    red = (colour[..., 0] > 120) & (colour[..., 1] < 60) & (colour[..., 2] < 60)
    assert red.sum() > 300


def test_without_egl_one_message_names_the_packages():
    """A machine without EGL is played by pointing the vendor-neutral loader at no vendor at all."""
    code = (
        "from robosteer_core.rig import load_rig\nfrom robosteer_core.errors import UserError\n"
        "from robosteer_sim.world import World\nfrom robosteer_sim.render import Renderer\n"
        "w = World(load_rig('lab')); w.reset('press the red button', 0)\n"
        "try:\n    Renderer(w.model, 64, 48)\nexcept UserError as error:\n    print('REFUSED', error)\n"
    )
    environment = {**os.environ, "MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent.json"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert "REFUSED" in run.stdout and "libegl1 libgl1-mesa-dri libgl1" in run.stdout, run.stdout + run.stderr
