"""The lab camera's lens as the SDK's alignment sees it."""

import os

import numpy as np
import pytest

from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame import Intrinsics
from robosteer_core.runtime.frame_buffer import BufferFormat, FrameWriter, segment_name
from robosteer_ros.hardware.realsense import RealSense


@pytest.mark.parametrize("width, height, fovy_deg", [(640, 480, 42), (640, 480, 58), (1280, 720, 30), (224, 224, 90)])
def test_alignment_leaves_every_depth_on_the_pixel_where_it_was_drawn(width, height, fovy_deg):
    """rs.align with two identical lenses rounds at random: 7 % of the pixels moved, 4 % were lost."""
    rig = load_rig("lab")
    camera = rig.cameras[0].model_copy(update={"width": width, "height": height})
    rig = rig.model_copy(update={"name": f"lens{os.getpid()}", "cameras": (camera,)})
    focal = height / 2 / np.tan(np.deg2rad(fovy_deg) / 2)
    lens = Intrinsics(width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5)
    depth = np.random.default_rng(0).integers(50, 65535, (height, width), dtype=np.uint16)
    with FrameWriter(segment_name(rig, camera), BufferFormat(lens, 0.001, 30)) as writer:
        with RealSense(camera, rig) as driver:
            writer.write(0, 1, np.zeros((height, width, 3), np.uint8), depth)
            np.testing.assert_array_equal(driver.read(0).depth, depth)
