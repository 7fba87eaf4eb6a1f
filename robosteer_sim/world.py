"""One lab at one instant: the physics of a task's scene, the gripper's mechanics, and what counts as success."""

from __future__ import annotations

from collections.abc import Sequence

import robosteer_sim  # noqa: F401  (chooses the OpenGL backend before mujoco is imported)
import mujoco
import numpy as np

from robosteer_core.rig import Rig
from robosteer_core.runtime.pose import Pose
from robosteer_sim.hand_contacts import HandContacts
from robosteer_sim.judge import Judge
from robosteer_sim.robot import FINGER_JOINTS, JOINTS, MAX_TORQUES_NM, TCP_SITE
from robosteer_sim.scene import build
from robosteer_sim.tasks import parse, sample_scene

#: Stiffness and damping with which the closed-loop gripper tracks its width, per finger.
_FINGER_STIFFNESS_N_PER_M = 1500.0
_FINGER_DAMPING_NS_PER_M = 15.0
#: Widest opening of the Franka Hand (datasheet), metres.
MAX_WIDTH_M = 0.08
#: A finger that is faster than any command has lost what it pressed on.
_FINGER_RUNAWAY_M_PER_S = 0.5
#: The start pose keeps the hand above everything on the table, and every joint this far from the ends of its range.
START_LOWEST_M = 0.16
START_MARGIN_RAD = 0.1


class World:
    """The lab's physics at 1 kHz. `step` takes joint torques without gravity, as the robot does over FCI.

    The base frame of the robot is the world frame.
    """

    def __init__(self, rig: Rig) -> None:
        self.arm_model = rig.arm.model
        self._home = np.array(rig.arm.home_joint_positions_rad)
        self.task: str | None = None

    def reset(self, task: str, seed: int, variation: str = "none") -> None:
        """Put up the scene of (task, seed, variation), with the arm at rest near home and the gripper closed.

        Raises UserError for an unknown task or variation. Whatever is raised, the scene before stays up.
        """
        before = dict(vars(self))
        try:
            self._put_up(task, seed, variation)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _put_up(self, task: str, seed: int, variation: str) -> None:
        self.goal = parse(task)
        self.scene = sample_scene(task, seed, variation)
        self.task, self.seed, self.variation = self.goal.instruction, seed, variation
        self.model = build(self.scene, self.arm_model)
        self.data = mujoco.MjData(self.model)
        joints = [self.model.joint(name) for name in JOINTS]
        self.arm_qpos = slice(joints[0].qposadr[0], joints[-1].qposadr[0] + 1)
        self.arm_dof = slice(joints[0].dofadr[0], joints[-1].dofadr[0] + 1)
        self.joint_range = np.array([joint.range for joint in joints]).T
        fingers = [self.model.joint(name) for name in FINGER_JOINTS]
        self._finger_qpos = [joint.qposadr[0] for joint in fingers]
        self._finger_dof = [joint.dofadr[0] for joint in fingers]
        self._tcp = self.model.site(TCP_SITE).id
        self.data.qpos[self.arm_qpos] = self._home + self.scene.joint_offset
        if any(self.scene.start_offset):
            self._displace_start(np.array(self.scene.start_offset))
        self._width_target_m = self._width_command_m = 0.0
        self._gripper_speed_m_per_step, self._gripper_force_n = 0.0001, 40.0
        mujoco.mj_forward(self.model, self.data)
        self._contacts = HandContacts(self.model, self.data)
        self._judge = Judge(self.model, self.data, self._contacts, self.scene, self.goal)

    def _displace_start(self, offset: np.ndarray) -> None:
        """Displace the end effector by translation [m] and rotation vector [rad] (6,), base frame: by damped least squares,
        within the joints' ranges and clear of what stands on the table."""
        goal = Pose.from_matrix(self._posed()).moved(offset)
        goal.position[2] = max(goal.position[2], START_LOWEST_M)
        low, high = self.joint_range + np.array([[START_MARGIN_RAD], [-START_MARGIN_RAD]])
        for _ in range(100):
            error = Pose.from_matrix(self._posed()).delta_to(goal)
            jacobian = self.jacobian()
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
            self.data.qpos[self.arm_qpos] = np.clip(self.joint_positions() + step, low, high)

    def _posed(self) -> np.ndarray:
        """End-effector pose (4x4) at the joint positions that have just been set."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        return self.end_effector_pose()

    @property
    def instruction(self) -> str:
        return self.task

    def step(self, torque: np.ndarray) -> None:
        """Advance by one millisecond under joint torques (7,) in Nm, clipped to the robot's limits."""
        applied = self.data.qfrc_applied
        np.clip(torque, -MAX_TORQUES_NM, MAX_TORQUES_NM, out=applied[self.arm_dof])
        self._drive_gripper(applied)
        mujoco.mj_step(self.model, self.data)
        self._judge.watch()

    def _drive_gripper(self, applied: np.ndarray) -> None:
        step = self._gripper_speed_m_per_step
        if max(abs(self.data.qvel[dof]) for dof in self._finger_dof) > _FINGER_RUNAWAY_M_PER_S:
            # The gear goes on from where it is, at its own speed: the spring alone would shoot the fingers into each other.
            self._width_command_m = self.gripper_width()
        self._width_command_m += min(max(self._width_target_m - self._width_command_m, -step), step)
        for qpos, dof in zip(self._finger_qpos, self._finger_dof):
            force = _FINGER_STIFFNESS_N_PER_M * (self._width_command_m / 2 - self.data.qpos[qpos])
            force -= _FINGER_DAMPING_NS_PER_M * self.data.qvel[dof]
            applied[dof] = min(max(force, -self._gripper_force_n), self._gripper_force_n)

    def joint_positions(self) -> np.ndarray:
        """(7,) rad."""
        return self.data.qpos[self.arm_qpos]

    def joint_velocities(self) -> np.ndarray:
        """(7,) rad/s."""
        return self.data.qvel[self.arm_dof]

    def external_load(self) -> np.ndarray:
        """(13,): what contacts (not the joints' own friction) do to the arm: joint torques (7,) in Nm, then the wrench at
        the end effector (6,), force [N] above torque [Nm], base frame."""
        load = np.zeros(13)
        forces, points = self._contacts.forces()
        if len(forces):
            load[7:10] = forces.sum(0)
            # Written out: numpy's cross product takes several times as long.
            x, y, z = (points - self.data.site_xpos[self._tcp]).T
            fx, fy, fz = forces.T
            load[10:] = (y * fz - z * fy).sum(), (z * fx - x * fz).sum(), (x * fy - y * fx).sum()
            # Hand and fingers move as one with the arm's joints.
            load[:7] = self.jacobian().T @ load[7:]
        return load

    def end_effector_pose(self, data: mujoco.MjData | None = None) -> np.ndarray:
        """4x4 pose of the point between the fingertips (O_T_EE), base frame, metres; of `data` if given."""
        data = data or self.data
        pose = np.eye(4)
        pose[:3, :3] = data.site_xmat[self._tcp].reshape(3, 3)
        pose[:3, 3] = data.site_xpos[self._tcp]
        return pose

    def jacobian(self, data: mujoco.MjData | None = None) -> np.ndarray:
        """(6, 7) Jacobian of the end effector: linear above angular velocity, base frame; of `data` if given."""
        jacobian = np.empty((6, self.model.nv))
        mujoco.mj_jacSite(self.model, data or self.data, jacobian[:3], jacobian[3:], self._tcp)
        return jacobian[:, self.arm_dof]

    def pull(self, force: Sequence[float]) -> None:
        """Somebody pulls at the hand with `force` (3,) N, base frame, until the next call."""
        self.data.xfrc_applied[self.model.body("hand").id, :3] = force

    def gripper_move(self, width_m: float, speed_m_s: float, force_n: float) -> None:
        """Let the fingers move to a width at a speed, pushing with at most `force_n` per finger."""
        self._width_target_m = min(max(width_m, 0.0), MAX_WIDTH_M)
        self._width_command_m = self.gripper_width()
        self._gripper_speed_m_per_step = max(speed_m_s, 0.001) * self.model.opt.timestep
        self._gripper_force_n = force_n

    def gripper_width(self) -> float:
        """Distance between the fingertips, metres."""
        return float(sum(self.data.qpos[qpos] for qpos in self._finger_qpos))

    def gripper_force(self) -> float:
        """Force with which one finger is driven, newtons; negative closes."""
        return float(self.data.qfrc_applied[self._finger_dof[0]])

    def success(self) -> bool:
        """Whether the task has been done since the last reset."""
        return self._judge.success

    def truth(self) -> dict:
        """Ground truth as plain numbers: poses (7: position, quaternion x y z w) and forms of everything, the arm, the verdict.

        `reached`: the hand has touched the target; `dropped`: the target has been lifted and is out of the hand again.
        """
        return {
            "task": self.task,
            "seed": self.seed,
            "variation": self.variation,
            "instruction": self.instruction,
            "target": self.goal.target,
            "success": self.success(),
            "failure": self._judge.failure,
            "reached": self._judge.reached,
            "dropped": self._judge.dropped,
            "end_effector": self.end_effector_pose().tolist(),
            "gripper_width_m": self.gripper_width(),
            "joint_positions": self.joint_positions().tolist(),
            "joint_range": self.joint_range.tolist(),
            "jacobian": self.jacobian().tolist(),
            "objects": self._judge.object_poses(),
            "forms": {item.name: {"scale": list(item.scale), "shape": item.shape} for item in self.scene.items},
        }
