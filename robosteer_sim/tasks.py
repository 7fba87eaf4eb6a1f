"""The lab's tasks: eight that are named one by one, and a small grammar, `<verb> the <colour> <object>`."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from robosteer_core.errors import UserError
from robosteer_sim.scene import COLOURS, KINDS, Item, Scene
from robosteer_sim.variations import parse_variation

#: Which kinds of object each verb applies to.
VERBS = {
    "touch": ("cube", "button", "bowl"),
    "press": ("button",),
    "push": ("cube",),
    "pick up": ("cube",),
}
#: Other wordings of a verb. The policy that is pretrained here reads one of those of "touch" half of the time, so that
#: what the words point at does not hang on one verb.
WORDINGS = {
    "touch": ("reach", "tap", "go to", "move to", "point at"),
    "press": ("push down", "press down"),
    "push": ("shove", "slide"),
    "pick up": ("lift", "grab", "take", "raise"),
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
    """What an instruction asks for; `instruction` is the canonical wording."""

    verb: str
    colour: str
    kind: str

    @property
    def instruction(self) -> str:
        return f"{self.verb} the {self.colour} {self.kind}"

    @property
    def target(self) -> str:
        return f"{self.colour}_{self.kind}"


def _grammar() -> dict[str, Task]:
    """Every wording that the grammar has, with its task."""
    return {
        f"{wording} the {colour} {kind}": Task(verb, colour, kind)
        for verb, kinds in VERBS.items() for wording in (verb, *WORDINGS[verb]) for kind in kinds for colour in COLOURS
    }  # fmt: skip


_KNOWN = _grammar()
_LAB_TASKS = ("pick up the red cube",)


def parse(instruction: str) -> Task:
    """The task that an instruction, or a paraphrase of it, names. Raises UserError listing what there is for any other."""
    task = _KNOWN.get(" ".join(instruction.lower().split()))
    if task is None:
        grammar = "; ".join(f"{verb} the <colour> {'|'.join(kinds)}" for verb, kinds in VERBS.items())
        raise UserError(f"unknown task {instruction!r}; expected: {grammar}; colours: {', '.join(COLOURS)}")
    return task


def paraphrases(instruction: str) -> tuple[str, ...]:
    """The other wordings of a task."""
    task = parse(instruction)
    return tuple(wording for wording, known in _KNOWN.items() if known == task and wording != task.instruction)


#: The tasks of the lab that policies are measured on, each with its paraphrases.
TASKS = {instruction: paraphrases(instruction) for instruction in _LAB_TASKS}


def sample_scene(instruction: str, seed: int, variation: str = "none") -> Scene:
    """A scene for the task: its target, another object of the same kind, and one of another kind, at random places.

    So neither the colour nor the kind alone tells the target. The same (instruction, seed) gives the same scene, varied
    in the same way by the same variation. Raises UserError for an unknown task or variation.
    """
    parse_variation(variation)
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
