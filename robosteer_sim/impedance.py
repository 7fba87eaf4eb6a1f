"""The law by which franky's Cartesian impedance tracker turns set-points into joint torques."""

from __future__ import annotations

import math

import numpy as np

from robosteer_core.rig import Rig
from robosteer_core.runtime.pose import Pose
from robosteer_sim.world import World

#: Largest rotation that the spring sees per axis, rad (franky 2.0, CartesianImpedanceBase::Params).
_ROTATIONAL_CLIP_RAD = 0.25
#: Largest change of a joint torque per millisecond, Nm (franky 2.0, TorqueSafetyParams).
_MAX_TORQUE_STEP_NM = 1.0
#: Weight of the newest command in libfranka's low-pass filter of torques: dt / (dt + 1 / (2 pi f)), f = 100 Hz.
_FILTER = 0.001 / (0.001 + 1 / (2 * np.pi * 100.0))


class CartesianImpedance:
    """tau = J^T (K e + D (v_d - J dq)) + c(q, dq), D = 2 sqrt(K), limited in its rate and filtered.

    Law and constants as in franky 2.0 (src/motion/cartesian_impedance_base.cpp) and libfranka's torque filter
    (src/control_loop.cpp). It runs on the physics' own Jacobian and Coriolis torques, the tracker on those of the robot's
    model library.
    """

    def __init__(self, world: World, rig: Rig) -> None:
        self._world = world
        stiffness = [rig.arm.translational_stiffness_n_per_m] * 3 + [rig.arm.rotational_stiffness_nm_per_rad] * 3
        self._stiffness = np.array(stiffness)
        self._damping = 2 * np.sqrt(self._stiffness)
        # The driver clips the spring where the limits clip the command.
        self._clip = np.array([rig.limits.max_distance_m] * 3 + [_ROTATIONAL_CLIP_RAD] * 3)
        self._error = np.zeros(6)
        self.torque = np.zeros(7)

    def target(self, pose: Pose, twist: np.ndarray) -> None:
        """Follow `pose` with `twist` (6,) [m/s, rad/s], both of the end effector in the base frame, from now on."""
        self._position, self._rotation, self._twist = pose.position, pose.matrix()[:3, :3], twist

    def step(self) -> np.ndarray:
        """Joint torques (7,) Nm, without gravity, for the coming millisecond."""
        world, error = self._world, self._error
        measured, jacobian = world.end_effector_pose(), world.jacobian()
        error[:3] = self._position - measured[:3, 3]
        error[3:] = _rotation_vector(self._rotation @ measured[:3, :3].T)
        np.minimum(np.maximum(error, -self._clip, out=error), self._clip, out=error)
        twist = self._twist - jacobian @ world.joint_velocities()
        data, dofs = world.data, world.arm_dof
        torque = jacobian.T @ (self._stiffness * error + self._damping * twist)
        torque += data.qfrc_bias[dofs] - data.qfrc_gravcomp[dofs]
        change = torque - self.torque
        # Spelled out: np.clip takes four times as long, and this runs a thousand times a second.
        np.minimum(np.maximum(change, -_MAX_TORQUE_STEP_NM, out=change), _MAX_TORQUE_STEP_NM, out=change)
        self.torque = self.torque + _FILTER * change
        return self.torque


def _rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """(3,) rad of a rotation matrix (3, 3) that is not near half a turn."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    sine = 0.5 * np.array([zy - yz, xz - zx, yx - xy])
    size = math.sqrt((zy - yz) ** 2 + (xz - zx) ** 2 + (yx - xy) ** 2) / 2
    return sine if size < 1e-9 else sine * (math.atan2(size, 0.5 * (xx + yy + zz - 1.0)) / size)
