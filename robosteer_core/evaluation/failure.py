"""Why a trial failed, in one of a few classes that can be counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

FailureClass = Literal["limit", "wrong object", "dropped", "spoiled", "never reached", "time-out"]

FAILURE_CLASSES: dict[FailureClass, str] = {
    "limit": "a reflex of the robot, the watchdog, or a chunk that the software limits refused",
    "wrong object": "hand or fingers touched an object that the task does not name",
    "dropped": "the target was held and lost",
    "spoiled": "the scene can no longer become a success, e.g. pressed instead of touched",
    "never reached": "the time was up before the hand had come to the target",
    "time-out": "the time was up after the hand had come to the target",
}
assert tuple(FAILURE_CLASSES) == get_args(FailureClass)

#: Interventions of the limits that keep a whole chunk from the arm; the others only change its set-points.
REFUSALS = ("malformed", "non_finite", "reordered", "stale", "future", "step")


def classify(truth: Mapping[str, object], refused: bool, interventions: Mapping[str, int]) -> FailureClass | None:
    """The class of a trial that has ended; None for a success. The first that applies, in the order of FAILURE_CLASSES.

    `truth` is the lab's at the end: `success`, `failure` and, where the lab tells them, `reached` and `dropped`.
    `refused`: the arm refused to go on. A lab that does not tell whether the target was reached leaves `time-out`.
    """
    if truth["success"]:
        return None
    failure = str(truth.get("failure") or "")
    if refused:
        return "limit"
    if failure.startswith("wrong object"):
        return "wrong object"
    if truth.get("dropped"):
        return "dropped"
    if failure:
        return "spoiled"
    if any(interventions.get(name) for name in REFUSALS):
        return "limit"
    return "time-out" if truth.get("reached", True) else "never reached"
