"""What may differ from the nominal lab, axis by axis, to see how robust a policy is.

A variation is a text: "none", "all", or names of axes joined by "+", e.g. "lighting+camera".
"""

from __future__ import annotations

from robosteer_core.errors import UserError

AXES = ("lighting", "form", "colour", "distractors", "texture", "camera", "start", "sensor")
#: The cells of a full evaluation.
VARIATIONS = ("none", *AXES, "all")


def parse_variation(text: str) -> tuple[str, ...]:
    """The axes that a variation switches on, in the order of AXES. Raises UserError for an unknown or repeated one."""
    words = text.strip().lower().split("+")
    if words == ["none"]:
        return ()
    if words == ["all"]:
        return AXES
    if set(words) <= set(AXES) and len(set(words)) == len(words):
        return tuple(axis for axis in AXES if axis in words)
    raise UserError(f"unknown variation {text!r}; expected none, all, or some of {', '.join(AXES)}, each once, joined by +")
