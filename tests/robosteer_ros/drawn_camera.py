"""A camera of the lab without the lab: frames with random pixels in its shared memory, for the SDK behind the driver."""

import numpy as np

from robosteer_core.runtime.frame import Intrinsics
from robosteer_core.runtime.frame_buffer import BufferFormat, FrameWriter, segment_name

WIDTH, HEIGHT, MS = 160, 120, 1_000_000
FORMAT = BufferFormat(Intrinsics(WIDTH, HEIGHT, 150.0, 150.0, 79.5, 59.5), 0.001, 30)


def tick(k):
    """Stamp of frame k of a 30 Hz camera: whole milliseconds."""
    return -(-k * 1000 // 30) * MS


class Lab:
    """Writes frames with random pixels into the shared memory of a lab camera."""

    def __init__(self, rig, camera):
        self.rig, self.camera = rig, camera
        self.writer = FrameWriter(segment_name(rig, camera), FORMAT)
        self.rng = np.random.default_rng(0)
        self.sent = {}

    def draw(self, k, number=None):
        colour = self.rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        depth = self.rng.integers(200, 3000, (HEIGHT, WIDTH), dtype=np.uint16)
        self.sent[k] = colour, depth
        self.writer.write(tick(k), k if number is None else number, colour, depth)
