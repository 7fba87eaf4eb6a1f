"""Variations of the lab: how they are written, and how they reach everybody who looks at the lab."""

import pytest

from robosteer_core.errors import UserError
from robosteer_sim.variations import AXES, VARIATIONS, parse_variation


def test_a_variation_is_none_all_or_axes_joined_by_plus():
    assert [parse_variation(variation) for variation in VARIATIONS] == [(), *((axis,) for axis in AXES), AXES]
    assert parse_variation("Camera+lighting") == ("lighting", "camera")


@pytest.mark.parametrize("text", ["", "fog", "none+camera", "camera+camera", "camera+", "all+form"])
def test_another_text_is_refused_with_what_there_is(text):
    with pytest.raises(UserError, match="expected none, all, or some of lighting, form"):
        parse_variation(text)


def test_the_lab_puts_up_a_variation_and_says_so(lab, link):
    link.reset("press the red button", 1, variation="camera+lighting")
    assert link.truth()["variation"] == link.status()["variation"] == "camera+lighting"
    with lab.observe() as second, pytest.raises(UserError, match="unknown variation 'fog'"):
        second.reset("press the red button", 1, variation="fog")
    link.reset("press the red button", 1)
    assert link.truth()["variation"] == "none"
