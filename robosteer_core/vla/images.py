"""Pictures as policies take them: each family was trained with its own way of bringing them to size."""

from __future__ import annotations

import numpy as np
from PIL import Image

#: Side of OpenVLA's central crop: it keeps nine tenths of the area.
CROP_SIDE = 0.9**0.5


def resize(image: np.ndarray, size: int, rule: str = "robosteer") -> np.ndarray:
    """An image (H, W, 3) uint8 as (size, size, 3) with values of 0 to 255; uint8 unless the rule works in fractions.

    `robosteer`: averages over areas; the aspect ratio is not kept. `openpi`: the largest that fits, bilinear with
    antialiasing, centred on black. `lerobot`: the same without antialiasing, in fractions. `smolvla`: as `lerobot`, at
    the lower right of black. `openvla`: bicubic with antialiasing; the aspect ratio is not kept. `openvla_crop`: Lanczos with
    antialiasing, and of that the centre, 0.9 of the area, brought back to size bilinearly, as evaluations of finetuned
    OpenVLA and OpenVLA-OFT do (they also send the image through JPEG first, which is left out); `openvla_whole` is that
    without the crop.
    """
    if rule == "openvla_crop":
        return _cropped(resize(image, size, "openvla_whole"), size)
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    if rule == "robosteer":
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))
    if rule == "openvla":
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    if rule == "openvla_whole":
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))
    ratio = max(width / size, height / size)
    inner_height, inner_width = int(height / ratio), int(width / ratio)
    if rule == "openpi":
        inner = np.asarray(Image.fromarray(image).resize((inner_width, inner_height), Image.Resampling.BILINEAR))
    else:
        import torch  # here, so that a policy on another machine is asked without it
        from torch.nn import functional as F

        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        inner = F.interpolate(pixels, size=(inner_height, inner_width), mode="bilinear")[0].permute(1, 2, 0).numpy()
    top, left = size - inner_height, size - inner_width
    if rule != "smolvla":
        top, left = top // 2, left // 2
    framed = np.zeros((size, size, 3), inner.dtype)
    framed[top : top + inner_height, left : left + inner_width] = inner
    return framed


def store(image: np.ndarray, size: int, rule: str) -> np.ndarray:
    """An image to be kept, (size, size, 3) uint8: `resize` makes of it what it makes of the image itself, to half a level."""
    return np.rint(resize(image, size, rule.replace("_crop", "_whole"))).astype(np.uint8)


def _cropped(image: np.ndarray, size: int) -> np.ndarray:
    """As TensorFlow's `crop_and_resize`: corners fall on corners of the box, samples are bilinear between pixel centres."""
    low, high = (1 - CROP_SIDE) / 2 * (size - 1), (1 + CROP_SIDE) / 2 * (size - 1)
    places = np.linspace(low, high, size)
    before = np.floor(places).astype(int)
    share = (places - before)[:, None]
    after = np.minimum(before + 1, size - 1)
    rows = image[before] * (1 - share[:, None]) + image[after] * share[:, None]
    both = rows[:, before] * (1 - share) + rows[:, after] * share
    # TensorFlow's way back to whole numbers: scaled by 255.5 and cut.
    return np.clip(both / 255 * 255.5, 0, 255).astype(np.uint8)
