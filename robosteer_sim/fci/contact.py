"""What the arm feels of its contacts, and when that is a collision."""

from __future__ import annotations

import numpy as np

from robosteer_sim.fci.wire import RobotError
from robosteer_sim.world import World

#: Weight of the newest cycle in the estimate of external forces: a low-pass filter of 30 Hz.
_FILTER = 0.17
#: External torques and forces below this are none, Nm and N.
_NO_FORCE = 1e-6
#: Desired joint accelerations above this make an acceleration phase, rad/s^2. The robot's own measure is not published.
_ACCELERATING = 0.1
#: Before a client has set others: what libfranka's examples set, in Nm and N, for contact and collision alike.
_ACCELERATION_THRESHOLD, _NOMINAL_THRESHOLD = 20.0, 10.0


class ContactSense:
    """`torques` (7,) Nm and `wrench` (6,) N and Nm that the robot exerts on its surroundings, low-pass filtered.

    The wrench is about the origin of the stiffness frame K, in the base frame (libfranka, robot_state.h). Beyond the lower
    threshold of `setCollisionBehavior` that is a contact; beyond the upper one it is a collision, which stays until `forget`.
    `contact` and `collision` (13,) say 1 or 0 for each joint, then for each Cartesian dimension.
    """

    def __init__(self) -> None:
        # By phase, acceleration first: lower and upper thresholds (13,), joints before Cartesian dimensions.
        self._thresholds = [
            (np.full(13, threshold), np.full(13, threshold)) for threshold in (_ACCELERATION_THRESHOLD, _NOMINAL_THRESHOLD)
        ]
        self.reset()

    def reset(self) -> None:
        """Take over a new scene; the thresholds stay."""
        #: What contacts do to the arm at this instant: joint torques (7,), then the wrench at the end effector (6,).
        self.load = np.zeros(13)
        self._filtered = np.zeros(13)
        self._exerted = np.zeros(13)
        self.contact, self.collision = np.zeros(13), np.zeros(13)
        self.touched = False

    @property
    def torques(self) -> np.ndarray:
        return self._exerted[:7]

    @property
    def wrench(self) -> np.ndarray:
        return self._exerted[7:]

    def set_thresholds(self, values: np.ndarray) -> bool:
        """Take those of a SetCollisionBehavior request (52,); whether they are ones."""
        if not (np.isfinite(values).all() and (values >= 0.0).all()):
            return False
        torques, forces = values[:28].reshape(4, 7), values[28:].reshape(4, 6)
        rows = np.hstack([torques, forces])
        if (rows[0] > rows[1]).any() or (rows[2] > rows[3]).any():
            return False
        self._thresholds = [(rows[0], rows[1]), (rows[2], rows[3])]
        return True

    def feel(self, world: World, lever: np.ndarray) -> None:
        """Take in the step that was made. `lever` (3,) leads from the point between the fingertips to the origin of K."""
        self.load = world.external_load()
        self._filtered += _FILTER * (self.load - self._filtered)
        self.touched = bool((np.abs(self._filtered) > _NO_FORCE).any())
        if not self.touched:
            self._exerted = np.zeros(13)
            self.contact = np.zeros(13)
            return
        # Forces that the robot exerts on the world count positive (libfranka, robot_state.h).
        self._exerted = -self._filtered
        self._exerted[10:] -= np.cross(lever, self._exerted[7:10])

    def judge(self, desired_acceleration: np.ndarray) -> RobotError | None:
        """Compare with the thresholds of the phase that `desired_acceleration` (7,) rad/s^2 makes; a collision, or None."""
        if not self.touched:
            return None
        accelerating = (np.abs(desired_acceleration) > _ACCELERATING).any()
        lower, upper = self._thresholds[0 if accelerating else 1]
        size = np.abs(self._exerted)
        self.contact = (size > lower).astype(float)
        colliding = size > upper
        if not colliding.any():
            return None
        self.collision[colliding] = 1.0
        return RobotError.CARTESIAN_REFLEX if colliding[7:].any() else RobotError.JOINT_REFLEX

    def forget(self) -> None:
        """The collision is recovered from."""
        self.collision = np.zeros(13)
