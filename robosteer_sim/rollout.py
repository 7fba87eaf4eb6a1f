"""Episodes inside one process, without FCI: for making training data quickly.

The arm is driven as the set-point loop drives it through FCI: commands at the policy's rate, interpolated, tracked by
the Cartesian impedance of the rig.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from robosteer_core.rig import Rig
from robosteer_core.runtime.pose import Pose
from robosteer_sim.world import World

STEPS_PER_SETPOINT = 10


class Rollout:
    """Steps a `World` by actions of the rig's Cartesian delta space, one per policy tick."""

    def __init__(self, world: World, rig: Rig) -> None:
        self._world, self._rig = world, rig
        stiffness = [rig.arm.translational_stiffness_n_per_m] * 3 + [rig.arm.rotational_stiffness_nm_per_rad] * 3
        self._stiffness = np.array(stiffness)
        self._damping = 2 * np.sqrt(self._stiffness)
        self.commanded = self.measured()
        self._open = False
        self._ticks = 0
        self._error = np.zeros(6)

    def measured(self) -> Pose:
        return Pose.from_matrix(self._world.end_effector_pose())

    def state(self) -> np.ndarray:
        """(7,) float32, as `ArmState.vector`."""
        opening = self._world.gripper_width() / self._rig.gripper.max_width_m
        return np.append(self.measured().vector(), opening).astype(np.float32)

    def apply(self, action: np.ndarray) -> None:
        """Execute one action (7,) until the next tick of the policy."""
        limits = self._rig.limits
        start, target = self.commanded, self.commanded.moved(action[:6])
        measured = self._world.end_effector_pose()[:3, 3]
        lead = target.position - measured
        lead *= min(1.0, limits.max_distance_m / max(np.linalg.norm(lead), 1e-9))
        position = np.clip(measured + lead, limits.workspace.low_m, limits.workspace.high_m)
        target = Pose(position, target.quaternion)
        self._drive_gripper(action[6])
        self._ticks += 1
        steps = _tick_ms(self._ticks, self._rig.rates.policy_hz) - _tick_ms(self._ticks - 1, self._rig.rates.policy_hz)
        rotation = target.rotation.as_matrix()
        velocity = (target.position - start.position) / (steps * self._world.model.opt.timestep)
        for step in range(steps):
            if step % STEPS_PER_SETPOINT == 0:
                fraction = min(1.0, (step + STEPS_PER_SETPOINT) / steps)
                position = start.position + fraction * (target.position - start.position)
            self._world.step(self._torque(position, rotation, velocity))
        self.commanded = target

    def _torque(self, position: np.ndarray, rotation: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        pose = self._world.end_effector_pose()
        jacobian = self._world.jacobian()
        error = self._error
        error[:3] = position - pose[:3, 3]
        # The vector part of R_target R^T: the rotation vector for small angles.
        relative = rotation @ pose[:3, :3].T
        error[3] = 0.5 * (relative[2, 1] - relative[1, 2])
        error[4] = 0.5 * (relative[0, 2] - relative[2, 0])
        error[5] = 0.5 * (relative[1, 0] - relative[0, 1])
        # Damped is what differs from the commanded velocity, as in the arm's controller: motion does not lag behind.
        twist = jacobian @ self._world.joint_velocities()
        twist[:3] -= velocity
        return jacobian.T @ (self._stiffness * error - self._damping * twist)

    def _drive_gripper(self, opening: float) -> None:
        wanted = opening > 0.5
        if wanted != self._open:
            gripper = self._rig.gripper
            self._world.gripper_move(gripper.max_width_m if wanted else 0.0, gripper.speed_m_per_s, gripper.force_n)
            self._open = wanted


def _tick_ms(tick: int, hz: float) -> int:
    return int(np.ceil(tick * 1000 / hz))


def episode(
    world: World, rig: Rig, task: str, seed: int, act: Callable[[Rollout, int], np.ndarray], max_ticks: int
) -> Iterator[tuple[Rollout, int]]:
    """Reset and run one episode; yields (rollout, tick) before each action; ends at success, failure or `max_ticks`."""
    world.reset(task, seed)
    rollout = Rollout(world, rig)
    for tick in range(max_ticks):
        yield rollout, tick
        if world.success():
            return
        rollout.apply(act(rollout, tick))
