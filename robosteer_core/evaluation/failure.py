"""Why a trial failed, in one of a few classes that can be counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

FailureClass = Literal["wrong object", "dropped", "spoiled", "limit", "never reached", "time-out"]

FAILURE_CLASSES: dict[FailureClass, str] = {
    "wrong object": "hand or fingers touched an object that the task does not name",
    "dropped": "the target was held and lost",
    "spoiled": "the scene can no longer become a success, e.g. pressed instead of touched",
    "limit": "a reflex of the robot, the watchdog, or a chunk that the software limits refused",
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
    applies: dict[FailureClass, object] = {
        "wrong object": failure.startswith("wrong object"),
        "dropped": truth.get("dropped"),
        "spoiled": failure,
        "limit": refused or any(interventions.get(name) for name in REFUSALS),
        "never reached": not truth.get("reached", True),
        "time-out": True,
    }
    return next(name for name in FAILURE_CLASSES if applies[name])
