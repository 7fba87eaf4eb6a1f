"""Where the arm's end effector is for given joint positions, whatever the arm itself does at the moment."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from robosteer_sim.robot import JOINTS, TCP_SITE, arm_spec

#: Joint 4 beyond this angle is the elbow's other flip direction (robot interface specification), rad.
_ELBOW_FLIP_RAD = -0.467002423653011


class ArmKinematics:
    """Forward kinematics of the bare `arm` (fr3 or panda) at joint positions set by `move_to`.

    `tool` (4x4) is the end effector in the nominal end effector frame (NE_T_EE), which lies between the fingertips.
    """

    def __init__(self, arm: str = "fr3") -> None:
        self._model = arm_spec(arm).compile()
        self._data = mujoco.MjData(self._model)
        joints = [self._model.joint(name) for name in JOINTS]
        self._qpos = slice(joints[0].qposadr[0], joints[-1].qposadr[0] + 1)
        self._dof = slice(joints[0].dofadr[0], joints[-1].dofadr[0] + 1)
        self._site = self._model.site(TCP_SITE).id
        self._jacobian = np.zeros((6, self._model.nv))
        self.joint_range = np.array([joint.range for joint in joints]).T
        self._tool = np.eye(4)
        self._has_tool = False

    @property
    def tool(self) -> np.ndarray:
        return self._tool

    @tool.setter
    def tool(self, tool: np.ndarray) -> None:
        self._tool = tool
        self._has_tool = not np.array_equal(tool, np.eye(4))

    def move_to(self, q: np.ndarray) -> None:
        """Put the joints at `q` (7,) rad."""
        self._data.qpos[self._qpos] = q
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)

    def pose(self) -> np.ndarray:
        """4x4 pose of the end effector, base frame, metres."""
        nominal = np.zeros((4, 4))
        nominal[:3, :3] = self._data.site_xmat[self._site].reshape(3, 3)
        nominal[:3, 3] = self._data.site_xpos[self._site]
        nominal[3, 3] = 1.0
        return self.with_tool(nominal)

    def with_tool(self, nominal: np.ndarray) -> np.ndarray:
        """4x4 pose of the end effector for that of the nominal end effector."""
        return nominal @ self._tool if self._has_tool else nominal

    def jacobian(self) -> np.ndarray:
        """(6, 7) of the end effector: linear above angular velocity, base frame."""
        mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
        jacobian = self._jacobian[:, self._dof]
        if self._has_tool:
            jacobian = jacobian.copy()
            lever = self._data.site_xmat[self._site].reshape(3, 3) @ self._tool[:3, 3]
            jacobian[:3] += np.cross(jacobian[3:], lever, axis=0)
        return jacobian


def elbow_sign(q4: float) -> float:
    """The elbow's flip direction, 1 or -1, for the position of joint 4 in rad."""
    return 1.0 if q4 > _ELBOW_FLIP_RAD else -1.0


def twist_between(start: np.ndarray, end: np.ndarray, seconds: float) -> np.ndarray:
    """(6,) constant twist [m/s, rad/s], base frame, that takes the pose `start` (4x4) to the nearby `end` in `seconds`."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (end[:3, :3] @ start[:3, :3].T).tolist()
    # The vector part of a rotation is sin(angle) times its axis.
    rx, ry, rz = 0.5 * (zy - yz), 0.5 * (xz - zx), 0.5 * (yx - xy)
    sine = math.sqrt(rx * rx + ry * ry + rz * rz)
    factor = math.atan2(sine, 0.5 * (xx + yy + zz - 1.0)) / sine if sine > 1e-6 else 1.0
    twist = np.empty(6)
    twist[:3] = end[:3, 3] - start[:3, 3]
    twist[3:] = factor * rx, factor * ry, factor * rz
    twist /= seconds
    return twist


def moved_by(pose: np.ndarray, twist: np.ndarray, seconds: float) -> np.ndarray:
    """The pose (4x4) after `seconds` of a constant twist (6,) [m/s, rad/s], base frame."""
    result = pose.copy()
    result[:3, 3] += twist[:3] * seconds
    speed = math.sqrt(twist[3:] @ twist[3:])
    if speed > 0.0:
        quaternion, rotation = np.empty(4), np.empty(9)
        mujoco.mju_axisAngle2Quat(quaternion, twist[3:] / speed, speed * seconds)
        mujoco.mju_quat2Mat(rotation, quaternion)
        result[:3, :3] = rotation.reshape(3, 3) @ pose[:3, :3]
    return result
