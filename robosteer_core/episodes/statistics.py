"""Statistics of a dataset in the form of LeRobot's stats.json, and the scale by which actions are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
#: An image is thinned to about this many pixels a side before its pixels are counted, as LeRobot does.
THINNED_PIXELS = 150

Statistics = dict[str, np.ndarray]


def quantile_key(quantile: float) -> str:
    return f"q{round(quantile * 100):02d}"


def of_array(values: np.ndarray) -> Statistics:
    """min, max, mean, std, count and exact quantiles of `values` (N, D) or (N,), each (D,) or (1,)."""
    values = values.reshape(len(values), -1)
    wide = values.astype(np.float64)
    statistics = {"min": values.min(0), "max": values.max(0), "mean": wide.mean(0), "std": wide.std(0)}
    quantiles = np.quantile(wide, QUANTILES, axis=0)
    return statistics | {"count": np.array([len(values)])} | dict(zip(map(quantile_key, QUANTILES), quantiles))


class ImageHistogram:
    """Counts of pixel values per channel, from which an image feature's statistics follow exactly."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, 256), np.int64)
        self.images = 0

    def add(self, image: np.ndarray) -> None:
        """`image` (height, width, 3) uint8."""
        step = max(1, max(image.shape[:2]) // THINNED_PIXELS)
        for channel in range(3):
            self.counts[channel] += np.bincount(image[::step, ::step, channel].ravel(), minlength=256)
        self.images += 1

    def statistics(self) -> Statistics:
        """Each (3, 1, 1), pixel values scaled to [0, 1]; `count` (1,) is the number of images."""
        values = np.arange(256) / 255.0
        share = self.counts / self.counts.sum(1, keepdims=True)
        mean = share @ values
        present = self.counts > 0
        cumulative = share.cumsum(1)
        found = {
            "min": values[present.argmax(1)],
            "max": values[255 - present[:, ::-1].argmax(1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(share @ values**2 - mean**2, 0.0)),
            **{quantile_key(q): values[(cumulative >= q - 1e-12).argmax(1)] for q in QUANTILES},
        }
        return {key: value.reshape(3, 1, 1) for key, value in found.items()} | {"count": np.array([self.images])}


def combine(parts: Sequence[Statistics]) -> Statistics:
    """Statistics of several episodes together; exact but for the quantiles, which are averaged by count as LeRobot does."""
    weights = np.array([float(part["count"][0]) for part in parts])
    weights /= weights.sum()

    def average(arrays: Iterable[np.ndarray]) -> np.ndarray:
        return sum(weight * np.asarray(array, float) for weight, array in zip(weights, arrays))

    mean = average(part["mean"] for part in parts)
    variance = average(np.asarray(part["std"]) ** 2 + (np.asarray(part["mean"]) - mean) ** 2 for part in parts)
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.sum([part["count"] for part in parts], axis=0),
        **{key: average(part[key] for part in parts) for key in map(quantile_key, QUANTILES)},
    }


def to_json(statistics: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, Any]]:
    return {key: {name: np.asarray(value).tolist() for name, value in of.items()} for key, of in statistics.items()}


def from_json(content: Mapping[str, Mapping[str, Any]]) -> dict[str, Statistics]:
    return {key: {name: np.array(value) for name, value in of.items()} for key, of in content.items()}


@dataclass(frozen=True)
class Scale:
    """`std` (D,) standard deviation of each dimension; `constant` names the dimensions that do not vary."""

    std: np.ndarray
    varies: np.ndarray
    constant: tuple[str, ...]

    def apply(self, values: np.ndarray) -> np.ndarray:
        """`values` (N, D) divided by `std`, constant dimensions dropped: (N, number that vary)."""
        return values[:, self.varies] / self.std[self.varies]


def scale(values: np.ndarray, names: Sequence[str]) -> Scale:
    """Per-dimension scale of `values` (N, D).

    A dimension is constant when its spread is no more than the rounding of its own float32 values.
    """
    std = values.astype(np.float64).std(0)
    rounding = 8 * np.finfo(np.float32).eps * np.maximum(np.abs(values).max(0), 1e-30)
    varies = std > rounding
    return Scale(std, varies, tuple(name for name, moves in zip(names, varies) if not moves))
