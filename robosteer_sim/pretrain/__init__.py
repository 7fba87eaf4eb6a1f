"""Pretraining of the small base policy in the lab: collect, train, measure. One resumable command."""

from itertools import product

from robosteer_sim.objects.item import COLOURS
from robosteer_sim.tasks import KINDS, STACKS
from robosteer_sim.variations import DISTRACTOR_KINDS

#: Every object of the lab that can be named, as (kind, colour). The first ones are touched and the drawer is opened; of the
#: others, which stand about as distractors, the base learns only what they are called.
TOUCHED = tuple(product(KINDS, COLOURS))
OBJECTS = (*TOUCHED, ("drawer", ""), *(named for named in product(DISTRACTOR_KINDS, COLOURS) if named not in TOUCHED))
#: What the base learns to do. It knows how to grasp; pressing, pushing, picking up and placing into anything never occur.
INSTRUCTIONS = (*(f"touch the {colour} {kind}" for kind, colour in TOUCHED), "open the drawer", *STACKS)
#: Numbers of instructions in the order in which their episodes are made, again and again.
ROUND = (*range(len(TOUCHED)), *range(len(INSTRUCTIONS)), *([len(TOUCHED)] * 3), *range(len(TOUCHED) + 1, len(INSTRUCTIONS)))
