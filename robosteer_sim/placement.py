"""Where things are put on the table, so that the hand reaches what its task is about."""

from __future__ import annotations

import numpy as np

from robosteer_core.errors import UserError
from robosteer_sim.objects.drawer import CABINET_M, DRAWER_TRAVEL_M, POST_OUT_M
from robosteer_sim.objects.item import Item
from robosteer_sim.scene import HEIGHTS_M

#: Objects of a task are placed in this rectangle of the table, metres, base frame: 30 cm x 30 cm.
PLACEMENT_LOW_M, PLACEMENT_HIGH_M = np.array([0.34, -0.15]), np.array([0.64, 0.15])
#: Distractors may also stand around it.
AROUND_LOW_M, AROUND_HIGH_M = np.array([0.30, -0.28]), np.array([0.68, 0.28])
#: Where the hand may have to go down behind what it pushes with its fingers leaning forward: closer to the robot joint 4 comes to
#: the end of its range, farther away the arm is too short.
BEHIND_LOW_M, BEHIND_HIGH_M = np.array([0.36, -0.22]), np.array([0.65, 0.22])
#: Radius of the disc that each kind stands on, metres.
RADII_M = {"cube": 0.032, "button": 0.030, "bowl": 0.056, "mug": 0.052, "cup": 0.037, "marker": 0.060, "can": 0.029, "drawer": 0.13}
#: Things taller than this stand beside the hand, not under it, when it reaches down to the table.
TALL_M = 0.06
#: The hand is 20 cm wide above open fingers that reach 6 cm to each side.
_FINGERS_M, _HAND_M = 0.065, 0.115
_BETWEEN_M = 0.015
_TRIES = 20_000

#: A disc on the table: centre (x, y) and radius, metres.
Disc = tuple[np.ndarray, float]


def place(random: np.random.Generator, kinds: list[str], reached: int, lane: bool = False) -> np.ndarray:
    """Positions (n, 2) of objects of these kinds; the first `reached` are those that the task is about.

    With `lane` the first is to be pushed to the second: there is way to go between them, free of the others, and room for
    the hand behind the first.
    """
    for _ in range(_TRIES):
        positions = random.uniform(PLACEMENT_LOW_M, PLACEMENT_HIGH_M, (len(kinds), 2))
        if not _apart(positions, kinds, reached):
            continue
        if lane:
            way = np.linalg.norm(positions[1] - positions[0])
            discs = lane_discs(positions[0], positions[1])
            if way < 0.19 or not (BEHIND_LOW_M < discs[0][0]).all() or not (discs[0][0] < BEHIND_HIGH_M).all():
                continue
            if not all(_clear(p, RADII_M[kind], discs) for p, kind in zip(positions[2:], kinds[2:])):
                continue
        return positions
    raise UserError(f"found no place on the table for {', '.join(kinds)}")


def _apart(positions: np.ndarray, kinds: list[str], reached: int) -> bool:
    for second in range(1, len(kinds)):
        for first in range(second):
            gap = _gap(kinds[first], kinds[second], first < reached, second < reached)
            if np.linalg.norm(positions[first] - positions[second]) < gap:
                return False
    return True


def _gap(first: str, second: str, first_reached: bool, second_reached: bool) -> float:
    """Smallest distance between the centres of two objects, metres."""
    gap = RADII_M[first] + RADII_M[second] + _BETWEEN_M
    for reached, other in ((first_reached, second), (second_reached, first)):
        if reached:
            gap = max(gap, RADII_M[other] + (_HAND_M if HEIGHTS_M[other] > TALL_M else _FINGERS_M))
    return gap


def lane_discs(start: np.ndarray, end: np.ndarray) -> list[Disc]:
    """What has to be free for a push from `start` to `end`: the way of the object, and the hand's behind it."""
    along = (end - start) / np.linalg.norm(end - start)
    return [(start + along * step, 0.105) for step in np.arange(-0.10, np.linalg.norm(end - start), 0.03)]


def drawer_discs(item: Item) -> list[Disc]:
    """What a cabinet stands on, and what its drawer and the hand at its post pass over."""
    inward = np.array([np.cos(item.yaw), np.sin(item.yaw)])
    post = np.array(item.position)
    swept = [(post - inward * step, 0.085) for step in np.arange(0.0, DRAWER_TRAVEL_M + 0.03, 0.03)]
    return [*swept, (post + inward * (POST_OUT_M + CABINET_M[0] / 2), RADII_M["drawer"])]


def discs_of(item: Item, reached: bool, kind: str) -> list[Disc]:
    """Where the centre of a distractor of `kind` must not be because of an object that is there already."""
    if item.kind == "drawer":
        return [(centre, radius + RADII_M[kind]) for centre, radius in drawer_discs(item)]
    return [(np.array(item.position), _gap(item.kind, kind, reached, False))]


def _clear(position: np.ndarray, radius: float, discs: list[Disc]) -> bool:
    return all(np.linalg.norm(position - centre) >= radius + around for centre, around in discs)


def place_around(random: np.random.Generator, discs: list[Disc]) -> np.ndarray | None:
    """A position (2,) in the wider rectangle outside of all discs; None where there is no room left."""
    for _ in range(300):
        position = random.uniform(AROUND_LOW_M, AROUND_HIGH_M)
        if _clear(position, 0.0, discs):
            return position
    return None
