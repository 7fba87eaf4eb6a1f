"""What a real RGB-D camera adds to a picture: exposure and noise in colour, stereo noise and holes in depth.

Everything follows from (seed, camera, frame number). The random numbers are drawn once; each frame takes them from another
place of a larger tile.
"""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np

#: Distance between the two imagers of a RealSense D435 (datasheet), metres.
BASELINE_M = 0.050
#: Standard deviation of the matched disparity, pixels of a 640 pixel wide image (D400 tuning guide: 0.05 to 0.1 on texture).
DISPARITY_NOISE_PX = 0.08
#: Widest shadow of a near edge that is looked for, pixels.
_WIDEST_SHADOW_PX = 24
#: A surface that falls away by more than this per pixel, relative to its distance, is not matched.
_STEEPEST_PER_PX = 0.012
#: Surfaces darker than this give the imagers little to match: that share of their pixels has no depth.
_DARK, _DARK_HOLES = 40, 0.3
#: Exposure: factors of two; white balance: gain per channel.
EXPOSURE_STOPS, WHITE_BALANCE = 0.5, 0.06
#: Electrons at full scale and of read noise, of a small global-shutter pixel at indoor gain.
FULL_WELL, READ_NOISE = 3000.0, 8.0
_MARGIN_PX = 64
_FINE = 16


class Sensor:
    """One camera's sensor of (seed, camera name) for images of `height` x `width` with focal length `focal_px`."""

    def __init__(self, seed: int, camera: str, height: int, width: int, focal_px: float) -> None:
        self._seed = [seed, zlib.crc32(camera.encode())]
        self._height, self._width = height, width
        self._focal_baseline = focal_px * BASELINE_M
        random = np.random.default_rng(self._seed)
        gains = 2 ** random.uniform(-EXPOSURE_STOPS, EXPOSURE_STOPS) * (1 + random.uniform(-WHITE_BALANCE, WHITE_BALANCE, 3))
        # In electrons' square root shot noise is the same everywhere: into it, add, and back, by tables.
        electrons = np.clip(np.arange(256)[:, None] / 255 * gains, 0, 1) * FULL_WELL
        self._into = np.rint(_FINE * 2 * np.sqrt(electrons + READ_NOISE**2)).astype(np.int16)
        roots = np.arange(_FINE * 2 * int(np.sqrt(FULL_WELL + READ_NOISE**2) + 8)) / (2 * _FINE)
        self._back = np.clip(np.rint((roots**2 - READ_NOISE**2) / FULL_WELL * 255), 0, 255).astype(np.uint8)
        self._roots = np.empty((height, width, 3), np.int16)

    def expose(self, colour: np.ndarray, depth_m: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """What the sensor makes of frame `number`: colour (height, width, 3) uint8 and depth (height, width) float32 [m], in
        which 0 is a hole."""
        down, right = np.random.default_rng([*self._seed, number]).integers(0, _MARGIN_PX, 2)
        grain, ripple, lots = _tiles(self._height, self._width)
        window = np.s_[down : down + self._height, right : right + self._width]
        holes = self._holes(colour, depth_m, lots[window][::2, ::2])
        return self._colour(colour, grain[window]), self._depth(depth_m, ripple[window], holes)

    def _colour(self, colour: np.ndarray, grain: np.ndarray) -> np.ndarray:
        roots = self._roots
        for channel in range(3):
            np.take(self._into[:, channel], colour[..., channel], out=roots[..., channel])
        roots += grain
        return self._back.take(roots, mode="clip")

    def _depth(self, depth_m: np.ndarray, ripple: np.ndarray, holes: np.ndarray) -> np.ndarray:
        # z = f b / d, so that a disparity's error of s pixels is one of s z^2 / (f b) in the distance.
        noisy = depth_m * depth_m
        noisy *= ripple
        noisy *= np.float32(DISPARITY_NOISE_PX / self._focal_baseline)
        noisy += depth_m
        noisy.reshape(self._height // 2, 2, self._width // 2, 2).transpose(0, 2, 1, 3)[holes] = 0
        return noisy

    def _holes(self, colour: np.ndarray, depth_m: np.ndarray, lots: np.ndarray) -> np.ndarray:
        """Where one imager sees what the other does not, and where neither sees enough; (height / 2, width / 2) bool."""
        coarse = depth_m[::2, ::2]
        disparity = np.float32(self._focal_baseline / 2) / coarse
        holes = np.zeros(coarse.shape, bool)
        # The background to the left of a near edge is hidden from the right imager, as far as the disparities differ.
        for shift in (1, 2, 4, 7, _WIDEST_SHADOW_PX // 2):
            holes[:, :-shift] |= disparity[:, shift:] - disparity[:, :-shift] > shift
        steep = np.abs(coarse[:, 1:] - coarse[:, :-1])
        holes[:, 1:] |= steep > np.float32(2 * _STEEPEST_PER_PX) * coarse[:, 1:]
        holes |= (colour[::2, ::2, 1] < _DARK) & (colour[::2, ::2, 0] < _DARK) & (colour[::2, ::2, 2] < _DARK) & lots
        return holes


@cache
def _tiles(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random numbers of every frame, with a margin: of colour (h, w, 3) int16, of depth (h, w) float32 with standard deviation 1
    and the correlation of a matching window, and which dark pixels are holes (h, w) bool."""
    random = np.random.default_rng(5)
    height, width = height + _MARGIN_PX, width + _MARGIN_PX
    grain = np.rint(random.normal(0, _FINE, (height, width, 3))).astype(np.int16)
    ripple = random.normal(size=(height, width))
    for axis in (0, 1):
        ripple = sum(np.roll(ripple, shift, axis) for shift in range(-2, 3))
    return grain, (ripple / ripple.std()).astype(np.float32), random.random((height, width)) < _DARK_HOLES
