"""What may differ from the nominal lab, axis by axis, to see how robust a policy is.

A variation is a text: "none", "all", or names of axes joined by "+", e.g. "lighting+camera". Each axis has random numbers
of its own: what one does depends neither on which others are on nor changes where the task's objects are.
"""

from __future__ import annotations

import colorsys
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from robosteer_core.errors import UserError
from robosteer_sim.board import BOARDS, usual_board
from robosteer_sim.objects.item import COLOURS, Item
from robosteer_sim.placement import RADII_M, Disc, discs_of, lane_discs, place_around
from robosteer_sim.scene import SHAPES, Scene, Textures
from robosteer_sim.textures import TEXTURES

if TYPE_CHECKING:
    from robosteer_sim.tasks import Task

#: Factor on every light, its logarithm drawn evenly, and how far the sun's direction moves per axis (it has length 1.05).
BRIGHTNESS = (0.3, 2.0)
SUN_MOVED = 0.7
#: Factors on an object's usual size.
SCALE = (0.85, 1.15)
DISTRACTORS = (2, 4)
#: What a distractor may be.
DISTRACTOR_KINDS = ("cube", "bowl", "cup", "mug", "marker", "can")
CAMERA_MOVED_M, CAMERA_TURNED_RAD = 0.02, np.deg2rad(3)
START_MOVED_M, START_TURNED_RAD = 0.05, np.deg2rad(10)


def vary(scene: Scene, task: Task, seed: int, axes: tuple[str, ...]) -> Scene:
    """The nominal scene of (task, seed) with these axes varied."""
    for place in [axis for axis in axes if axis in BOARDS]:
        scene = replace(scene, boards=(*scene.boards, usual_board(place)), items=_aside(scene.items))
    for axis in [axis for axis in axes if axis not in BOARDS]:
        random = np.random.default_rng([seed, zlib.crc32(f"{axis}: {task.instruction}".encode())])
        scene = _AXES[axis](scene, task, random)
    return scene


def _aside(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The same things where they hide no board."""
    return tuple(replace(item, position=(0.2 + 0.13 * index, 0.45)) for index, item in enumerate(items))


def _lighting(scene: Scene, task: Task, random: np.random.Generator) -> Scene:
    sun = np.array(scene.light_direction) + [*random.uniform(-SUN_MOVED, SUN_MOVED, 2), 0.0]
    return replace(scene, brightness=float(np.exp(random.uniform(*np.log(BRIGHTNESS)))), light_direction=tuple(map(float, sun)))


def _form(scene: Scene, task: Task, random: np.random.Generator) -> Scene:
    return replace(scene, items=tuple(_reshaped(item, random) for item in scene.items))


def _reshaped(item: Item, random: np.random.Generator) -> Item:
    """Another size, and half of the time the kind's other shape; what is round stays round."""
    x, y, z = (float(value) for value in random.uniform(*SCALE, 3))
    scale = (x, y, z) if item.kind in ("cube", "marker", "drawer") else (x, x, z)
    return replace(item, scale=scale, shape=str(random.choice(SHAPES.get(item.kind, ("",)))))


def _colour(scene: Scene, task: Task, random: np.random.Generator) -> Scene:
    return replace(scene, items=tuple(replace(item, paint=_paint(item.colour, random)) for item in scene.items))


def _paint(colour: str, random: np.random.Generator) -> tuple[float, float, float]:
    """A shade that still goes by its name, or any colour for an object without one."""
    if not colour:
        return colorsys.hsv_to_rgb(random.random(), random.uniform(0.1, 0.9), random.uniform(0.3, 1.0))
    hue, saturation, value = colorsys.rgb_to_hsv(*COLOURS[colour])
    hue += random.uniform(-0.025, 0.025)
    return colorsys.hsv_to_rgb(hue % 1.0, saturation * random.uniform(0.7, 1.08), min(1.0, value * random.uniform(0.65, 1.2)))


def _distractors(scene: Scene, task: Task, random: np.random.Generator) -> Scene:
    """Two to four more objects, apart from everything; none has a name that is in the scene or could be taken for one."""
    count = int(random.integers(DISTRACTORS[0], DISTRACTORS[1] + 1))
    # The order of the draws does not depend on what the other axes have made of the items: places and names alone count.
    taken, added = {item.name for item in scene.items}, []
    kinds = [kind for kind in DISTRACTOR_KINDS if kind not in taken]
    while len(added) < count:
        kind, colour = str(random.choice(kinds)), str(random.choice(list(COLOURS)))
        position = place_around(random, _discs(scene, task, added, kind))
        # A mug is a kind of cup: none in a colour that the task's cup is told by.
        ambiguous = {kind, task.kind} == {"mug", "cup"} and colour == task.colour
        name = f"{colour}_{kind}"
        if position is None or name in taken or ambiguous:
            continue
        taken.add(name)
        added.append(Item(kind, colour, tuple(map(float, position)), float(random.uniform(-np.pi, np.pi))))
    return replace(scene, items=(*scene.items, *added))


def _discs(scene: Scene, task: Task, added: list[Item], kind: str) -> list[Disc]:
    discs = [disc for item in scene.items for disc in discs_of(item, item.name in task.objects, kind)]
    discs += [disc for item in added for disc in discs_of(item, False, kind)]
    if task.verb in ("push", "push to"):
        start = np.array(scene.item(task.target).position)
        end = start + [0.12, 0.0] if task.goal is None else np.array(scene.item(task.goal).position)
        discs += [(centre, radius + RADII_M[kind]) for centre, radius in lane_discs(start, end)]
    return discs


def _texture(scene: Scene, task: Task, random: np.random.Generator) -> Scene:
    table, floor = random.choice(list(TEXTURES), 2)
    return replace(scene, textures=Textures(str(table), str(floor), int(random.integers(2**31))))


def _camera(scene: Scene, task: Task, random: np.random.Generator) -> Scene:
    return replace(
        scene, camera_offsets=tuple((name, _displacement(random, CAMERA_MOVED_M, CAMERA_TURNED_RAD)) for name in ("front", "wrist"))
    )


def _start(scene: Scene, task: Task, random: np.random.Generator) -> Scene:
    return replace(scene, start_offset=_displacement(random, START_MOVED_M, START_TURNED_RAD))


def _displacement(random: np.random.Generator, far_m: float, far_rad: float) -> tuple[float, ...]:
    """Translation and rotation vector (6,) in random directions, of up to the lengths given."""
    result = []
    for far in (far_m, far_rad):
        direction = random.normal(size=3)
        result += (direction / np.linalg.norm(direction) * random.uniform(0.0, far)).tolist()
    return tuple(result)


def _sensor(scene: Scene, task: Task, random: np.random.Generator) -> Scene:
    return replace(scene, sensor_seed=int(random.integers(2**31)))


_AXES = {
    "lighting": _lighting, "form": _form, "colour": _colour, "distractors": _distractors, "texture": _texture, "camera": _camera,
    "start": _start, "sensor": _sensor,
}  # fmt: skip
AXES = tuple(_AXES)
#: The cells of a full evaluation.
VARIATIONS = ("none", *AXES, "all")


def parse_variation(text: str) -> tuple[str, ...]:
    """The axes that a variation switches on, in the order of AXES, and last the BOARDS, which no evaluation asks for. Raises
    UserError for an unknown or repeated one."""
    words = text.strip().lower().split("+")
    if words == ["none"]:
        return ()
    if words == ["all"]:
        return AXES
    if set(words) <= {*AXES, *BOARDS} and len(set(words)) == len(words):
        return tuple(axis for axis in (*AXES, *BOARDS) if axis in words)
    raise UserError(f"unknown variation {text!r}; expected none, all, or some of {', '.join(AXES)}, each once, joined by +")
