"""Images and robot poses in a folder, as `robosteer calibrate hand-eye` takes and reads them.

`recording.json` says what the folder holds; each view has a colour image (PNG), optionally a depth image (16-bit PNG, units of
`depth_unit_m`, 0 where unknown, aligned to colour), and the end effector's pose when it was taken:

    {"camera": {"name": "wrist", "serial": "...", "mount": "hand"}, "robot": "lab",
     "intrinsics": {"width": 1280, "height": 720, "fx": ..., "fy": ..., "cx": ..., "cy": ..., "distortion": [k1, k2, p1, p2, k3]},
     "depth_unit_m": 0.001,
     "views": [{"image": "000.png", "depth": "000_depth.png", "end_effector_in_base": [[...], ...], "serial": "..."}]}

`distortion` (OpenCV's five), `depth`, `depth_unit_m` and a view's `serial` may be absent; for `robosteer calibrate intrinsics`
the poses may be, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robosteer_core.errors import UserError

FILE = "recording.json"
Pixels = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordedCamera(Part):
    name: str
    serial: str = Field(min_length=1)
    mount: Literal["hand", "fixed"]


class Lens(Part):
    """Pinhole with OpenCV's distortion (k1, k2, p1, p2, k3); pixels."""

    width: int = Field(ge=16)
    height: int = Field(ge=16)
    fx: Pixels
    fy: Pixels
    cx: Pixels
    cy: Pixels
    distortion: tuple[float, float, float, float, float] = (0.0,) * 5

    @property
    def vector(self) -> np.ndarray:
        """(4,) fx, fy, cx, cy."""
        return np.array([self.fx, self.fy, self.cx, self.cy])

    @property
    def matrix(self) -> np.ndarray:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    def straightened(self, corners: np.ndarray) -> np.ndarray:
        """(k, 2) pixels where the corners would be without distortion."""
        if not any(self.distortion):
            return corners
        return cv2.undistortPoints(corners[:, None], self.matrix, np.array(self.distortion), P=self.matrix)[:, 0]


class RecordedView(Part):
    image: str
    depth: str | None = None
    end_effector_in_base: list[list[float]] | None = None
    serial: str | None = None


class Recording(Part):
    camera: RecordedCamera
    robot: str = ""
    intrinsics: Lens | None = None
    depth_unit_m: Annotated[float, Field(gt=0)] = 0.001
    views: tuple[RecordedView, ...] = Field(min_length=1)


class RecordedFolder:
    """A recording with its images. Raises UserError naming what is missing or does not fit."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            content = json.loads((self.folder / FILE).read_text())
        except OSError as error:
            raise UserError(
                f"expected images and poses in {folder}, described by {FILE} there; cannot read it: {error.strerror}; take "
                "them with `robosteer calibrate hand-eye --rig ... --camera ... --keep FOLDER`"
            ) from error
        except ValueError as error:
            raise UserError(f"{self.folder / FILE} is not valid JSON: {error}") from error
        try:
            self.content = Recording.model_validate(content)
        except ValidationError as error:
            lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']} (found {e['input']!r:.60})" for e in error.errors()[:5]]
            raise UserError(f"{self.folder / FILE} is no recording:\n" + "\n".join(lines)) from error
        serials = {view.serial or self.content.camera.serial for view in self.content.views} | {self.content.camera.serial}
        if len(serials) > 1:
            raise UserError(
                f"mixed cameras: the views of {folder} are of the serials {', '.join(sorted(serials))}; put each camera's "
                "into a folder of its own"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(view.image for view in self.content.views)

    def images(self) -> list[np.ndarray]:
        """Grey images (height, width) uint8, all of one size."""
        found = [self.image(index) for index in range(len(self.content.views))]
        sizes = {image.shape[::-1] for image in found}
        lens = self.content.intrinsics
        if len(sizes) > 1:
            listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
            raise UserError(
                f"mixed cameras: the images in {self.folder} have different sizes ({listed}); put each camera's into a folder "
                "of its own"
            )
        if lens is not None and sizes != {(lens.width, lens.height)}:
            ((width, height),) = sizes
            raise UserError(
                f"the images in {self.folder} are {width}x{height}, the intrinsics are for {lens.width}x{lens.height}: give "
                "those of this size"
            )
        return found

    def image(self, index: int) -> np.ndarray:
        """Grey (height, width) uint8."""
        return self._read(self.content.views[index].image, cv2.IMREAD_GRAYSCALE)

    def depth_m(self, index: int) -> np.ndarray | None:
        """(height, width) metres, 0 where unknown; None where the view has no depth."""
        name = self.content.views[index].depth
        if name is None:
            return None
        return self._read(name, cv2.IMREAD_UNCHANGED) * self.content.depth_unit_m

    def robot(self) -> np.ndarray:
        """(n, 4, 4) end effector in the base frame."""
        for view in self.content.views:
            if view.end_effector_in_base is None or np.shape(view.end_effector_in_base) != (4, 4):
                raise UserError(
                    f"{self.folder / FILE}: {view.image} needs end_effector_in_base, a 4x4 matrix row by row in metres"
                )
        return np.array([view.end_effector_in_base for view in self.content.views], float)

    def _read(self, name: str, flag: int) -> np.ndarray:
        image = cv2.imread(str(self.folder / name), flag)
        if image is None:
            raise UserError(f"cannot read the image {self.folder / name}, which {FILE} names; restore it or take its view out")
        return image


class RecordingWriter:
    """Writes a recording view by view; `recording.json` is whole after each."""

    def __init__(self, folder: Path, camera: RecordedCamera, robot: str, lens: Lens, depth_unit_m: float) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(f"the folder {folder} is not empty; give a new one for the images")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._content = {
            "camera": camera.model_dump(), "robot": robot, "intrinsics": lens.model_dump(mode="json"), "depth_unit_m": depth_unit_m, "views": [],
        }  # fmt: skip

    def add(self, colour: np.ndarray, depth: np.ndarray | None, robot: np.ndarray) -> None:
        """`colour` (height, width, 3) uint8 RGB, `depth` (height, width) uint16, `robot` (4, 4)."""
        number = len(self._content["views"])
        view = {"image": f"{number:03d}.png", "end_effector_in_base": robot.tolist()}
        cv2.imwrite(str(self.folder / view["image"]), colour[..., ::-1])
        if depth is not None:
            view["depth"] = f"{number:03d}_depth.png"
            cv2.imwrite(str(self.folder / view["depth"]), depth)
        self._content["views"].append(view)
        part = self.folder / (FILE + ".part")
        part.write_text(json.dumps(self._content, indent=1))
        part.replace(self.folder / FILE)
