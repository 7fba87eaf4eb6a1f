"""What a camera frame costs from the physics to the policy: drawing, shared memory, SDK, alignment.

Run on its own: `python tests/benchmarks/camera_path.py [pairs] [variation]`. Every figure is for one pair of the lab rig's cameras
(front and wrist, RGB-D), median over the pairs; processor time counts all threads of this process, wall time depends on
what else the machine does.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack

import numpy as np
from rich.console import Console
from rich.table import Table

from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame_buffer import FrameWriter, segment_name
from robosteer_ros.hardware.realsense import RealSense
from robosteer_sim.studio import Studio

TASK = "press the red button"


class Stopwatch:
    """Wall and processor milliseconds of named stages, one entry per pair."""

    def __init__(self) -> None:
        self.stages: dict[str, list[tuple[float, float]]] = {}

    def lap(self, stage: str, start: tuple[float, float]) -> tuple[float, float]:
        now = self.now()
        self.stages.setdefault(stage, []).append((now[0] - start[0], now[1] - start[1]))
        return self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        return time.perf_counter() * 1e3, time.process_time() * 1e3


def main(pairs: int, variation: str) -> None:
    rig = load_rig("lab")
    rig = rig.model_copy(update={"name": f"benchmark{os.getpid()}"})
    watch = Stopwatch()
    with ExitStack() as stack:
        studio = stack.enter_context(Studio(rig))
        studio.build(TASK, 0, variation)
        writers = [stack.enter_context(FrameWriter(segment_name(rig, c), studio.format(c))) for c in rig.cameras]
        drivers = [stack.enter_context(RealSense(c, rig)) for c in rig.cameras]
        qpos = studio.data.qpos.copy()
        for k in range(1, pairs + 1):
            stamp_ns = -(-k * 1000 // 30) * 1_000_000
            start = whole = watch.now()
            studio.pose(qpos)
            drawn = [studio.draw(camera, k) for camera in rig.cameras]
            start = watch.lap("draw colour and depth", start)
            for writer, (colour, depth) in zip(writers, drawn):
                writer.write(stamp_ns, k, colour, depth)
            start = watch.lap("write to shared memory", start)
            for driver in drivers:
                driver.read(stamp_ns)
            watch.lap("through the SDK, align, copy", start)
            watch.lap("whole", whole)
    table = Table("stage", "wall ms", "wall ms p95", "cpu ms", title=f"{pairs} pairs, variation {variation}, load {os.getloadavg()[0]:.1f}")
    for stage, laps in watch.stages.items():
        wall, cpu = np.array(laps[5:]).T
        table.add_row(stage, f"{np.median(wall):.2f}", f"{np.percentile(wall, 95):.2f}", f"{np.mean(cpu):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, sys.argv[2] if len(sys.argv) > 2 else "none")
