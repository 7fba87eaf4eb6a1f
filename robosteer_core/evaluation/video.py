"""Videos of trials, small enough to stand in a report."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 320, 240


class TrialVideo:
    """Collects one row of camera images per tick; `save` writes them as H.264 at the policy's rate."""

    def __init__(self, hz: float) -> None:
        self._hz = hz
        self._rows: list[np.ndarray] = []

    def add(self, images: Sequence[np.ndarray]) -> None:
        """Images (H, W, 3) uint8 RGB, shown side by side."""
        small = [Image.fromarray(image).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR) for image in images]
        self._rows.append(np.hstack([np.asarray(image) for image in small]))

    def save(self, path: Path) -> None:
        """Write the rows that were collected; without any there is nothing to write."""
        import av

        if not self._rows:
            return

        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.mp4")
        with av.open(str(part), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(self._hz).limit_denominator(1000), options={"crf": "24"})
            stream.height, stream.width = self._rows[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            for row in self._rows:
                for packet in stream.encode(av.VideoFrame.from_ndarray(row, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        part.replace(path)
