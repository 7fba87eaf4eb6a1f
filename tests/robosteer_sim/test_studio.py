"""The studio: the lab's camera images, and what happens where nothing can be drawn."""

import os
import subprocess
import sys

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_sim.render import Renderer
from robosteer_sim.studio import DEPTH_UNIT_M, Studio, lab_cameras
from robosteer_sim.world import World

TASK = "press the red button"


@pytest.fixture(scope="module")
def rig():
    rig = load_rig("lab")
    return rig.model_copy(
        update={"cameras": tuple(camera.model_copy(update={"width": 320, "height": 240}) for camera in rig.cameras)}
    )


def test_the_tight_off_screen_buffer_changes_no_pixel(rig):
    """The policy was trained on images from the scene's own, larger buffer."""
    world = World(rig)
    world.reset(TASK, 3)
    assert world.model.vis.global_.offwidth > 320
    renderer = Renderer(world.model, 320, 240)
    expected = [renderer.render(world.data, camera.name)[0] for camera in rig.cameras]
    renderer.close()
    with Studio(rig) as studio:
        studio.build(TASK, 3)
        studio.pose(world.data.qpos)
        for camera, colour in zip(rig.cameras, expected):
            np.testing.assert_array_equal(studio.draw(camera)[0], colour)


@pytest.fixture(scope="module")
def world(rig):
    world = World(rig)
    world.reset(TASK, 3)
    return world


@pytest.fixture(scope="module")
def studio(rig, world):
    with Studio(rig) as studio:
        studio.build(TASK, 3)
        studio.pose(world.data.qpos)
        yield studio


def project(studio, camera, point):
    """Pixel (column, row) and distance along the optical axis of a point in the base frame, metres."""
    lens = studio.format(camera).intrinsics
    pose = studio.data.camera(camera.name)
    x, y, z = pose.xmat.reshape(3, 3).T @ (np.asarray(point) - pose.xpos)
    return round(lens.cx + lens.fx * x / -z), round(lens.cy - lens.fy * y / -z), -z


def test_colour_and_depth_of_the_button_are_where_the_physics_has_it(rig, studio, world):
    camera = rig.camera("front")
    colour, depth = studio.draw(camera)
    top = world.data.geom("red_button").xpos + [0, 0, world.model.geom("red_button").size[1]]
    column, row, distance_m = project(studio, camera, top)
    red, green, blue = colour[row, column].astype(int)
    assert red > 150 and green < 80 and blue < 80
    assert depth[row, column] * DEPTH_UNIT_M == pytest.approx(distance_m, abs=0.002)


def test_the_images_follow_the_pose_and_nothing_else(rig, studio, world):
    camera = rig.camera("wrist")
    before = studio.draw(camera)
    again = studio.draw(camera)
    np.testing.assert_array_equal(before[0], again[0])
    np.testing.assert_array_equal(before[1], again[1])
    moved = world.data.qpos.copy()
    moved[world.arm_qpos.start] += 0.2
    studio.pose(moved)
    assert (studio.draw(camera)[0] != before[0]).any()
    studio.pose(world.data.qpos)
    np.testing.assert_array_equal(studio.draw(camera)[0], before[0])


def test_a_camera_that_the_scene_lacks_is_named_with_those_it_has(rig, studio):
    stranger = rig.cameras[0].model_copy(update={"name": "side", "serial": "lab:side"})
    with pytest.raises(UserError, match="no camera 'side'.*front, wrist"):
        studio.format(stranger)


def test_a_rig_without_lab_cameras_or_with_two_image_sizes_is_refused(rig):
    real = tuple(c.model_copy(update={"serial": f"82921207182{i}"}) for i, c in enumerate(rig.cameras))
    with pytest.raises(UserError, match="no camera of the simulated lab"):
        lab_cameras(rig.model_copy(update={"cameras": real}))
    mixed = (rig.cameras[0], rig.cameras[1].model_copy(update={"width": 640, "height": 480}))
    with pytest.raises(UserError, match="front 320x240, wrist 640x480"):
        lab_cameras(rig.model_copy(update={"cameras": mixed}))


OPEN_STUDIO = """
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
try:
    from robosteer_sim.studio import Studio
    Studio(load_rig("lab"))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "environment",
    [
        {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent.json"},
        {"MUJOCO_GL": "disabled"},
        {"PYOPENGL_PLATFORM": "osmesa"},
    ],
)
def test_where_egl_is_missing_one_message_names_the_packages_and_the_variable(environment):
    clean = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", OPEN_STUDIO], capture_output=True, text=True, timeout=60, env={**clean, **environment}
    )
    assert "apt-get install libegl1 libgl1-mesa-dri libgl1" in done.stdout, done.stderr
    assert "MUJOCO_GL" in done.stdout
    assert "Traceback" not in done.stderr


def test_without_a_display_and_a_choice_the_lab_draws_with_egl():
    clean = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    script = OPEN_STUDIO + "import os; print(os.environ['MUJOCO_GL'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=clean)
    assert done.stdout == "egl\n", done.stderr
