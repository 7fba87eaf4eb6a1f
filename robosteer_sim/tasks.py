"""The lab's tasks, made from a small grammar: `<verb> the <colour> <object>`, e.g. "press the red button"."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from robosteer_core.errors import UserError
from robosteer_sim.scene import COLOURS, KINDS, Item, Scene

#: Which kinds of object each verb applies to.
VERBS = {
    "touch": ("cube", "button", "bowl"),
    "press": ("button",),
    "push": ("cube",),
    "pick up": ("cube",),
}

#: Objects are placed in this rectangle of the table, metres, base frame: 30 cm x 30 cm.
PLACEMENT_LOW_M, PLACEMENT_HIGH_M = np.array([0.34, -0.15]), np.array([0.64, 0.15])
#: Centres of two objects keep at least this distance; a closed gripper fits between them.
SEPARATION_M = 0.11
ITEMS_PER_SCENE = 3
#: Largest deviation of each joint from the home pose at the start of an episode, radians.
START_JITTER_RAD = 0.06


@dataclass(frozen=True)
class Task:
    verb: str
    colour: str
    kind: str

    @property
    def instruction(self) -> str:
        return f"{self.verb} the {self.colour} {self.kind}"

    @property
    def target(self) -> str:
        return f"{self.colour}_{self.kind}"


def parse(instruction: str) -> Task:
    """The task that an instruction names. Raises UserError listing the grammar for any other text."""
    words = instruction.strip().lower()
    for verb, kinds in VERBS.items():
        for kind in kinds:
            for colour in COLOURS:
                if words == f"{verb} the {colour} {kind}":
                    return Task(verb, colour, kind)
    grammar = "; ".join(f"{verb} the <colour> {'|'.join(kinds)}" for verb, kinds in VERBS.items())
    raise UserError(f"unknown task {instruction!r}; expected: {grammar}; colours: {', '.join(COLOURS)}")


def sample_scene(instruction: str, seed: int) -> Scene:
    """A scene for the task: its target, another object of the same kind, and one of another kind, at random places.

    So neither the colour nor the kind alone tells the target. The same (instruction, seed) gives the same scene.
    """
    task = parse(instruction)
    random = np.random.default_rng([seed, zlib.crc32(task.instruction.encode())])
    same_kind = (task.kind, random.choice([colour for colour in COLOURS if colour != task.colour]))
    other_kind = (random.choice([kind for kind in KINDS if kind != task.kind]), random.choice(list(COLOURS)))
    kinds = [(task.kind, task.colour), same_kind, other_kind][:ITEMS_PER_SCENE]
    positions = _place(random, len(kinds), toward_edge=task.verb == "push")
    items = tuple(
        Item(str(kind), str(colour), (float(x), float(y)), float(random.uniform(-np.pi / 4, np.pi / 4)))
        for (kind, colour), (x, y) in zip(kinds, positions)
    )
    offset = random.uniform(-START_JITTER_RAD, START_JITTER_RAD, 7)
    return Scene(items, tuple(float(value) for value in offset))


def _place(random: np.random.Generator, count: int, toward_edge: bool) -> np.ndarray:
    """Positions (count, 2), separated; the first leaves room behind and before it where it is to be pushed."""
    while True:
        positions = random.uniform(PLACEMENT_LOW_M, PLACEMENT_HIGH_M, (count, 2))
        distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)[np.triu_indices(count, 1)]
        if distances.min(initial=np.inf) < SEPARATION_M:
            continue
        if toward_edge:
            ahead = positions[1:] - positions[0]
            in_lane = (np.abs(ahead[:, 1]) < 0.09) & (np.abs(ahead[:, 0]) < 0.22)
            if in_lane.any() or positions[0, 0] > 0.54:
                continue
        return positions
