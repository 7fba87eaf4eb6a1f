"""pi0 (arXiv 2410.24164) on transformers' `PI0ForConditionalGeneration`, with a sampling loop of our own.

The prefix (images and instruction, backbone) runs once; the suffix (state and noisy actions, action expert) runs once
per denoising step over the prefix's keys and values. Time runs from 1 (noise) to 0 (action), as in openpi.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PI0Config, PI0ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from robosteer_core.errors import UserError
from robosteer_core.runtime.observation import Observation
from robosteer_core.vla.gemma import KeyValue, run_layers
from robosteer_core.vla.policy import PolicyConfig, resize
from robosteer_core.vla.tokenizer import InstructionTokenizer

WEIGHTS_FILE, TOKENIZER_FILE = "model.safetensors", "tokenizer.json"

# What it would print while loading is checked below and said in one message.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


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


class Pi0Policy(nn.Module):
    """A pi0 checkpoint with its own preprocessing.

    `model` is transformers' module, `config` what the checkpoint says of its inputs.
    """

    def __init__(self, model: PI0ForConditionalGeneration, config: PolicyConfig, tokenizer: InstructionTokenizer) -> None:
        super().__init__()
        self.model, self.config, self.tokenizer = model, config, tokenizer
        self.eval()

    @property
    def chunk_size(self) -> int:
        return self.model.config.chunk_size

    @property
    def action_dim(self) -> int:
        """Width of the model's action vectors; those of the robot are padded to it with zeros."""
        return self.model.config.max_action_dim

    # --- inputs -----------------------------------------------------------------------------------------------------

    def inputs(self, images: dict[str, np.ndarray], state: np.ndarray, instructions: list[str]) -> Inputs:
        """From `images` by camera name, each (B, H, W, 3) uint8; `state` (B, S) in the robot's units; B instructions.

        Raises UserError where no camera of the policy is given or the state has another width.
        """
        size = self.config.image_size
        present = [name for name in self.config.cameras if name in images]
        if not present:
            raise UserError(f"the policy sees by {', '.join(self.config.cameras)}; found: {', '.join(images) or 'no camera'}")
        width = len(self.config.state_names)
        if state.ndim != 2 or state.shape[1] != width:
            raise UserError(f"the policy takes a state of shape (batch, {width}); found {state.shape}")
        stacks = [np.stack([resize(image, size) for image in images[name]]) for name in present]
        pixels = torch.from_numpy(np.stack(stacks, axis=1)).permute(0, 1, 4, 2, 3).float() / 127.5 - 1.0
        ids, mask = self.tokenizer(instructions)
        return Inputs(pixels, torch.from_numpy(ids), torch.from_numpy(mask), self.normalised_state(state))

    def normalised_state(self, state: np.ndarray) -> torch.Tensor:
        """(B, S) in the robot's units -> (B, model's state width)."""
        return _padded(self.config.state.normalise(state), self.model.config.max_state_dim)

    def normalised_actions(self, actions: np.ndarray) -> torch.Tensor:
        """(B, chunk, A) in the robot's units -> (B, chunk, model's action width)."""
        return _padded(self.config.action.normalise(actions), self.action_dim)

    # --- passes -----------------------------------------------------------------------------------------------------

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, cameras, 3, H, W) -> (B, tokens, width), by the vision tower and its projector."""
        features = self.model.model.vlm.get_image_features(pixels.flatten(0, 1)).pooler_output
        return features.reshape(pixels.shape[0], -1, features.shape[-1])

    def embed(self, inputs: Inputs, features: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (B, tokens, width) of images and instruction, and which tokens count, (B, tokens) bool.

        `features` are the images' where they are known already.
        """
        features = self.image_features(inputs.pixels) if features is None else features
        text = self.model.model.vlm.get_input_embeddings()(inputs.ids)
        mask = torch.cat([torch.ones(features.shape[:2], dtype=torch.bool), inputs.mask.bool()], dim=1)
        return torch.cat([features, text], dim=1), mask

    def prefix(self, inputs: Inputs, features: torch.Tensor | None = None) -> Prefix:
        """Run the backbone over images and instruction; `features` are the images' where they are known already."""
        embeddings, mask = self.embed(inputs, features)
        hidden, key_values = run_layers(self.backbone, embeddings, prefix_positions(mask), mask[:, None, None, :])
        return Prefix(key_values, mask, hidden)

    def velocity(self, prefix: Prefix, state: torch.Tensor, noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The flow's velocity (B, chunk, A) at `noisy` (B, chunk, A), `time` (B,), for `state` (B, S)."""
        suffix = self.model.embed_action_time(state, noisy, time)
        batch, tokens = suffix.shape[:2]
        positions = prefix.mask.long().sum(-1, keepdim=True) + torch.arange(tokens)
        # The state's token looks at the prefix and itself; the actions look at everything.
        block = torch.ones(tokens, tokens, dtype=torch.bool)
        block[0, 1:] = False
        mask = torch.cat([prefix.mask[:, None, :].expand(-1, tokens, -1), block.expand(batch, -1, -1)], dim=-1)
        hidden, _ = run_layers(self.expert, suffix, positions, mask[:, None], prefix.key_values)
        return self.model.action_out_proj(self.expert.norm(hidden[-1][:, 1:]))

    def loss(self, prefix: Prefix, state: torch.Tensor, actions: torch.Tensor, noise: torch.Tensor, time: torch.Tensor):
        """Flow matching: x_t = t noise + (1 - t) actions, target noise - actions; (B, chunk, A) squared errors."""
        t = time[:, None, None]
        return (self.velocity(prefix, state, t * noise + (1 - t) * actions, time) - (noise - actions)) ** 2

    def sample(self, prefix: Prefix, state: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Normalised actions (B, chunk, A) by Euler steps from `noise`."""
        steps, actions = self.config.flow_steps, noise
        for step in range(steps):
            time = torch.full((len(state),), 1.0 - step / steps)
            actions = actions - self.velocity(prefix, state, actions, time) / steps
        return actions

    def draw_time(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Times of training, 0.999 Beta(1.5, 1) + 0.001: for Beta(a, 1) the quantile function is u^(1/a)."""
        config = self.model.config
        uniform = torch.rand(count, generator=generator)
        return config.time_sampling_scale * uniform ** (1 / config.time_sampling_beta_alpha) + config.time_sampling_offset

    @torch.inference_mode()
    def act(self, observation: Observation, generator: torch.Generator) -> np.ndarray:
        """Actions (chunk, A) in the robot's units for one observation."""
        images = {name: frame.colour[None] for name, frame in observation.frames.items()}
        inputs = self.inputs(images, observation.arm.vector()[None], [observation.instruction])
        noise = torch.randn(1, self.chunk_size, self.action_dim, generator=generator)
        sampled = self.sample(self.prefix(inputs), inputs.state, noise)[0].numpy()
        return self.config.action.denormalise(sampled[:, : len(self.config.action_names)])

    @property
    def backbone(self):
        """The language model of the VLM (part `vlm`)."""
        return self.model.model.vlm.language_model

    @property
    def expert(self):
        """The action expert (part `expert`)."""
        return self.model.model.dit

    # --- files ------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the checkpoint into `folder`, which appears whole or not at all where it did not exist."""
        folder = Path(folder)
        part = folder.with_name(folder.name + ".part")
        part.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(part)
        self.config.save(part)
        self.tokenizer.save(part / TOKENIZER_FILE)
        if folder.exists():
            for file in part.iterdir():
                file.replace(folder / file.name)
            part.rmdir()
        else:
            part.rename(folder)


def load_policy(folder: Path | str) -> Pi0Policy:
    """Read a checkpoint folder. Raises UserError where something is missing, truncated or does not fit."""
    folder = Path(folder)
    config = PolicyConfig.load(folder)
    for name in ("config.json", WEIGHTS_FILE, TOKENIZER_FILE):
        if not (folder / name).is_file():
            raise UserError(f"the policy in {folder} lacks {name}")
    try:
        model, report = PI0ForConditionalGeneration.from_pretrained(
            folder, config=PI0Config.from_pretrained(folder), output_loading_info=True, local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are reported to us, and refused below by name
        )  # fmt: skip
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{folder / WEIGHTS_FILE} cannot be read ({error}); it may be truncated: copy it again") from error
    wrong = {key: sorted(map(str, report[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if report.get(key)}
    if wrong:
        raise UserError(f"{folder / WEIGHTS_FILE} does not fit its config.json: {wrong}")
    tokenizer = InstructionTokenizer.load(folder / TOKENIZER_FILE, config.instruction_tokens)
    return Pi0Policy(model.float(), config, tokenizer)


def fingerprint(folder: Path | str) -> str:
    """SHA-256 of the weights file: which base an adapter was made for."""
    return hashlib.sha256((Path(folder) / WEIGHTS_FILE).read_bytes()).hexdigest()


def prefix_positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions of the prefix's tokens: padding takes none."""
    return mask.long().cumsum(-1) - 1


def _padded(values: np.ndarray, width: int) -> torch.Tensor:
    missing = width - values.shape[-1]
    return torch.nn.functional.pad(torch.from_numpy(np.ascontiguousarray(values, np.float32)), (0, missing))
