"""Textures for table and floor, computed: no picture is shipped or fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

SIZE = 128


def texture(name: str, seed: int | Sequence[int]) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8 RGB of one of TEXTURES in two colours that the seed draws; its opposite edges match."""
    random = np.random.default_rng(seed)
    light, dark = random.uniform(0.45, 0.95, 3), random.uniform(0.1, 0.6, 3)
    share = TEXTURES[name](random)[..., None]
    return np.rint(255 * (share * light + (1 - share) * dark)).astype(np.uint8)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y, each (SIZE, SIZE) in [0, 1)."""
    steps = np.arange(SIZE) / SIZE
    return np.meshgrid(steps, steps)


def _clouds(random: np.random.Generator, rough: float = 1.6) -> np.ndarray:
    """Smooth noise in [0, 1] whose amplitude falls with the frequency to the power `rough`."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE))) * SIZE
    spectrum = np.fft.fft2(random.normal(size=(SIZE, SIZE))) / np.maximum(frequency, 1.0) ** rough
    noise = np.fft.ifft2(spectrum).real
    return (noise - noise.min()) / np.ptp(noise)


def _wood(random: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (6 * y + 1.5 * _clouds(random, 2.0)))
    return 0.75 * rings + 0.25 * np.roll(_clouds(random, 1.0), 5, 0)


def _marble(random: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    return np.abs(np.sin(np.pi * (2 * x + 2 * y + 4 * _clouds(random)))) ** 0.4


def _granite(random: np.random.Generator) -> np.ndarray:
    return np.clip(_clouds(random, 0.4), 0, 1)


def _checks(random: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    count = int(random.choice([4, 8]))
    return ((x * count).astype(int) + (y * count).astype(int)) % 2.0


def _stripes(random: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    return ((x * int(random.choice([6, 10, 16]))) % 1.0 < 0.5).astype(float)


def _weave(random: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    over = ((x * 16).astype(int) + (y * 16).astype(int)) % 2 == 0
    return np.where(over, np.abs(np.sin(16 * np.pi * x)), np.abs(np.sin(16 * np.pi * y)))


def _dots(random: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    count = int(random.choice([5, 8]))
    return (np.hypot((x * count) % 1 - 0.5, (y * count) % 1 - 0.5) > 0.28).astype(float)


def _tiles(random: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    joint = ((x * 4) % 1 < 0.06) | ((y * 4) % 1 < 0.06)
    return np.where(joint, 0.0, 0.7 + 0.3 * _clouds(random, 1.0))


#: A share of the lighter colour in [0, 1], (SIZE, SIZE), from a generator.
TEXTURES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "wood": _wood, "marble": _marble, "granite": _granite, "checks": _checks, "stripes": _stripes, "weave": _weave, "dots": _dots,
    "tiles": _tiles,
}  # fmt: skip
