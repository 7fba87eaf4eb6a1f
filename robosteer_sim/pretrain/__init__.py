"""Pretraining of the small base policy in the lab: collect, train, measure. One resumable command."""

from itertools import product

from robosteer_sim.objects.item import COLOURS
from robosteer_sim.tasks import KINDS

#: Every object of the lab, as (kind, colour).
OBJECTS = tuple(product(KINDS, COLOURS))
#: What the base learns, one instruction per object. Every object and every colour of the demo's task is a target here;
#: pressing never occurs, nor any other motion that drives the hand against an object.
INSTRUCTIONS = tuple(f"touch the {colour} {kind}" for kind, colour in OBJECTS)
