"""The lab's tasks: eight that are named one by one, a small grammar, `<verb> the <colour> <object>`, and stacking in any colours."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from robosteer_core.errors import UserError
from robosteer_sim.objects.item import COLOURS, Item
from robosteer_sim.placement import PLACEMENT_HIGH_M, PLACEMENT_LOW_M, drawer_discs, place, place_around
from robosteer_sim.scene import Scene
from robosteer_sim.variations import parse_variation, vary

#: Which kinds of object each verb of the grammar applies to.
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
#: The kinds and the number of objects of a scene of the grammar.
KINDS = ("cube", "button", "bowl")
ITEMS_PER_SCENE = 3
#: Centres of two objects of such a scene keep at least this distance; a closed gripper fits between them.
SEPARATION_M = 0.11
#: Largest deviation of each joint from the home pose at the start of an episode, radians.
START_JITTER_RAD = 0.06
#: Largest yaw of the cabinet, and where its post may be: metres and radians.
_DRAWER_LOW, _DRAWER_HIGH = (0.47, -0.08, -0.3), (0.54, 0.08, 0.3)


@dataclass(frozen=True)
class Task:
    """What an instruction asks for: `verb`, the object to act on and, where there is one, the object it is brought to.

    Colours are empty where the instruction names none. `words` is the canonical wording where it is not that of the grammar.
    """

    verb: str
    colour: str
    kind: str
    goal_colour: str = ""
    goal_kind: str = ""
    words: str = ""

    @property
    def instruction(self) -> str:
        return self.words or f"{self.verb} the {self.colour} {self.kind}"

    @property
    def longest_s(self) -> float:
        """How long an episode lasts at most: more than twice what the operator takes."""
        return 20.0 if self.words else 12.0

    @property
    def target(self) -> str:
        """Name of the object to act on."""
        return f"{self.colour}_{self.kind}" if self.colour else self.kind

    @property
    def goal(self) -> str | None:
        """Name of the object that the target is brought to."""
        if not self.goal_kind:
            return None
        return f"{self.goal_colour}_{self.goal_kind}" if self.goal_colour else self.goal_kind

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects that the hand may touch."""
        return (self.target,) if self.goal is None else (self.target, self.goal)


#: The tasks of the Robotic Steering paper (arXiv 2511.22697), its unseen one ("pick up the mug") and two for pretraining,
#: with other wordings. "Hard" asks for a force at the end of the button's travel, which "press" alone does not.
_LAB_TASKS = {
    Task("place in", "", "marker", "", "mug", "place the marker in the mug"): (
        "put the marker in the mug", "put the marker into the mug", "drop the marker into the mug", "insert the marker in the mug"),
    Task("press hard", "red", "button", words="press the red button hard"): (
        "press red button hard", "push the red button down hard", "press hard on the red button", "press the red button firmly"),
    Task("pick up", "red", "cube"): (),
    Task("place in", "green", "cube", "red", "bowl", "place the green cube in the red bowl"): (
        "put the green cube in the red bowl", "put the green cube into the red bowl", "drop the green cube into the red bowl"),
    Task("push to", "red", "cup", "red", "bowl", "push the red cup to the red bowl"): (
        "slide the red cup to the red bowl", "push the red cup next to the red bowl", "move the red cup over to the red bowl"),
    Task("pick up", "", "mug", words="pick up the mug"): ("lift the mug", "grab the mug", "take the mug", "raise the mug"),
    Task("open", "", "drawer", words="open the drawer"): ("pull the drawer open", "pull open the drawer", "slide the drawer open"),
}  # fmt: skip


def _stack(upper: str, lower: str) -> tuple[Task, tuple[str, ...]]:
    """Stacking a cube of one colour on one of another, and its other wordings."""
    words = f"the {upper} cube on the {lower} cube", f"the {upper} cube on top of the {lower} "
    return Task("stack", upper, "cube", lower, "cube", f"stack {words[0]}"), (
        f"put {words[0]}", f"place {words[1]}cube", f"stack {words[1]}one")  # fmt: skip


_STACKS = dict(_stack(upper, lower) for upper, lower in permutations(COLOURS, 2))
#: Stacking in all pairs of colours; one of them is among TASKS.
STACKS = tuple(task.instruction for task in _STACKS)
_LAB_TASKS |= [_stack("red", "green")]


def _wordings() -> dict[str, Task]:
    """Every text that names a task, with the task; the canonical wording of a task comes before its others."""
    known = {
        f"{wording} the {colour} {kind}": Task(verb, colour, kind)
        for verb, kinds in VERBS.items() for wording in (verb, *WORDINGS[verb]) for kind in kinds for colour in COLOURS
    }  # fmt: skip
    for task, others in (_STACKS | _LAB_TASKS).items():
        known |= dict.fromkeys((task.instruction, *others), task)
    return known


_KNOWN = _wordings()


def parse(instruction: str) -> Task:
    """The task that an instruction, or a paraphrase of it, names. Raises UserError listing what there is for any other."""
    task = _KNOWN.get(" ".join(instruction.lower().split()))
    if task is None:
        grammar = "; ".join(f"{verb} the <colour> {'|'.join(kinds)}" for verb, kinds in VERBS.items())
        raise UserError(
            f"unknown task {instruction!r}; expected: {'; '.join(TASKS)}; or {grammar}; stack the <colour> cube on the <colour> cube; "
            f"colours: {', '.join(COLOURS)}; "
            "`robosteer sim tasks` lists their other wordings"
        )
    return task


def paraphrases(instruction: str) -> tuple[str, ...]:
    """The other wordings of a task."""
    task = parse(instruction)
    return tuple(wording for wording, known in _KNOWN.items() if known == task and wording != task.instruction)


#: The tasks of the lab that policies are measured on, each with its paraphrases.
TASKS = {task.instruction: paraphrases(task.instruction) for task in _LAB_TASKS}


def sample_scene(instruction: str, seed: int, variation: str = "none") -> Scene:
    """A scene for the task: what it is about and things that only its words tell from that, at random places.

    The same (instruction, seed) gives the same scene, varied in the same way by the same variation. Raises UserError for
    an unknown task or variation.
    """
    axes, task = parse_variation(variation), parse(instruction)
    random = np.random.default_rng([seed, zlib.crc32(task.instruction.encode())])
    items = _grammar_items(task, random) if task in _GRAMMAR else _LAB_ITEMS[task.verb](task, random)
    offset = random.uniform(-START_JITTER_RAD, START_JITTER_RAD, 7)
    return vary(Scene(items, tuple(float(value) for value in offset)), task, seed, axes)


_GRAMMAR = {Task(verb, colour, kind) for verb, kinds in VERBS.items() for kind in kinds for colour in COLOURS}


def _grammar_items(task: Task, random: np.random.Generator) -> tuple[Item, ...]:
    """The target, another object of its kind and one of another kind: neither colour nor kind alone tells the target."""
    same_kind = (task.kind, random.choice([colour for colour in COLOURS if colour != task.colour]))
    other_kind = (random.choice([kind for kind in KINDS if kind != task.kind]), random.choice(list(COLOURS)))
    kinds = [(task.kind, task.colour), same_kind, other_kind][:ITEMS_PER_SCENE]
    positions = _place(random, len(kinds), toward_edge=task.verb == "push")
    return tuple(_item(random, kind, colour, position) for (kind, colour), position in zip(kinds, positions))


def _item(random: np.random.Generator, kind: str, colour: str, position: np.ndarray, yaw_rad: float = np.pi / 4) -> Item:
    x, y = position
    return Item(str(kind), str(colour), (float(x), float(y)), float(random.uniform(-yaw_rad, yaw_rad)))


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


def _other(random: np.random.Generator, *taken: str) -> str:
    """A colour that is none of these."""
    return str(random.choice([colour for colour in COLOURS if colour not in taken]))


def _around_the_task(task: Task, random: np.random.Generator) -> tuple[Item, ...]:
    """Target and goal, and beside them what has their kind or their colour alone."""
    kinds = [(task.kind, task.colour)]
    if task.goal is not None:
        kinds.append((task.goal_kind, task.goal_colour))
    reached = len(kinds)
    if task.colour:
        kinds.append((task.kind, _other(random, task.colour, task.goal_colour)))
    if task.verb == "place in" and task.goal_colour:
        kinds.append((task.goal_kind, _other(random, task.goal_colour)))
    if not task.colour:
        kinds.append(("cube", _other(random)))
    positions = place(random, [kind for kind, _ in kinds], reached, lane=task.verb == "push to")
    # A mug's handle and a marker may point anywhere.
    return tuple(_item(random, kind, colour, p, np.pi if kind in ("mug", "marker") else np.pi / 4) for (kind, colour), p in zip(kinds, positions))


def _around_the_drawer(task: Task, random: np.random.Generator) -> tuple[Item, ...]:
    x, y, yaw = (float(value) for value in random.uniform(_DRAWER_LOW, _DRAWER_HIGH))
    drawer = Item(task.kind, task.colour, (x, y), yaw)
    discs = [(centre, radius + 0.06) for centre, radius in drawer_discs(drawer)]
    items = [drawer]
    for kind in ("cube", "bowl"):
        position = place_around(random, discs)
        if position is None:
            raise UserError(f"found no place on the table for a {kind} beside the drawer")
        items.append(_item(random, kind, _other(random), position))
        discs.append((position, 0.12))
    return tuple(items)


_LAB_ITEMS = {
    "place in": _around_the_task, "push to": _around_the_task, "stack": _around_the_task, "pick up": _around_the_task,
    "press hard": _grammar_items, "open": _around_the_drawer,
}  # fmt: skip
