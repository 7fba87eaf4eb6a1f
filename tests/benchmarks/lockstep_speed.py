"""Robot seconds per wall second through franky in lockstep with limits enforced, without rendering; the bare physics of the
same scenes beside it, in one run. The scenes: the demo's, and for every task of the lab its fullest of 20 with everything varied.

    python tests/benchmarks/lockstep_speed.py [seconds of wall time per scene, default 5]
"""

import subprocess
import sys
import time

import numpy as np
from franky import Affine, CartesianImpedanceTracker, RealtimeConfig, Robot

from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_link import LabLink
from robosteer_sim.scene import build
from robosteer_sim.tasks import TASKS, sample_scene
from robosteer_sim.world import World

HOST, CONTROL = "127.0.0.99", "127.0.0.99:1340"
BARE_STEPS = 5000
SEEDS = range(20)


def fullest(task: str) -> int:
    """The seed whose scene has the most geoms."""
    return max(SEEDS, key=lambda seed: build(sample_scene(task, seed, "all")).ngeom)


def bare_physics(task: str, seed: int, variation: str) -> float:
    """Robot seconds per wall second of a scene stepped in a plain loop."""
    world = World(load_rig("lab"))
    world.reset(task, seed, variation)
    began, torque = time.perf_counter(), np.zeros(7)
    for _ in range(BARE_STEPS):
        world.step(torque)
    return BARE_STEPS / 1000 / (time.perf_counter() - began)


def lockstep(robot: Robot, link: LabLink, wall_s: float) -> tuple[float, int]:
    """Robot seconds per wall second of a circle of 3 cm that the impedance tracker follows, and lost cycles."""
    start = robot.current_pose.end_effector_pose
    with CartesianImpedanceTracker(robot, translational_stiffness=1000.0, rotational_stiffness=50.0) as tracker:
        before, began = link.status(), time.perf_counter()
        while (elapsed := time.perf_counter() - began) < wall_s:
            circle = 0.03 * np.array([np.sin(2 * elapsed), np.cos(2 * elapsed) - 1, 0])
            tracker.set_target(Affine(start.translation + circle, start.quaternion))
            time.sleep(0.005)
        after = link.status()
        robot.poll_motion()
    return (after["now_ns"] - before["now_ns"]) / 1e9 / elapsed, after["lost_cycles"] - before["lost_cycles"]


def main() -> None:
    wall_s = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    command = [sys.executable, "-m", "robosteer_core.cli", "sim", "serve", "--host", HOST, "--control", CONTROL]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        robot = Robot(HOST, realtime_config=RealtimeConfig.Ignore)
        scenes = [("press the red button", 0, "none"), *((task, fullest(task), "all") for task in TASKS)]
        with LabLink(CONTROL, "benchmark") as link:
            for task, seed, variation in scenes:
                link.reset(task, seed, variation=variation)
                through, lost = lockstep(robot, link, wall_s)
                bare = bare_physics(task, seed, variation)
                print(f"{task:38s} {variation:5s} through franky {through:5.2f} x real time, lost cycles {lost}; "
                      f"bare physics {bare:6.2f} x", flush=True)  # fmt: skip
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
