"""One object on the table, as data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

COLOURS = {
    "red": (0.85, 0.08, 0.08),
    "green": (0.08, 0.60, 0.15),
    "blue": (0.08, 0.22, 0.85),
    "yellow": (0.95, 0.80, 0.08),
}


@dataclass(frozen=True)
class Item:
    """One object on the table: kind, colour, position (x, y) in metres and yaw in radians, base frame.

    `colour` is empty for an object that no instruction tells by its colour. `scale` (3,) stretches the kind's usual
    size along the object's own axes, `shape` names another shape of the kind than the usual one, `paint` is the RGB in
    [0, 1] that it is drawn in instead of its colour's own.
    """

    kind: str
    colour: str
    position: tuple[float, float]
    yaw: float
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shape: str = ""
    paint: tuple[float, float, float] | None = None

    @property
    def name(self) -> str:
        return f"{self.colour}_{self.kind}" if self.colour else self.kind

    def rgba(self, usual: tuple[float, float, float] = (0.8, 0.8, 0.8)) -> tuple[float, ...]:
        """What it is drawn in; `usual` for an object without a colour."""
        return (*(self.paint or COLOURS.get(self.colour, usual)), 1)

    @property
    def quaternion(self) -> np.ndarray:
        """(4,) w, x, y, z."""
        return Rotation.from_euler("z", self.yaw).as_quat(scalar_first=True)
