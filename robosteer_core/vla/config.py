"""How a checkpoint describes its inputs and actions: `policy.json`, the contract between a policy and a rig."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig

CONFIG_FILE = "policy.json"

Family = Literal["pi0", "pi05", "smolvla", "openvla", "openvla_oft"]
#: Whose way of preparing images and words a policy was trained with; see `images.resize` and the families' prompts.
Preprocessing = Literal["robosteer", "openpi", "lerobot", "openvla", "openvla_crop"]


class Normalisation(BaseModel):
    """Mean and standard deviation per dimension; a constant dimension has standard deviation 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(values: np.ndarray) -> Normalisation:
        """From samples (N, dimensions)."""
        values = np.asarray(values, np.float64)  # sums in float32 would give a constant 0.1 of 3000 frames a deviation of 3e-6
        std = values.std(axis=0)
        return Normalisation(mean=tuple(map(float, values.mean(axis=0))), std=tuple(map(float, np.where(std < 1e-6, 1, std))))

    def normalise(self, values: np.ndarray) -> np.ndarray:
        return ((values - np.array(self.mean)) / np.array(self.std)).astype(np.float32)

    @property
    def width(self) -> int:
        return len(self.mean)

    def denormalise(self, values: np.ndarray) -> np.ndarray:
        return values * np.array(self.std) + np.array(self.mean)


class Quantiles(BaseModel):
    """Low and high bound per dimension (the quantiles 0.01 and 0.99), which become -1 and 1.

    Where `mask` is False a dimension is taken as it is, as OpenVLA takes the gripper. With `clip` normalised values are
    cut to [-1, 1] (OpenVLA); pi0.5 lets them go beyond. A dimension whose bounds are equal becomes -1. `tail` is the share of
    samples below the low bound, and above the high one: 0 where the bounds are minimum and maximum, as they are of a dimension
    that seldom leaves one value, whose quantiles are equal but for rounding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    low: tuple[float, ...]
    high: tuple[float, ...]
    mask: tuple[bool, ...] | None = None
    clip: bool = False
    tail: float = 0.01

    @staticmethod
    def of(values: np.ndarray, tail: float = 0.01) -> Quantiles:
        """From samples (N, dimensions)."""
        low, high = np.quantile(values, (tail, 1 - tail), axis=0)
        rounding = 8 * np.finfo(np.float32).eps * np.abs(values).max(0)
        low, high = np.where(high - low <= rounding, (values.min(0), values.max(0)), (low, high))
        return Quantiles(low=tuple(map(float, low)), high=tuple(map(float, high)), tail=tail)

    def normalise(self, values: np.ndarray) -> np.ndarray:
        scaled = 2 * (values - np.array(self.low)) / self._range() - 1
        scaled = np.clip(scaled, -1, 1) if self.clip else scaled
        return self._where(scaled, values).astype(np.float32)

    @property
    def width(self) -> int:
        return len(self.low)

    def denormalise(self, values: np.ndarray) -> np.ndarray:
        return self._where((values + 1) / 2 * self._range() + np.array(self.low), values)

    def _range(self) -> np.ndarray:
        width = np.array(self.high) - np.array(self.low)
        return np.where(width == 0, 1e-8, width)

    def _where(self, scaled: np.ndarray, plain: np.ndarray) -> np.ndarray:
        return scaled if self.mask is None else np.where(np.array(self.mask), scaled, plain)


Statistics = Normalisation | Quantiles


def new_statistics(old: Statistics, values: np.ndarray) -> Statistics:
    """Statistics of samples (N, dimensions), of the kind that the policy was trained with."""
    if isinstance(old, Normalisation):
        return Normalisation.of(values)
    return Quantiles.of(values, old.tail).model_copy(update={"mask": old.mask, "clip": old.clip})


class PolicyConfig(BaseModel):
    """The contract of a checkpoint: which inputs it takes, in which order, and what its actions mean.

    A policy that takes no state has no `state_names`. `action_hz` is 0 where a checkpoint of the hub names neither rate nor
    dimensions: it is `unnamed`, and takes them, and its cameras, from the first dataset that it is fitted to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: Family
    preprocessing: Preprocessing = "robosteer"
    cameras: tuple[str, ...]
    image_size: int
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    action_hz: float
    instruction_tokens: int = Field(ge=2)
    flow_steps: int = Field(ge=1)
    state: Statistics
    action: Statistics

    @property
    def unnamed(self) -> bool:
        return self.action_hz == 0

    def require_rig(self, rig: Rig) -> None:
        """Raises UserError where this policy's actions would mean something else on the rig, or it could see nothing."""
        if self.unnamed:
            raise UserError(
                f"the policy is a checkpoint of the hub, which does not say what its actions are on rig {rig.name!r}; fit it to "
                "demonstrations of the rig with `robosteer finetune` (`--heads none` trains nothing), then give its --adapter too"
            )
        cameras = tuple(camera.name for camera in rig.cameras)
        for what, mine, there in (
            ("actions", self.action_names, rig.action_space.names),
            ("state", self.state_names, rig.state_names),
            ("actions per second", self.action_hz, rig.rates.policy_hz),
        ):
            if what == "state" and not mine:
                continue
            if mine != there:
                raise UserError(f"the policy and rig {rig.name!r} differ in {what}: {mine} and {there}; choose the rig that it was trained for")
        if not set(self.cameras) & set(cameras):
            raise UserError(f"the policy sees by the cameras {', '.join(self.cameras)}; rig {rig.name!r} has {', '.join(cameras)}; rename them")

    def save(self, folder: Path) -> None:
        (folder / CONFIG_FILE).write_text(self.model_dump_json(indent=2, exclude_defaults=True) + "\n")

    @staticmethod
    def load(folder: Path) -> PolicyConfig:
        """Raises UserError where the folder holds no policy of ours."""
        path = Path(folder) / CONFIG_FILE
        if not path.is_file():
            raise UserError(f"no policy in {folder}: expected a folder with {CONFIG_FILE}, config.json and model.safetensors")
        try:
            return PolicyConfig.model_validate(json.loads(path.read_text()))
        except ValueError as error:
            raise UserError(f"{path} does not describe a policy: {error}") from error
