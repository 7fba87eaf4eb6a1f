"""What hand and fingers touch, and with which forces. No other part of the arm touches anything; see robot.py."""

from __future__ import annotations

import mujoco
import numpy as np

from robosteer_sim.robot import HAND_BODIES

_EDGES, _NONE = np.arange(4), np.empty((0, 3))


class HandContacts:
    """Contacts of hand and fingers with something else at the present step of `data`."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._data = data
        self._hand = {model.body(name).id for name in HAND_BODIES}
        self._body_of_geom = model.geom_bodyid.tolist()
        self._of_hand = np.isin(model.geom_bodyid, list(self._hand))

    def bodies(self) -> set[int]:
        """Ids of the bodies that they touch."""
        found, body_of = set(), self._body_of_geom
        if not self._data.ncon:
            return found
        for first, second in self._data.contact.geom.tolist():
            first, second = body_of[first], body_of[second]
            if first in self._hand:
                found.add(second)
            elif second in self._hand:
                found.add(first)
        return found

    def forces(self) -> tuple[np.ndarray, np.ndarray]:
        """The forces on hand and fingers (k, 3) in N and their points (k, 3) in m, base frame.

        As mj_contactForce finds them, for all contacts at once: in a grasp there are two dozen.
        """
        if not self._data.ncon:
            return _NONE, _NONE
        contact = self._data.contact
        on_hand = self._of_hand[contact.geom]
        address = contact.efc_address
        chosen = np.flatnonzero((on_hand[:, 0] != on_hand[:, 1]) & (address >= 0))
        if not len(chosen):
            return _NONE, _NONE
        # A pyramid of four edges per contact (condim 3): their sum is the normal force, their differences the friction.
        edges = self._data.efc_force[address[chosen, None] + _EDGES]
        friction = contact.friction[chosen]
        local = np.empty((len(chosen), 3))
        local[:, 0] = edges.sum(1)
        local[:, 1] = friction[:, 0] * (edges[:, 0] - edges[:, 1])
        local[:, 2] = friction[:, 1] * (edges[:, 2] - edges[:, 3])
        forces = np.einsum("kij,ki->kj", contact.frame[chosen].reshape(-1, 3, 3), local)
        # The force is that of the first geom on the second.
        forces[on_hand[chosen, 0]] *= -1
        return forces, contact.pos[chosen]
