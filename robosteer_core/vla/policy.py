"""What every policy is: observation in, actions out; and how its checkpoint describes its inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig

CONFIG_FILE = "policy.json"


class Normalisation(BaseModel):
    """Mean and standard deviation per dimension; a constant dimension has standard deviation 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(values: np.ndarray) -> Normalisation:
        """From samples (N, dimensions)."""
        std = values.std(axis=0)
        return Normalisation(mean=tuple(map(float, values.mean(axis=0))), std=tuple(map(float, np.where(std < 1e-6, 1, std))))

    def normalise(self, values: np.ndarray) -> np.ndarray:
        return ((values - np.array(self.mean)) / np.array(self.std)).astype(np.float32)

    def denormalise(self, values: np.ndarray) -> np.ndarray:
        return values * np.array(self.std) + np.array(self.mean)


class PolicyConfig(BaseModel):
    """The contract of a checkpoint: which inputs it takes, in which order, and what its actions mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: Literal["pi0"]
    cameras: tuple[str, ...]
    image_size: int
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    action_hz: float
    instruction_tokens: int
    flow_steps: int
    state: Normalisation
    action: Normalisation

    def require_rig(self, rig: Rig) -> None:
        """Raises UserError where this policy's actions would mean something else on the rig, or it could see nothing."""
        cameras = tuple(camera.name for camera in rig.cameras)
        for what, mine, there in (
            ("actions", self.action_names, rig.action_space.names),
            ("state", self.state_names, rig.state_names),
            ("actions per second", self.action_hz, rig.rates.policy_hz),
        ):
            if mine != there:
                raise UserError(f"the policy and rig {rig.name!r} differ in {what}: {mine} and {there}; choose the rig that it was trained for")
        if not set(self.cameras) & set(cameras):
            raise UserError(f"the policy sees by the cameras {', '.join(self.cameras)}; rig {rig.name!r} has {', '.join(cameras)}; rename them")

    def save(self, folder: Path) -> None:
        (folder / CONFIG_FILE).write_text(self.model_dump_json(indent=2) + "\n")

    @staticmethod
    def load(folder: Path) -> PolicyConfig:
        """Raises UserError where the folder holds no policy of ours."""
        path = Path(folder) / CONFIG_FILE
        if not path.is_file():
            raise UserError(f"no policy in {folder}: expected a folder with {CONFIG_FILE}, config.json and model.safetensors")
        try:
            return PolicyConfig.model_validate(json.loads(path.read_text()))
        except (ValidationError, json.JSONDecodeError) as error:
            raise UserError(f"{path} does not describe a policy: {error}") from error


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """An image (H, W, 3) uint8 as (size, size, 3) uint8, by averaging over areas; the aspect ratio is not kept."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))
