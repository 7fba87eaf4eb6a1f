"""The ChArUco board: its geometry, its picture, its page to print."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from robosteer_core.errors import UserError

#: OpenCV's predefined dictionaries by name.
DICTIONARIES = {
    name: getattr(cv2.aruco, name) for name in sorted(dir(cv2.aruco)) if name.startswith("DICT_") and name[5].isdigit()
}


class Board(BaseModel):
    """A chessboard of `columns` x `rows` squares with a marker in each white one, upper left square black.

    The board's frame: origin in its upper left outer corner, x right, y down, z into the board; metres.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: int = Field(default=7, ge=3, le=40)
    rows: int = Field(default=5, ge=3, le=40)
    square_m: Annotated[float, Field(gt=0, le=0.5)] = 0.036
    marker_m: Annotated[float, Field(gt=0, le=0.5)] = 0.027
    dictionary: str = "DICT_4X4_50"

    @model_validator(mode="after")
    def _fits(self) -> Board:
        if self.marker_m >= self.square_m:
            raise ValueError(f"a marker must be smaller than its square; found {self.marker_m} and {self.square_m} m")
        if self.dictionary not in DICTIONARIES:
            raise ValueError(f"unknown dictionary {self.dictionary!r}; expected one of {', '.join(DICTIONARIES)}")
        known = cv2.aruco.getPredefinedDictionary(DICTIONARIES[self.dictionary]).bytesList.shape[0]
        if self.columns * self.rows // 2 > known:
            raise ValueError(
                f"{self.columns}x{self.rows} squares need {self.columns * self.rows // 2} markers; {self.dictionary} has "
                f"{known}"
            )
        return self

    @cached_property
    def cv(self) -> cv2.aruco.CharucoBoard:
        dictionary = cv2.aruco.getPredefinedDictionary(DICTIONARIES[self.dictionary])
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.marker_m, dictionary)

    @cached_property
    def corners(self) -> np.ndarray:
        """(m, 3) inner corners of the chessboard in the board's frame, metres; the index is a corner's id."""
        return np.asarray(self.cv.getChessboardCorners(), float).reshape(-1, 3)

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height of the squares' field."""
        return self.columns * self.square_m, self.rows * self.square_m

    @property
    def outline(self) -> np.ndarray:
        """(4, 3) corners of the squares' field in the board's frame, metres."""
        width, height = self.size_m
        return np.array([[0.0, 0, 0], [width, 0, 0], [width, height, 0], [0, height, 0]])

    @property
    def centre(self) -> np.ndarray:
        """(3,) in the board's frame."""
        return np.array([*self.size_m, 0.0]) / 2

    @property
    def middle(self) -> int:
        """Number of the corner nearest the centre."""
        return int(((self.corners - self.centre) ** 2).sum(1).argmin())

    def black(self) -> list[tuple[float, float, float, float]]:
        """Everything that is black, as rectangles (x, y, width, height) in the board's frame, metres."""
        found = [
            (column * self.square_m, row * self.square_m, self.square_m, self.square_m)
            for row in range(self.rows) for column in range(self.columns) if (row + column) % 2 == 0
        ]  # fmt: skip
        dictionary = self.cv.getDictionary()
        cells = dictionary.markerSize + 2
        cell_m = self.marker_m / cells
        for number, corners in zip(self.cv.getIds().ravel(), self.cv.getObjPoints()):
            x, y = np.asarray(corners, float)[0, :2]
            dark = cv2.aruco.generateImageMarker(dictionary, int(number), cells) == 0
            for row, line in enumerate(dark):
                # Neighbours in a row are one rectangle: fewer seams in a viewer.
                edges = np.flatnonzero(np.diff(np.concatenate([[0], line, [0]])))
                for start, end in zip(edges[::2], edges[1::2]):
                    found.append((x + start * cell_m, y + row * cell_m, (end - start) * cell_m, cell_m))
        return found

    def picture(self, pixels_per_m: float, margin_m: float = 0.0) -> np.ndarray:
        """(height, width) uint8 with a white margin; edges are where they belong to within half a pixel."""
        width, height = (round((side + 2 * margin_m) * pixels_per_m) for side in self.size_m)
        image = np.full((height, width), 255, np.uint8)
        for x, y, w, h in self.black():
            left, right, top, bottom = (round((v + margin_m) * pixels_per_m) for v in (x, x + w, y, y + h))
            image[top:bottom, left:right] = 0
        return image

    def words(self) -> str:
        return (
            f"{self.columns}x{self.rows} squares of {self.square_m * 1e3:g} mm, markers of {self.marker_m * 1e3:g} mm, "
            f"{self.dictionary}"
        )


def make_board(**values: object) -> Board:
    """A board; raises UserError naming each impossible value."""
    try:
        return Board(**values)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'board'}: {e['msg']}" for e in error.errors()]
        raise UserError("there is no such board:\n" + "\n".join(lines)) from error


def load_board(path: Path | None) -> Board:
    """The board described in a YAML file (`robosteer calibrate board` writes one), or the usual one."""
    if path is None:
        return Board()
    try:
        content = yaml.safe_load(Path(path).read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the board {path}: {error}; write it with: robosteer calibrate board") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of keys (columns, rows, square_m, ...), found {type(content).__name__}")
    return make_board(**content)
