"""The robot's own joint controller: a desired joint motion into torques."""

from __future__ import annotations

import mujoco
import numpy as np

from robosteer_sim.world import World

#: Until a client sets others (`setJointImpedance`), Nm/rad: stiff enough for joint friction to cost less than 0.3 mrad.
STIFFNESS_NM_PER_RAD = np.array([8000.0, 8000.0, 8000.0, 8000.0, 4000.0, 3000.0, 2000.0])
#: The stiffest that the robot accepts (libfranka), Nm/rad.
MAX_STIFFNESS_NM_PER_RAD = 14250.0
#: Friction is compensated fully from this desired velocity on, rad/s.
_FRICTION_VELOCITY = 0.01


class JointController:
    """Impedance around the desired motion, with the torques that the motion itself takes fed forward.

    tau = K (q_d - q) + D (dq_d - dq) + M(q) ddq_d + c(q, dq) + friction(dq_d), D critical for the joint's own inertia.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.stiffness = STIFFNESS_NM_PER_RAD.copy()
        self.reset()

    def reset(self) -> None:
        """Take over a new scene."""
        model, dofs = self._world.model, self._world.arm_dof
        self._inertia = np.empty((model.nv, model.nv))
        self._friction = model.dof_frictionloss[dofs].copy()
        self._viscous = model.dof_damping[dofs, 0].copy() if model.dof_damping.ndim == 2 else model.dof_damping[dofs].copy()

    def torque(self, q: np.ndarray, dq: np.ndarray, ddq: np.ndarray) -> np.ndarray:
        """Joint torques (7,) Nm, without gravity, for the desired motion."""
        world = self._world
        data, dofs = world.data, world.arm_dof
        mujoco.mj_fullM(world.model, data, self._inertia)
        inertia = self._inertia[dofs, dofs]
        damping = 2.0 * np.sqrt(self.stiffness * inertia.diagonal())
        torque = self.stiffness * (q - world.joint_positions()) + damping * (dq - world.joint_velocities())
        torque += data.qfrc_bias[dofs] - data.qfrc_gravcomp[dofs]
        if dq.any():
            torque += inertia @ ddq + self._friction * np.tanh(dq / _FRICTION_VELOCITY) + self._viscous * dq
        return torque
