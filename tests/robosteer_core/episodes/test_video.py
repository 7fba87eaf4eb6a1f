"""What an encoder does when its disk is full."""

import threading
from pathlib import Path

import numpy as np
import pytest

from robosteer_core.episodes.video import VideoRecorder
from robosteer_core.errors import UserError


@pytest.mark.parametrize("frames", [1, 400])
def test_a_full_disk_ends_the_recording_with_an_error_and_nobody_waits(frames):
    """A short video meets it at its very end, when its last block is written, a long one in the middle."""
    images = np.random.default_rng(0).integers(0, 255, (frames, 64, 64, 3), np.uint8)
    recorder, outcome = VideoRecorder(Path("/dev/full"), 64, 64, 15), []

    def record():
        try:
            for image in images:
                recorder.add(image)
            recorder.close()
        except UserError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=record, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and "cannot write /dev/full" in outcome[0]
