"""Images that a dataset keeps inside its parquet files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Mapping

import numpy as np
from PIL import Image, UnidentifiedImageError

from robosteer_core.errors import UserError


def stored_image(cell: Mapping[str, object], folder: Path, where: str) -> np.ndarray:
    """The image of one cell {bytes, path} of an image column, (height, width, 3) uint8 RGB; `where` names it in errors.

    `path` is read, relative to the dataset's folder, when the cell holds no bytes. Raises UserError when neither is an image.
    """
    try:
        if cell.get("bytes") is not None:
            content = cell["bytes"]
        elif cell.get("path"):
            content = (folder / str(cell["path"])).read_bytes()
        else:
            raise OSError("it holds neither an image's bytes nor its path")
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise UserError(f"{where}: no readable image ({error}); restore the file or run `robosteer dataset repair`") from error
