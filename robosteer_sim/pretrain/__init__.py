"""Pretraining of the small base policy in the lab: collect, train, measure. One resumable command."""

from itertools import product

from robosteer_sim.scene import COLOURS, KINDS

#: Every object of the lab, as (kind, colour).
OBJECTS = tuple(product(KINDS, COLOURS))
#: What the base learns, one instruction per object. Every object and every colour of the demo's task is a target here;
#: pressing never occurs, nor any other motion that drives the hand against an object.
INSTRUCTIONS = tuple(f"touch the {colour} {kind}" for kind, colour in OBJECTS)

#: Half of the time the policy reads one of these in place of the verb, so that what the words point at does not hang on
#: one verb: a new task brings a verb that it has never read.
PARAPHRASES = {"touch": ("reach", "tap", "go to", "move to", "point at")}


def paraphrases(instruction: str) -> list[str]:
    """The instruction with each other wording of its verb."""
    verb, rest = instruction.split(" ", 1)
    return [f"{other} {rest}" for other in PARAPHRASES[verb]]
