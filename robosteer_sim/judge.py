"""Decides from the physics whether a task has been done."""

from __future__ import annotations

import mujoco
import numpy as np

from robosteer_sim.hand_contacts import HandContacts
from robosteer_sim.objects.bowl import BOWL_HEIGHT_M, BOWL_RADIUS_M
from robosteer_sim.objects.button import BUTTON_TRAVEL_M
from robosteer_sim.objects.cube import CUBE_HALF_M
from robosteer_sim.objects.drawer import DRAWER_TRAVEL_M
from robosteer_sim.objects.marker import MARKER_HALF_LENGTH_M
from robosteer_sim.objects.vessel import form_of
from robosteer_sim.scene import Scene
from robosteer_sim.tasks import Task

#: How long the condition of each verb must hold, in steps of one millisecond; one step where it is not named.
HOLD_STEPS = {"touch": 50, "pick up": 200, "press hard": 50, "place in": 200, "stack": 300, "push to": 100}
PRESSED_TRAVEL_M = 0.9 * BUTTON_TRAVEL_M
#: A touched button must not have gone down by more than this.
TOUCHED_TRAVEL_M = 0.3 * BUTTON_TRAVEL_M
TOUCHED_SHIFT_M = 0.03
PUSHED_M = 0.04
LIFTED_M = 0.05
#: With which the hand pushes a button that is pressed hard, newtons: half as much again as the spring at its end.
HARD_N = 25.0
OPENED_TRAVEL_M = 0.7 * DRAWER_TRAVEL_M
#: Between the edges of two objects of which one has been brought to the other.
BESIDE_M = 0.03
#: An object is at rest below these speeds; what has come to lie askew may rock a little.
REST_M_PER_S, REST_RAD_PER_S = 0.03, 0.3
UPRIGHT_COSINE = np.cos(np.deg2rad(15))
#: An object that has been carried this far above its place has been held.
HELD_M = 0.02
#: Another object that has been displaced by this much has been mistaken for the target.
DISPLACED_M = 0.04
_LOOK_STEPS = 20


class Judge:
    """Watches every step of one episode. `success`, `failure` and `reached` are latched.

    touch: a finger rests on the target for 50 ms, a button not pressed, a free object not shoved away.
    press: the target button has travelled 90 % of its way.
    push: the target has moved 4 cm away from the robot on the table.
    pick up: the target is 5 cm above where it stood for 200 ms.
    press hard: as press, and the hand pushes it with 25 N for 50 ms.
    place in: the target is in the goal, a marker with its lower end; released, at rest, for 200 ms.
    push to: the target stands upright with its edge within 3 cm of the goal's for 100 ms.
    stack: the target rests on the goal and on nothing else, released, for 300 ms.
    open: the drawer is open by 70 % of its way.
    In those of the grammar and in press hard: hand and fingers touch nothing but the target until then, else the failure
    is "wrong object: <name>"; in the others, where the hand works among things, nothing but the task's objects is
    displaced by 4 cm.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, contacts: HandContacts, scene: Scene, task: Task) -> None:
        self._model, self._data, self._contacts, self._task, self._scene = model, data, contacts, task, scene
        self._bodies = {item.name: model.body(item.name).id for item in scene.items}
        self._object_of_body = {body: name for name, body in self._bodies.items()}
        self._start = data.xpos[self._bodies[task.target]].copy()
        self._touches_alone = not task.words or task.verb == "press hard"
        self._others = {name: (body, data.xpos[body].copy()) for name, body in self._bodies.items() if name not in task.objects}
        joint = model.joint(task.target)
        self._target_dof = slice(joint.dofadr[0], joint.dofadr[0] + len(joint.damping))
        self._condition = getattr(self, "_" + task.verb.replace(" ", "_"))
        self._needed_steps = HOLD_STEPS.get(task.verb, 1)
        self._travel = model.joint(task.target).qposadr[0] if task.kind == "button" else None
        self._steps = self._watched = 0
        self._held = self._touching = False
        self.success = self.reached = False
        self.failure: str | None = None

    def watch(self) -> None:
        """Look at the step that has just been made."""
        if self.success or self.failure:
            return
        touched = {self._object_of_body[body] for body in self._contacts.bodies() if body in self._object_of_body}
        self._touching = self._task.target in touched
        self.reached = self.reached or self._touching
        self._held = self._held or (self._touching and bool(self._moved()[2] >= HELD_M))
        wrong = touched - {self._task.target} if self._touches_alone else self._displaced()
        if wrong:
            self.failure = f"wrong object: {min(wrong)}"
            return
        holds = self._condition(self._touching)
        self._steps = self._steps + 1 if holds else 0
        self.success = self._steps >= self._needed_steps

    @property
    def dropped(self) -> bool:
        """Whether the target has been lifted and is out of the hand, and the task is not done."""
        return self._held and not self._touching and not self.success

    def _displaced(self) -> set[str]:
        """Names of the objects, other than the task's, that are no longer where they stood; looked at now and then."""
        self._watched += 1
        if self._watched % _LOOK_STEPS:
            return set()
        return {n for n, (body, start) in self._others.items() if np.linalg.norm(self._data.xpos[body] - start) > DISPLACED_M}

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

    def _press_hard(self, touching: bool) -> bool:
        if self._data.qpos[self._travel] < PRESSED_TRAVEL_M:
            return False
        return np.linalg.norm(self._contacts.forces()[0].sum(0)) >= HARD_N

    def _open(self, touching: bool) -> bool:
        return self._data.qpos[self._model.joint(self._task.target).qposadr[0]] >= OPENED_TRAVEL_M

    def _push_to(self, touching: bool) -> bool:
        goal, target = self._data.xpos[self._bodies[self._task.goal]], self._data.xpos[self._bodies[self._task.target]]
        item = self._scene.item(self._task.goal)
        reach = form_of(self._task.kind, *self._form(self._task.target)).rim_m + BOWL_RADIUS_M * item.scale[0] + BESIDE_M
        return np.linalg.norm(goal[:2] - target[:2]) <= reach and abs(self._moved()[2]) < 0.01 and self._upright(self._task.target)

    def _place_in(self, touching: bool) -> bool:
        if touching or not self._at_rest():
            return False
        body, goal = self._bodies[self._task.target], self._bodies[self._task.goal]
        point, rotation = self._data.xpos[body], self._data.xmat[body].reshape(3, 3)
        if self._task.kind == "marker":
            half = MARKER_HALF_LENGTH_M * self._scene.item(self._task.target).scale[0] * rotation[:, 0]
            point = min(point - half, point + half, key=lambda end: end[2])
        x, y, z = self._data.xmat[goal].reshape(3, 3).T @ (point - self._data.xpos[goal])
        if self._task.goal_kind == "mug":
            form = form_of("mug", *self._form(self._task.goal))
            radius, height = form.rim_m - form.wall_m, 0.6 * form.height_m
        else:
            _, scale = self._form(self._task.goal)
            # The middle of what is placed, when it lies in the bowl and not on its rim.
            radius, height = 0.6 * BOWL_RADIUS_M * scale[0], BOWL_HEIGHT_M * scale[2] + 0.012
        return np.hypot(x, y) <= radius and 0.0 <= z <= height and self._upright(self._task.goal)

    def _stack(self, touching: bool) -> bool:
        if touching or not self._at_rest():
            return False
        gap = self._data.xpos[self._bodies[self._task.target]] - self._data.xpos[self._bodies[self._task.goal]]
        upper, lower = (CUBE_HALF_M * self._scene.item(name).scale[2] for name in self._task.objects)
        return abs(gap[2] - upper - lower) < 0.004 and np.abs(gap[:2]).max() < CUBE_HALF_M

    def _form(self, name: str) -> tuple[str, tuple[float, float, float]]:
        item = self._scene.item(name)
        return item.shape, item.scale

    def _at_rest(self) -> bool:
        speed = np.abs(self._data.qvel[self._target_dof])
        return bool(speed[:3].max() < REST_M_PER_S and speed[3:].max() < REST_RAD_PER_S)

    def _upright(self, name: str) -> bool:
        return self._data.xmat[self._bodies[name]][8] >= UPRIGHT_COSINE

    def _moved(self) -> np.ndarray:
        return self._data.xpos[self._bodies[self._task.target]] - self._start

    def object_poses(self) -> dict[str, list[float]]:
        """Position [m] and quaternion x, y, z, w of every object."""
        return {
            name: [*map(float, self._data.xpos[body]), *map(float, np.roll(self._data.xquat[body], -1))]
            for name, body in self._bodies.items()
        }
