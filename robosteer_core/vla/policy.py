"""What every policy is: an observation in, actions out; and what those that follow a flow have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from robosteer_core.errors import UserError
from robosteer_core.files import written_folder
from robosteer_core.runtime.observation import Observation
from robosteer_core.vla.config import Family, PolicyConfig
from robosteer_core.vla.decoder import KeyValue, Rotary
from robosteer_core.vla.images import resize
from robosteer_core.vla.sites import Sites

TOKENIZER_FILE = "tokenizer.json"


class Tokenizer(Protocol):
    """Texts -> ids and mask, each (batch, length) int64."""

    @property
    def vocabulary_size(self) -> int: ...

    def __call__(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]: ...
    def save(self, path: Path) -> None: ...


@dataclass(frozen=True)
class Inputs:
    """A batch as the model takes it: `pixels` (B, cameras, 3, H, W) in [-1, 1], `ids` and `mask` (B, T), `state` (B, S)
    normalised. Cameras that an observation lacks are left out of the prefix."""

    pixels: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    state: torch.Tensor


@dataclass(frozen=True)
class Prefix:
    """What the suffix needs of the prefix: each layer's keys and values, `mask` (B, tokens) bool, and the backbone's
    hidden states after each layer, (B, tokens, width)."""

    key_values: list[KeyValue]
    mask: torch.Tensor
    hidden: list[torch.Tensor]

    def repeated(self, times: int) -> Prefix:
        """Every sample `times` times, for several noise draws per prefix."""
        pairs = [(k.repeat_interleave(times, 0), v.repeat_interleave(times, 0)) for k, v in self.key_values]
        return Prefix(pairs, self.mask.repeat_interleave(times, 0), self.hidden)


@dataclass(frozen=True)
class Frame:
    """Where the suffix's tokens stand and look: rotary angles of their positions, and `mask` (B, 1, tokens, prefix + tokens)."""

    rotary: Rotary
    mask: torch.Tensor


class Policy(nn.Module, ABC):
    """A checkpoint with its own preprocessing.

    `model` is the module that holds the weights; `sites` addresses its heads; `config` says what its inputs and actions
    mean; `source` is the checkpoint folder, None for a policy that was not loaded from one.
    """

    family: ClassVar[Family]
    #: What `losses` are, in words.
    loss_name: ClassVar[str]
    model: nn.Module

    def __init__(self, model: nn.Module, config: PolicyConfig, tokenizer: Tokenizer, source: Path | None = None) -> None:
        super().__init__()
        self.model, self.config, self.tokenizer, self.source = model, config, tokenizer, source
        self.eval()

    @cached_property
    def sites(self) -> Sites:
        """Where the heads and feed-forward layers are; module paths are relative to `model`."""
        return self._sites()

    @abstractmethod
    def _sites(self) -> Sites: ...

    @property
    @abstractmethod
    def chunk_size(self) -> int:
        """Actions that are predicted at once."""

    @property
    @abstractmethod
    def action_dim(self) -> int:
        """Width of the model's action vectors; those of the robot are padded to it with zeros."""

    @property
    @abstractmethod
    def state_dim(self) -> int:
        """Width of the model's state vectors, 0 where it takes none; those of the robot are padded to it with zeros."""

    @property
    @abstractmethod
    def vision_size(self) -> int:
        """Pixels of a side of the images that the vision tower takes."""

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """The language model (part `vlm`), with `layers`, `norm` and `embed_tokens`."""

    @abstractmethod
    def predict(self, inputs: Inputs, generator: torch.Generator) -> torch.Tensor:
        """Normalised actions (B, chunk, action_dim)."""

    @abstractmethod
    def losses(self, inputs: Inputs, actions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The family's own training loss of normalised `actions` (B, chunk, action_dim), not yet averaged, of that shape."""

    @abstractmethod
    def _save_model(self, folder: Path) -> None:
        """Write weights and configuration of `model` into a folder that is there."""

    def save(self, folder: Path) -> None:
        """Write the checkpoint into `folder`, which appears whole or not at all where it did not exist."""
        with written_folder(Path(folder)) as part:
            self._save_model(part)
            self.config.save(part)
            self.tokenizer.save(part / TOKENIZER_FILE)

    # --- inputs -----------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; actions, states and times stay float32."""
        return next(self.model.parameters()).dtype

    def inputs(self, images: dict[str, np.ndarray], state: np.ndarray, instructions: list[str]) -> Inputs:
        """From `images` by camera name, each (B, H, W, 3) uint8; `state` (B, S) in the robot's units; B instructions.

        Raises UserError where no camera of the policy is given or the state has another width.
        """
        size = self.config.image_size
        present = [name for name in self.config.cameras if name in images]
        if not present:
            raise UserError(f"the policy sees by {', '.join(self.config.cameras)}; found: {', '.join(images) or 'no camera'}")
        width = len(self.config.state_names)
        if width and (state.ndim != 2 or state.shape[1] != width):
            raise UserError(f"the policy takes a state of shape (batch, {width}); found {state.shape}")
        stacks = [np.stack([resize(image, size, self.image_rule) for image in images[name]]) for name in present]
        pixels = torch.from_numpy(np.stack(stacks, axis=1)).permute(0, 1, 4, 2, 3).float() / 127.5 - 1.0
        ids, mask = self.tokens(instructions, state)
        there = self.device
        return Inputs(
            pixels.to(there), torch.from_numpy(ids).to(there), torch.from_numpy(mask).to(there), self.normalised_state(state).to(there)
        )  # fmt: skip

    @property
    def image_rule(self) -> str:
        """How images are brought to size, see `images.resize`."""
        return self.config.preprocessing

    def tokens(self, instructions: list[str], state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask, each (B, T), of what the policy reads; `state` (B, S) in the robot's units."""
        return self.tokenizer(instructions)

    def normalised_state(self, state: np.ndarray) -> torch.Tensor:
        """(B, S) in the robot's units -> (B, model's state width)."""
        if not self.config.state_names:
            return torch.zeros(len(state), 0)
        return _padded(self.config.state.normalise(state), self.state_dim)

    def normalised_actions(self, actions: np.ndarray) -> torch.Tensor:
        """(B, chunk, A) in the robot's units -> (B, chunk, model's action width)."""
        return _padded(self.config.action.normalise(actions), self.action_dim)

    @torch.inference_mode()
    def act(self, observation: Observation, generator: torch.Generator) -> np.ndarray:
        """Actions (chunk, A) in the robot's units for one observation."""
        images = {name: frame.colour[None] for name, frame in observation.frames.items()}
        inputs = self.inputs(images, observation.arm.vector()[None], [observation.instruction])
        predicted = self.predict(inputs, generator)[0].float().cpu().numpy()
        return self.config.action.denormalise(predicted[:, : len(self.config.action_names)])


class FlowPolicy(Policy):
    """A policy that integrates a flow from noise to actions: the prefix (images, instruction) runs once, the suffix (noisy
    actions, action expert) once per denoising step over the prefix's keys and values.

    Time runs from 1 (noise) to 0 (action), as in openpi. Parts of such a model: `vision`, `vlm` (the backbone), `expert`.
    """

    loss_name = "squared error of the flow"
    #: Index of the first action's token in the suffix.
    first_action_token: ClassVar[int]

    @property
    def sizes(self):
        """The model's sizes and its constants of times: `chunk_size`, `max_action_dim`, `max_state_dim`, `min_period`, ..."""
        return self.model.sizes

    @property
    def chunk_size(self) -> int:
        return self.sizes.chunk_size

    @property
    def action_dim(self) -> int:
        return self.sizes.max_action_dim

    @property
    def state_dim(self) -> int:
        return self.sizes.max_state_dim

    @property
    @abstractmethod
    def expert(self) -> nn.Module:
        """The action expert (part `expert`)."""

    @abstractmethod
    def embed(self, inputs: Inputs, features: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (B, tokens, width) of the prefix, and which tokens count, (B, tokens) bool.

        `features` are the images' (see `image_features`) where they are known already.
        """

    @abstractmethod
    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, cameras, 3, H, W) -> (B, tokens, width), by the vision tower and its projector."""

    @abstractmethod
    def run_backbone(
        self, hidden: torch.Tensor, mask: torch.Tensor, *, first: int = 0, stop: int | None = None, for_suffix: bool = False
    ) -> tuple[list[torch.Tensor], list[KeyValue]]:
        """Layers `first` to `stop` - 1 of the backbone on what enters the first of them; see `decoder.run_layers`."""

    def prefix(self, inputs: Inputs, features: torch.Tensor | None = None) -> Prefix:
        """Run the backbone over images and instruction; `features` are the images' where they are known already."""
        embeddings, mask = self.embed(inputs, features)
        hidden, key_values = self.run_backbone(embeddings, mask)
        return Prefix(key_values, mask, hidden)

    @abstractmethod
    def frame(self, prefix: Prefix) -> Frame:
        """What is the same at every denoising step over this prefix."""

    @abstractmethod
    def time_features(self, time: torch.Tensor) -> torch.Tensor:
        """What the expert gets of `time` (B,)."""

    @abstractmethod
    def step(self, prefix: Prefix, frame: Frame, state: torch.Tensor, noisy: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The velocity (B, chunk, A) at `noisy`, with the `time_features` of the time."""

    def velocity(self, prefix: Prefix, state: torch.Tensor, noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The flow's velocity (B, chunk, A) at `noisy` (B, chunk, A), `time` (B,), for `state` (B, S)."""
        return self.step(prefix, self.frame(prefix), state, noisy, self.time_features(time))

    def sample(self, prefix: Prefix, state: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Normalised actions (B, chunk, A) by Euler steps from `noise`: masks, positions and times are made before the first."""
        steps, actions, frame = self.config.flow_steps, noise, self.frame(prefix)
        times = (torch.full((len(noise),), 1.0 - step / steps, device=noise.device) for step in range(steps))
        for features in [self.time_features(time) for time in times]:
            actions = actions - self.step(prefix, frame, state, actions, features) / steps
        return actions

    def loss(self, prefix: Prefix, state: torch.Tensor, actions: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Flow matching: x_t = t noise + (1 - t) actions, target noise - actions; (B, chunk, A) squared errors."""
        t = time[:, None, None]
        return (self.velocity(prefix, state, t * noise + (1 - t) * actions, time) - (noise - actions)) ** 2

    def losses(self, inputs: Inputs, actions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise, time = self.draw_noise(len(actions), generator), self.draw_time(len(actions), generator)
        return self.loss(self.prefix(inputs), inputs.state, actions, noise, time)

    def predict(self, inputs: Inputs, generator: torch.Generator) -> torch.Tensor:
        noise = self.draw_noise(len(inputs.ids), generator)
        return self.sample(self.prefix(inputs), inputs.state, noise)

    def draw_noise(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """(count, chunk, A) standard normal; `generator` is one of the CPU, so that every device gets the same numbers."""
        return torch.randn(count, self.chunk_size, self.action_dim, generator=generator).to(self.device)

    def draw_time(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Times of training, 0.999 Beta(1.5, 1) + 0.001: for Beta(a, 1) the quantile function is u^(1/a)."""
        sizes = self.sizes
        uniform = torch.rand(count, generator=generator)
        return (sizes.time_sampling_scale * uniform ** (1 / sizes.time_sampling_beta_alpha) + sizes.time_sampling_offset).to(self.device)


def sinusoid(time: torch.Tensor, width: int, min_period: float, max_period: float) -> torch.Tensor:
    """(B,) -> (B, width): sines, then cosines, of periods that grow geometrically; worked out in float64, as in openpi."""
    period = min_period * (max_period / min_period) ** torch.linspace(0, 1, width // 2, dtype=torch.float64, device=time.device)
    angle = time[:, None].double() * (2 * torch.pi / period)
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def prefix_positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions of the prefix's tokens: padding takes none."""
    return mask.long().cumsum(-1) - 1


def _padded(values: np.ndarray, width: int) -> torch.Tensor:
    missing = width - values.shape[-1]
    return torch.nn.functional.pad(torch.from_numpy(np.ascontiguousarray(values, np.float32)), (0, missing))
