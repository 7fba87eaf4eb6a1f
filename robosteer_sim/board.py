"""A flat board with a picture on it, to calibrate the lab's cameras with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

_THICKNESS_M = 0.001
#: The usual board of `robosteer calibrate board`, 7x5 squares of 36 mm, with a white margin of 10 mm.
_PICTURE, _SIZE_M = Path(__file__).with_name("calibration_board.png"), (0.272, 0.200)
_TURNED = Rotation.from_euler("z", -0.2).as_matrix() @ np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]])
#: Where it is when it lies on the table under the wrist camera, and when the hand carries it before the front camera: the body,
#: the centre in it [m], and the rotation of x right, y down, z into the board.
_PLACES = {
    "board_on_table": ("world", np.array([0.44, 0.01, 0.001]), _TURNED),
    "board_on_hand": (
        "hand",
        np.array([0.06, 0.0, 0.083]),
        Rotation.from_euler("xyz", [52.4, 0, -90], degrees=True).as_matrix(),
    ),
}
BOARDS = tuple(_PLACES)


@dataclass(frozen=True)
class PictureBoard:
    """`picture` (height, width) or (height, width, 3) uint8 over all of the board, `size_m` its width and height. `pose` (4x4)
    is that of its upper left corner in `body` ("world", or a body of the arm): x right, y down, z into the board. It touches
    nothing."""

    picture: np.ndarray
    size_m: tuple[float, float]
    pose: np.ndarray
    body: str = "world"


def add_board(spec: mujoco.MjSpec, board: PictureBoard, name: str = "picture_board") -> None:
    picture = board.picture if board.picture.ndim == 3 else np.repeat(board.picture[..., None], 3, -1)
    height, width = picture.shape[:2]
    texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height, nchannel=3)
    texture.data = np.ascontiguousarray(picture).tobytes()
    material = spec.add_material(name=name, texrepeat=(1, 1), specular=0, shininess=0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    # A box, as planes cannot move. Its z looks out of the picture, its y up in it.
    centre = board.pose @ [board.size_m[0] / 2, board.size_m[1] / 2, _THICKNESS_M / 2, 1]
    turn = Rotation.from_matrix(board.pose[:3, :3] @ np.diag([1.0, -1.0, -1.0]))
    spec.body(board.body).add_geom(
        name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=(board.size_m[0] / 2, board.size_m[1] / 2, _THICKNESS_M / 2), pos=centre[:3],
        quat=turn.as_quat(scalar_first=True), material=name, mass=0, contype=0, conaffinity=0,
    )  # fmt: skip


def usual_board(place: str) -> PictureBoard:
    """The usual board at one of BOARDS."""
    body, centre, turn = _PLACES[place]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, centre - turn @ [_SIZE_M[0] / 2, _SIZE_M[1] / 2, 0]
    return PictureBoard(np.asarray(Image.open(_PICTURE).convert("L")), _SIZE_M, pose, body)
