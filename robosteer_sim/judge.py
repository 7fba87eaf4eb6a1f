"""Decides from the physics whether a task has been done."""

from __future__ import annotations

import mujoco
import numpy as np

from robosteer_sim.robot import FINGER_JOINTS
from robosteer_sim.scene import BUTTON_TRAVEL_M, Scene
from robosteer_sim.tasks import Task

#: How long a condition must hold, in steps of one millisecond.
TOUCH_STEPS = 50
LIFTED_STEPS = 200
PRESSED_TRAVEL_M = 0.9 * BUTTON_TRAVEL_M
#: A touched button must not have gone down by more than this.
TOUCHED_TRAVEL_M = 0.3 * BUTTON_TRAVEL_M
TOUCHED_SHIFT_M = 0.03
PUSHED_M = 0.04
LIFTED_M = 0.05
FINGERS = {joint: body for joint, body in zip(FINGER_JOINTS, ("left_finger", "right_finger"))}


class Judge:
    """Watches every step of one episode. `success` and `failure` are latched.

    touch: a finger rests on the target for 50 ms, a button not pressed, a free object not shoved away.
    press: the target button has travelled 90 % of its way.
    push: the target has moved 4 cm away from the robot on the table.
    pick up: the target is 5 cm above where it stood for 200 ms.
    In each: hand and fingers touch nothing but the target until then, else the failure is "wrong object: <name>".
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, scene: Scene, task: Task) -> None:
        self._model, self._data, self._task, self._scene = model, data, task, scene
        self._bodies = {item.name: model.body(item.name).id for item in scene.items}
        self._object_of_body = {body: name for name, body in self._bodies.items()}
        self._arm_bodies = {model.body(name).id for name in (*FINGERS.values(), "hand")}
        self._start = data.xpos[self._bodies[task.target]].copy()
        self._travel = model.joint(task.target).qposadr[0] if task.kind == "button" else None
        self._body_of_geom = model.geom_bodyid.tolist()
        self._steps = 0
        self.success = False
        self.failure: str | None = None

    def watch(self) -> None:
        """Look at the step that has just been made."""
        if self.success or self.failure:
            return
        touching = self._touched() if self._data.ncon else set()
        wrong = touching - {self._task.target}
        if wrong:
            self.failure = f"wrong object: {min(wrong)}"
            return
        holds = getattr(self, "_" + self._task.verb.replace(" ", "_"))(bool(touching))
        self._steps = self._steps + 1 if holds else 0
        self.success = self._steps >= {"touch": TOUCH_STEPS, "pick up": LIFTED_STEPS}.get(self._task.verb, 1)

    def _touch(self, touching: bool) -> bool:
        if self._travel is not None and self._data.qpos[self._travel] > TOUCHED_TRAVEL_M:
            self.failure = "pressed instead of touched"
        if np.linalg.norm(self._moved()[:2]) > TOUCHED_SHIFT_M:
            self.failure = "shoved instead of touched"
        return touching and self.failure is None

    def _press(self, touching: bool) -> bool:
        return self._data.qpos[self._travel] >= PRESSED_TRAVEL_M

    def _push(self, touching: bool) -> bool:
        moved = self._moved()
        return moved[0] >= PUSHED_M and abs(moved[2]) < 0.01

    def _pick_up(self, touching: bool) -> bool:
        return touching and self._moved()[2] >= LIFTED_M

    def _moved(self) -> np.ndarray:
        return self._data.xpos[self._bodies[self._task.target]] - self._start

    def _touched(self) -> set[str]:
        """Names of the objects that hand or fingers are in contact with."""
        names = set()
        body_of = self._body_of_geom
        for first, second in self._data.contact.geom.tolist():
            first, second = body_of[first], body_of[second]
            if first in self._arm_bodies:
                name = self._object_of_body.get(second)
            elif second in self._arm_bodies:
                name = self._object_of_body.get(first)
            else:
                continue
            if name is not None:
                names.add(name)
        return names

    def contacts_on_arm(self):
        """Each contact of hand or fingers with something else: (arm's body, force on it (3,) N, point (3,) m)."""
        wrench = np.zeros(6)
        body_of = self._body_of_geom
        for index in range(self._data.ncon):
            contact = self._data.contact[index]
            first, second = body_of[contact.geom1], body_of[contact.geom2]
            if (first in self._arm_bodies) == (second in self._arm_bodies):
                continue
            mujoco.mj_contactForce(self._model, self._data, index, wrench)
            force = contact.frame.reshape(3, 3).T @ wrench[:3]
            # The force is that of the first geom on the second.
            yield (first, -force, contact.pos) if first in self._arm_bodies else (second, force, contact.pos)

    def object_poses(self) -> dict[str, list[float]]:
        """Position [m] and quaternion x, y, z, w of every object."""
        return {
            name: [*map(float, self._data.xpos[body]), *map(float, np.roll(self._data.xquat[body], -1))]
            for name, body in self._bodies.items()
        }
