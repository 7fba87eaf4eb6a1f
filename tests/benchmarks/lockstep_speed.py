"""Robot seconds per wall second through franky in lockstep, without rendering, beside the bare physics in one run.

    python tests/benchmarks/lockstep_speed.py
"""

import subprocess
import sys
import time

import numpy as np
from franky import Affine, CartesianImpedanceTracker, RealtimeConfig, Robot

from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_link import LabLink
from robosteer_sim.world import World

HOST, CONTROL, WALL_S = "127.0.0.99", "127.0.0.99:1340", 10.0


def bare_physics() -> float:
    """Robot seconds per wall second of the same scene stepped in a plain loop."""
    world = World(load_rig("lab"))
    world.reset("press the red button", 0)
    began, torque = time.perf_counter(), np.zeros(7)
    for _ in range(5000):
        world.step(torque)
    return 5.0 / (time.perf_counter() - began)


def main() -> None:
    command = [sys.executable, "-m", "robosteer_core.cli", "sim", "serve", "--host", HOST, "--control", CONTROL]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        robot = Robot(HOST, realtime_config=RealtimeConfig.Ignore)
        tracker = CartesianImpedanceTracker(robot, translational_stiffness=1000.0, rotational_stiffness=50.0)
        start = robot.current_pose.end_effector_pose
        with LabLink(CONTROL, "benchmark") as link:
            before, began = link.status(), time.perf_counter()
            while (elapsed := time.perf_counter() - began) < WALL_S:
                circle = 0.03 * np.array([np.sin(2 * elapsed), np.cos(2 * elapsed) - 1, 0])
                tracker.set_target(Affine(start.translation + circle, start.quaternion))
                time.sleep(0.005)
            after = link.status()
        tracker.stop()
        robot_s = (after["now_ns"] - before["now_ns"]) / 1e9
        lockstep, bare = robot_s / elapsed, bare_physics()
        print(f"lockstep through franky {lockstep:.2f} robot s per wall s, lost cycles {after['lost_cycles']}; "
              f"bare physics {bare:.2f}; ratio {lockstep / bare:.2f}")  # fmt: skip
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
