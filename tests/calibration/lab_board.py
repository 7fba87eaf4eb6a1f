"""The lab with a board in it: on the table for the wrist camera, on the hand for the front one."""

import numpy as np
import robosteer_sim  # noqa: F401
import mujoco
from scipy.spatial.transform import Rotation

from calibration.board import Board
from calibration.kinematics import forward
from calibration.pose_set import candidates
from calibration.recording import Lens, RecordedCamera, RecordingWriter
from calibration.rigid import inverse, moved, pose
from calibration.solvers import HandEye
from robosteer_core.rig import load_rig
from robosteer_sim.board import PictureBoard
from robosteer_sim.render import Renderer, intrinsics
from robosteer_sim.scene import Scene, build

MARGIN_M = 0.01


def camera_in_body(model, data, name, body):
    """4x4 pose of a camera's optical frame in the frame of a site or of the world."""
    camera = pose(data.cam(name).xmat.reshape(3, 3) @ np.diag([1.0, -1.0, -1.0]), data.cam(name).xpos.copy())
    if body == "world":
        return camera
    return inverse(pose(data.site(body).xmat.reshape(3, 3), data.site(body).xpos.copy())) @ camera


def lab(board, mount, rig):
    """The model with the board in it, the camera's name, and the true mounting."""
    bare = build(Scene(()), rig.arm.model)
    data = mujoco.MjData(bare)
    data.qpos[:7] = rig.arm.home_joint_positions_rad
    mujoco.mj_forward(bare, data)
    hand = pose(data.body("hand").xmat.reshape(3, 3), data.body("hand").xpos.copy())
    tcp = pose(data.site("tcp").xmat.reshape(3, 3), data.site("tcp").xpos.copy())
    if mount == "hand":
        camera, name = camera_in_body(bare, data, "wrist", "tcp"), "wrist"
        turn = Rotation.from_matrix(np.array([[0, -1, 0], [-1, 0, 0], [0, 0, -1]]).T) * Rotation.from_euler("z", 0.2)
        target = pose(turn.as_matrix(), np.array([0.55, 0.02, 0.001]) - turn.as_matrix() @ board.centre)
        placed, body = target, "world"
    else:
        camera, name = camera_in_body(bare, data, "front", "world"), "front"
        # On the hand, facing the camera at home.
        facing = inverse(tcp) @ camera @ pose(Rotation.from_euler("x", 0.15).as_matrix(), np.zeros(3))
        target = pose(facing[:3, :3], np.array([0.06, 0.0, -0.02]) - facing[:3, :3] @ board.centre)
        placed, body = inverse(hand) @ tcp @ target, "hand"
    offset = pose(np.eye(3), np.array([-MARGIN_M, -MARGIN_M, 0]))
    size_m = tuple(side + 2 * MARGIN_M for side in board.size_m)
    picture = PictureBoard(board.picture(4000, MARGIN_M), size_m, placed @ offset, body)
    return build(Scene((), boards=(picture,)), rig.arm.model), name, HandEye(mount, camera, target)


def record(
    folder,
    mount,
    count,
    size=(1280, 720),
    seed=0,
    board=Board(),
    shown=None,
    lens_part=0.0,
    moved_camera=np.eye(4),
    robot_noise=0.0,
):
    """A recording of `count` views in `folder`, and the true mounting. `shown` is the board that is really there; the
    intrinsics written are off by `lens_part`, the camera's place in the scene by `moved_camera`, the robot's poses by `robot_noise` (0.3
    mm and 0.05 degrees each)."""
    rig = load_rig("lab")
    model, name, truth = lab(shown or board, mount, rig)
    lens, data = intrinsics(model, name, *size), mujoco.MjData(model)
    near = truth.target_in_camera(forward(np.array(rig.arm.home_joint_positions_rad))[0][None])[0]
    offered = candidates(rig, board, lens, truth, count, seed, near)
    index, generator = model.camera(name).id, np.random.default_rng(seed)
    optical = pose(np.eye(3), model.cam_pos[index])
    optical[:3, :3] = Rotation.from_quat(model.cam_quat[index], scalar_first=True).as_matrix() @ np.diag([1.0, -1, -1])
    there = optical @ moved_camera
    model.cam_pos[index] = there[:3, 3]
    model.cam_quat[index] = Rotation.from_matrix(there[:3, :3] @ np.diag([1.0, -1, -1])).as_quat(scalar_first=True)
    factor = 1 + lens_part
    written = Lens(
        width=lens.width, height=lens.height, fx=lens.fx * factor, fy=lens.fy * factor, cx=lens.cx * factor, cy=lens.cy / factor
    )
    writer = RecordingWriter(folder, RecordedCamera(name=name, serial=f"lab:{name}", mount=mount), "lab", written, 0.001)
    renderer = Renderer(model, *size)
    for candidate in offered:
        data.qpos[:7] = candidate.joints
        mujoco.mj_forward(model, data)
        colour, depth = renderer.render(data, name)
        robot = pose(data.site("tcp").xmat.reshape(3, 3), data.site("tcp").xpos.copy())
        noise = robot_noise * np.hstack([generator.normal(0, 3e-4, 3), np.deg2rad(generator.normal(0, 0.05, 3))])
        writer.add(colour, np.rint(1000 * depth).astype(np.uint16), moved(robot, noise))
    renderer.close()
    return truth
