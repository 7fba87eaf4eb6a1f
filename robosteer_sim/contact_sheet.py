"""One picture of the lab: every task, and one task in every variation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from robosteer_core.errors import UserError
from robosteer_core.rig import Camera, Rig
from robosteer_sim.studio import Studio
from robosteer_sim.tasks import TASKS
from robosteer_sim.variations import VARIATIONS
from robosteer_sim.world import World

VARIED_TASK = "place the marker in the mug"
COLUMNS = 4
TILE_PX = (320, 240)
_CAPTION_PX = 16
_QUALITY = 80


def contact_sheet(rig: Rig, seed: int, out: Path) -> None:
    """Write the picture of the scenes of `seed`, as the first camera sees them, and with `sensor` also the depth image.

    Raises UserError for a file that is neither .jpg nor .png, and where nothing can be drawn.
    """
    if out.suffix not in (".jpg", ".png"):
        raise UserError(f"expected a file that ends in .jpg or .png, found {out}")
    camera, world, tiles = rig.cameras[0], World(rig), []
    cells = [(task, "none", task) for task in TASKS] + [(VARIED_TASK, v, v) for v in VARIATIONS if v != "none"]
    with Studio(rig) as studio:
        for task, variation, caption in cells:
            world.reset(task, seed, variation)
            studio.build(task, seed, variation)
            studio.pose(world.data.qpos)
            colour, depth = _tile(studio, camera)
            tiles.append((caption, colour))
            if variation == "sensor":
                tiles.append(("sensor: depth", depth))
    width, height = TILE_PX[0], TILE_PX[1] + _CAPTION_PX
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (caption, tile) in enumerate(tiles):
        corner = (number % COLUMNS * width, number // COLUMNS * height)
        pen.text((corner[0] + 4, corner[1] + 2), caption, "black")
        sheet.paste(tile, (corner[0], corner[1] + _CAPTION_PX))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, quality=_QUALITY)


def _tile(studio: Studio, camera: Camera) -> tuple[Image.Image, Image.Image]:
    colour, depth = studio.draw(camera)
    near, far = np.percentile(depth[depth > 0], (1, 95))
    grey = np.where(depth > 0, np.clip(40 + 215 * (depth - near) / (far - near), 40, 255), 0).astype(np.uint8)
    return Image.fromarray(colour).resize(TILE_PX), Image.fromarray(grey).convert("RGB").resize(TILE_PX)
