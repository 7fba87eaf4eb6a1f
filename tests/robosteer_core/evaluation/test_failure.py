"""One class per failed trial."""

import pytest

from robosteer_core.evaluation.failure import FAILURE_CLASSES, classify

REACHED = {"success": False, "failure": None, "reached": True, "dropped": False}


@pytest.mark.parametrize(
    ("truth", "refused", "interventions", "expected"),
    [
        ({"success": True}, False, {"step": 3}, None),
        ({"failure": "wrong object: red_cube"}, True, {}, "wrong object"),
        ({}, True, {}, "limit"),
        ({"failure": "wrong object: red_cube", "dropped": True}, False, {"step": 1}, "wrong object"),
        ({"dropped": True, "failure": "the cube fell"}, False, {}, "dropped"),
        ({"failure": "pressed instead of touched"}, False, {"step": 1}, "spoiled"),
        ({"reached": False}, False, {"non_finite": 1}, "limit"),
        ({"reached": False}, False, {"speed": 99, "workspace": 5, "distance": 2, "angular_speed": 1}, "never reached"),
        ({}, False, {}, "time-out"),
    ],
)
def test_the_first_that_applies(truth, refused, interventions, expected):
    assert classify(REACHED | truth, refused, interventions) == expected


@pytest.mark.parametrize(("refused", "interventions"), [(True, {}), (False, {"step": 1})])
def test_the_order_told_is_the_order_applied(refused, interventions):
    """All apply at first; without the first, the next one does, in the order in which the page explains them."""
    truth, found = {"success": False, "failure": "wrong object: red_cube", "dropped": True, "reached": False}, []
    without = {
        "wrong object": {"failure": "pressed instead of touched"}, "dropped": {"dropped": False}, "spoiled": {"failure": None},
        "limit": {}, "never reached": {"reached": True}, "time-out": {},
    }  # fmt: skip
    for _ in FAILURE_CLASSES:
        found.append(classify(truth, refused, interventions))
        truth = truth | without[found[-1]]
        if found[-1] == "limit":
            refused, interventions = False, {}
    assert found == list(FAILURE_CLASSES)


def test_a_lab_that_does_not_tell_what_was_reached_leaves_the_time_out():
    assert classify({"success": False, "failure": None}, False, {}) == "time-out"
