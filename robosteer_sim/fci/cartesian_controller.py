"""Torques from a spring at the end effector: the robot's own Cartesian impedance controller, and what guiding keeps locked."""

from __future__ import annotations

import mujoco
import numpy as np

from robosteer_sim.fci.kinematics import twist_between
from robosteer_sim.world import World

#: Until a client sets others (`setCartesianImpedance`), N/m and Nm/rad: what libfranka's examples set.
STIFFNESS = np.array([3000.0, 3000.0, 3000.0, 300.0, 300.0, 300.0])
#: What the robot accepts (libfranka, robot.h).
LEAST_STIFFNESS, MOST_STIFFNESS = np.repeat([10.0, 1.0], 3), np.repeat([3000.0, 300.0], 3)
#: Of the joints' motion that leaves the end effector where it is, Nm/rad; critically damped, too.
_ELBOW_STIFFNESS = 50.0
#: Friction is compensated fully from this velocity on, rad/s.
_FRICTION_VELOCITY = 0.01
#: Share of the joints' friction that guiding takes from the hand that guides: less than all, so that the arm comes to rest.
_GUIDED_FRICTION = 0.8
_GUIDED_DAMPING = np.array([1.0, 1.0, 1.0, 1.0, 0.3, 0.3, 0.3])


class CartesianController:
    """tau = J^T (K e + D de) + N^T (k (q_d - q) + d (dq_d - dq)) + c(q, dq) + friction(dq_d), critically damped.

    e is taken at the origin of the stiffness frame, in its axes (libfranka, robot.h).
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.stiffness = STIFFNESS.copy()

    def torque(
        self, pose: np.ndarray, twist: np.ndarray, q: np.ndarray, dq: np.ndarray, frame: np.ndarray, offset: np.ndarray
    ) -> np.ndarray:
        """Joint torques (7,) Nm, without gravity, towards `pose` (4x4) and `twist` (6,) of the end effector.

        `q`, `dq` are the joints' motion that goes with it, `frame` (4x4) is where the end effector is, `offset` (4x4) the
        stiffness frame in it.
        """
        friction = self._world.model.dof_frictionloss[self._world.arm_dof] * np.tanh(dq / _FRICTION_VELOCITY)
        frame = frame @ offset
        spring = self._spring(pose @ offset, twist, frame, frame[:3, :3], self.stiffness)
        return spring + self._elbow(q, dq) + self._bias() + friction

    def guided(self, pose: np.ndarray, q: np.ndarray, frame: np.ndarray, free: np.ndarray, elbow: bool) -> np.ndarray:
        """Joint torques (7,) of an arm that is led by hand; axes of the base that are not `free` (6,) keep to `pose`, and
        without `elbow` the joints to `q` as far as the end effector allows."""
        world = self._world
        dofs, dq = world.arm_dof, world.joint_velocities()
        friction = _GUIDED_FRICTION * world.model.dof_frictionloss[dofs] * np.tanh(dq / _FRICTION_VELOCITY)
        torque = self._bias() + friction - _GUIDED_DAMPING * dq
        if not free.all():
            torque += self._spring(pose, np.zeros(6), frame, np.eye(3), np.where(free, 0.0, STIFFNESS))
        if not elbow:
            torque += self._elbow(q, np.zeros(7))
        return torque

    def _bias(self) -> np.ndarray:
        data, dofs = self._world.data, self._world.arm_dof
        return data.qfrc_bias[dofs] - data.qfrc_gravcomp[dofs]

    def _inertia(self) -> np.ndarray:
        world = self._world
        full = np.empty((world.model.nv, world.model.nv))
        mujoco.mj_fullM(world.model, world.data, full)
        return full[world.arm_dof, world.arm_dof]

    def _spring(
        self, pose: np.ndarray, twist: np.ndarray, frame: np.ndarray, axes: np.ndarray, stiffness: np.ndarray
    ) -> np.ndarray:
        jacobian = self._world.jacobian()
        # The world's Jacobian is that of the point between the fingertips.
        lever = frame[:3, 3] - self._world.end_effector_pose()[:3, 3]
        jacobian[:3] += np.cross(jacobian[3:], lever, axis=0)
        error = twist_between(frame, pose, 1.0)
        turn = np.kron(np.eye(2), axes.T)
        jacobian, error, twist = turn @ jacobian, turn @ error, turn @ twist
        mobility = jacobian @ np.linalg.solve(self._inertia(), jacobian.T)
        damping = 2.0 * np.sqrt(stiffness / mobility.diagonal())
        return jacobian.T @ (stiffness * error + damping * (twist - jacobian @ self._world.joint_velocities()))

    def _elbow(self, q: np.ndarray, dq: np.ndarray) -> np.ndarray:
        world = self._world
        jacobian, inertia = world.jacobian(), self._inertia()
        bent = np.linalg.solve(inertia, jacobian.T)
        # Dynamically consistent: these torques accelerate the joints, but not the end effector (Khatib 1987).
        onto = np.eye(7) - jacobian.T @ np.linalg.solve(jacobian @ bent, bent.T)
        damping = 2.0 * np.sqrt(_ELBOW_STIFFNESS * inertia.diagonal())
        return onto @ (_ELBOW_STIFFNESS * (q - world.joint_positions()) + damping * (dq - world.joint_velocities()))
