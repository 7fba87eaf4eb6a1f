"""Pictures as policies take them: each family was trained with its own way of bringing them to size."""

from __future__ import annotations

import numpy as np
from PIL import Image


def resize(image: np.ndarray, size: int, rule: str = "robosteer") -> np.ndarray:
    """An image (H, W, 3) uint8 as (size, size, 3); a rule is a `PolicyConfig.preprocessing`.

    `robosteer`: averages over areas; the aspect ratio is not kept.
    """
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))
