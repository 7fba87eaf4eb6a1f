"""One image of one camera, with its capture stamp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole camera without distortion; focal lengths and principal point in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class Frame:
    """Colour and, aligned to it, depth.

    `colour` (height, width, 3) uint8 RGB; `depth` (height, width) uint16 in units of `depth_unit_m`, 0 where unknown;
    `stamp_ns` capture time on the rig's clock; `number` counts the camera's frames.
    """

    camera: str
    stamp_ns: int
    number: int
    colour: np.ndarray
    depth: np.ndarray
    depth_unit_m: float
    intrinsics: Intrinsics
