"""How well hand-eye calibration does in the lab: rendered boards, known truth, draws of poses and noise.

    python tests/benchmarks/hand_eye_accuracy.py [--draws 200] [--size 1280x720]

Images of a wrist camera and of a front camera are drawn once and their corners found once; a draw picks 20 of the views,
disturbs the robot's poses and the intrinsics, and calibrates. Printed are the medians of the errors, how often the result is
better than the best of OpenCV's solvers in hindsight, and how often the stated ellipsoid holds the truth.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import robosteer_sim  # noqa: F401
import mujoco

from calibration.acceptance import ellipsoid_scale
from calibration.board import Board
from calibration.detection import BoardDetector, BoardNotFound
from calibration.hand_eye import mahalanobis
from calibration.image_hand_eye import calibrate_detections
from calibration.kinematics import forward
from calibration.pose_set import candidates, lens_of
from calibration.rigid import distance, moved, pose
from robosteer_core.rig import load_rig
from robosteer_sim.render import Renderer, intrinsics

sys.path.insert(0, str(Path(__file__).parents[1] / "calibration"))
from lab_board import lab  # noqa: E402


def views(board, mount, rig, size, count, noise, seed=0):
    """Detections and true robot poses of `count` rendered views."""
    model, name, truth = lab(board, mount, rig)
    lens, data, detector = intrinsics(model, name, *size), mujoco.MjData(model), BoardDetector(board)
    home = forward(np.array(rig.arm.home_joint_positions_rad))[0]
    near = truth.target_in_camera(home[None])[0]
    offered = candidates(rig, board, lens, truth, count, seed, near)
    renderer, generator, found, robots = Renderer(model, *size), np.random.default_rng(seed), [], []
    for index, candidate in enumerate(offered):
        data.qpos[:7] = candidate.joints
        mujoco.mj_forward(model, data)
        image = renderer.render(data, name, depth=False)[0]
        grey = image @ np.array([0.299, 0.587, 0.114]) + generator.normal(0, noise, image.shape[:2])
        try:
            found.append(detector.detect(np.clip(grey, 0, 255).astype(np.uint8)))
        except BoardNotFound:
            continue
        robots.append(pose(data.site("tcp").xmat.reshape(3, 3), data.site("tcp").xpos.copy()))
    renderer.close()
    return found, np.array(robots), lens_of(lens), truth, len(offered)


def draw(board, seen, robots, lens, truth, generator, poses, robot_mm, robot_deg, lens_part):
    """One calibration: errors, times and the best of the closed forms."""
    picked = generator.choice(len(seen), poses, replace=False)
    chosen = [seen[index] for index in picked]
    noise = np.hstack([generator.normal(0, robot_mm / 1e3, (poses, 3)), np.deg2rad(generator.normal(0, robot_deg, (poses, 3)))])
    measured = moved(robots[picked], noise)
    wrong = lens * (1 + lens_part * generator.choice([-1, 1], 4))
    began = time.process_time()
    found = calibrate_detections(board, chosen, measured, tuple(map(str, picked)), wrong, truth.mount)
    took, adjusted = time.process_time() - began, found.adjusted
    errors = {name: distance(solved.camera, truth.camera) for name, solved in found.solvers.items() if solved is not None}
    inside = mahalanobis(truth.camera, adjusted) < ellipsoid_scale(adjusted.freedom)
    mm, deg = distance(adjusted.hand_eye.camera, truth.camera)
    return {
        "mm": mm, "deg": deg, "inside": bool(inside), "cpu_s": took, "converged": adjusted.converged, "accepted": found.verdict.accepted,
        "outliers": len(found.outliers), "loo_mm": found.quality.loo_mm,
        "best_mm": min(errors[name][0] for name in errors), "best_deg": min(errors[name][1] for name in errors),
        "park_mm": errors["park"][0], "park_deg": errors["park"][1], "sigmas": adjusted.sigmas,
    }  # fmt: skip


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--draws", type=int, default=200)
    options.add_argument("--size", default="1280x720")
    options.add_argument("--poses", type=int, default=20)
    options.add_argument("--views", type=int, default=60)
    options.add_argument("--robot-mm", type=float, default=0.3, help="standard deviation per axis")
    options.add_argument("--robot-deg", type=float, default=0.05, help="likewise")
    options.add_argument(
        "--lens", type=float, default=0.01, help="how far off each of fx, fy, cx, cy is, of its value; signs are drawn"
    )
    options.add_argument("--image-noise", type=float, default=2.5)
    options.add_argument("--mount", choices=("hand", "fixed", "both"), default="both")
    given = options.parse_args()
    size, rig, board = tuple(map(int, given.size.split("x"))), load_rig("lab"), Board()
    for mount in ("hand", "fixed") if given.mount == "both" else (given.mount,):
        seen, robots, lens, truth, offered = views(board, mount, rig, size, given.views, given.image_noise)
        generator = np.random.default_rng(1)
        rows = [
            draw(board, seen, robots, lens, truth, generator, given.poses, given.robot_mm, given.robot_deg, given.lens)
            for _ in range(given.draws)
        ]
        column = {key: np.array([row[key] for row in rows]) for key in rows[0] if key != "sigmas"}
        print(json.dumps({
            "mount": mount, "size": given.size, "draws": given.draws, "views": len(seen), "of": offered,
            "median_mm": round(float(np.median(column["mm"])), 3), "median_deg": round(float(np.median(column["deg"])), 4),
            "p95_mm": round(float(np.quantile(column["mm"], 0.95)), 3), "p95_deg": round(float(np.quantile(column["deg"], 0.95)), 4),
            "park_median_mm": round(float(np.median(column["park_mm"])), 3), "park_median_deg": round(float(np.median(column["park_deg"])), 4),
            "best_solver_median_mm": round(float(np.median(column["best_mm"])), 3),
            "better_mm": float((column["mm"] < column["best_mm"]).mean()), "better_deg": float((column["deg"] < column["best_deg"]).mean()),
            "inside_95": float(column["inside"].mean()), "converged": float(column["converged"].mean()),
            "accepted": float(column["accepted"].mean()), "outliers": float(column["outliers"].mean()),
            "loo_mm_median": round(float(np.median(column["loo_mm"])), 3), "cpu_s_median": round(float(np.median(column["cpu_s"])), 3),
            "sigmas": {key: float(f"{np.median([row['sigmas'][key] for row in rows]):.3g}") for key in rows[0]["sigmas"]},
        }, indent=1), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
