"""OpenVLA-OFT (arXiv 2502.19645): OpenVLA that reads a chunk of actions off as many empty tokens at once, in one pass.

All tokens see each other; an L1-regressed head turns the last hidden states into actions. Head and the projector of the
state lie in files of their own beside the merged weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import MODEL_FILE, empty, put_tensors, read_json, read_pickled, read_tensors
from robosteer_core.vla.config import PolicyConfig
from robosteer_core.vla.decoder import run_layers
from robosteer_core.vla.openvla import PrismaticPolicy, save
from robosteer_core.vla.policy import Inputs, prefix_positions
from robosteer_core.vla.prismatic import MASK_TOKEN, PrismaticModel, configs_of, ours
from robosteer_core.vla.tokenizer import load_tokenizer

#: Llama 2's `</s>`, which ends the sequence as in training.
STOP = 2
_ACTION_HEAD, _PROPRIO = "action_head", "proprio_projector"
_NOT_BUILT = {"noisy_action_projector": "actions by diffusion", "vision_backbone": "images changed by words (FiLM)"}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.ffn(hidden)


class ActionHead(nn.Module):
    """From the hidden states of an action's tokens, one per dimension and end to end, to the action."""

    def __init__(self, width: int, hidden: int, actions: int, blocks: int) -> None:
        super().__init__()
        self.layer_norm1, self.fc1 = nn.LayerNorm(width), nn.Linear(width, hidden)
        self.mlp_resnet_blocks = nn.ModuleList(Block(hidden) for _ in range(blocks))
        self.layer_norm2, self.fc2 = nn.LayerNorm(hidden), nn.Linear(hidden, actions)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.fc1(self.layer_norm1(states)))
        for block in self.mlp_resnet_blocks:
            hidden = block(hidden)
        return self.fc2(self.layer_norm2(hidden))


class ProprioProjector(nn.Module):
    """From the normalised state to a token."""

    def __init__(self, state: int, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(state, width), nn.Linear(width, width)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(state)))


class OFTModel(PrismaticModel):
    """A Prismatic VLM with an action head, and a projector of the state where the policy takes one."""

    def __init__(self, configs: tuple, heads: Mapping[str, torch.Tensor]) -> None:
        super().__init__(*configs)
        hidden, width = heads[f"{_ACTION_HEAD}.fc1.weight"].shape
        blocks = len({name.split(".")[2] for name in heads if name.startswith(f"{_ACTION_HEAD}.mlp_resnet_blocks.")})
        self.action_head = ActionHead(width, hidden, len(heads[f"{_ACTION_HEAD}.fc2.weight"]), blocks)
        state = heads.get(f"{_PROPRIO}.fc1.weight")
        self.proprio_projector = None if state is None else ProprioProjector(state.shape[1], self.text.hidden_size)


class OFTPolicy(PrismaticPolicy):
    """An OpenVLA-OFT checkpoint. After the images comes the state's token, after the prompt the actions' empty ones."""

    family = "openvla_oft"
    loss_name = "absolute error of the normalised actions"
    model: OFTModel

    def __init__(self, *arguments, chunk_size: int) -> None:
        super().__init__(*arguments)
        self._chunk_size = chunk_size

    @property
    def chunk_size(self) -> int:
        return self._chunk_size

    def embed(self, inputs: Inputs, features: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.image_features(inputs.pixels) if features is None else features
        if self.model.proprio_projector is not None:
            features = torch.cat([features, self.model.proprio_projector(inputs.state.to(self.dtype))[:, None]], dim=1)
        return super().embed(inputs, features)

    def actions(self, inputs: Inputs) -> torch.Tensor:
        """Normalised actions (B, chunk, action_dim)."""
        embeddings, mask = self.embed(inputs)
        count, (batch, length, width) = self.chunk_size * self.action_dim, embeddings.shape
        stop = self.backbone.embed_tokens(torch.full((batch, 1), STOP, device=mask.device))
        embeddings = torch.cat([embeddings, embeddings.new_zeros(batch, count, width), stop], dim=1)
        last, mask = mask.sum(1) - 1, F.pad(mask, (0, count + 1), value=True)
        states, _ = run_layers(self.backbone, embeddings, prefix_positions(mask), mask[:, None, None, :])
        # Each action is read one token before its own, as a next word would be: the first off the prompt's last token.
        first = states[-1][torch.arange(batch, device=mask.device), last][:, None]
        hidden = self.backbone.norm(torch.cat([first, states[-1][:, length : length + count - 1]], dim=1))
        return self.model.action_head(hidden.reshape(batch, self.chunk_size, -1)).float()

    def predict(self, inputs: Inputs, generator: torch.Generator | None = None) -> torch.Tensor:
        """One pass; nothing is drawn."""
        return self.actions(inputs)

    def losses(self, inputs: Inputs, actions: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Absolute errors."""
        return (self.actions(inputs) - actions).abs()

    def _save_model(self, folder: Path) -> None:
        """The head and the projector lie among the weights, under their names."""
        save(folder, self.model, {"num_actions_chunk": self.chunk_size})


def component(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Tensors of `<name>--<step>_checkpoint.pt` under `<name>.`, none where there is no such file. Raises UserError."""
    paths = sorted(folder.glob(f"{name}--*checkpoint.pt"))
    if len(paths) > 1:
        raise UserError(f"{folder} holds several files of {name}: {', '.join(path.name for path in paths)}; leave one")
    if not paths:
        return {}
    # Trained on several devices, names begin with `module.`; the head's network is called `model`.
    found = read_pickled(paths[0], "copy it again")
    return {f"{name}.{key.removeprefix('module.').removeprefix('model.')}": tensor for key, tensor in found.items()}


def load(folder: Path, config: PolicyConfig, dtype: torch.dtype = torch.float32) -> OFTPolicy:
    """Read a checkpoint of ours or of OpenVLA-OFT. Raises UserError where it is missing something or does not fit."""
    said = read_json(folder / MODEL_FILE)
    for name, what in _NOT_BUILT.items():
        if any(folder.glob(f"{name}--*checkpoint.pt")):
            raise UserError(f"{folder} holds a {name}: {what} is not built; expected OpenVLA-OFT with an L1 head")
    tokenizer = load_tokenizer(folder, config)
    tensors = ours(read_tensors(folder)) | component(folder, _ACTION_HEAD) | component(folder, _PROPRIO)
    if f"{_ACTION_HEAD}.fc1.weight" not in tensors or f"{_ACTION_HEAD}.fc2.weight" not in tensors:
        raise UserError(f"the OpenVLA-OFT in {folder} lacks its action head: expected {_ACTION_HEAD}--<step>_checkpoint.pt")
    with empty(dtype):
        model = OFTModel(configs_of(tensors, said, folder), tensors)
    put_tensors(model, tensors, folder, optional=frozenset({MASK_TOKEN}))
    width = 0 if model.proprio_projector is None else model.proprio_projector.fc1.in_features
    found = (model.action_head.fc2.out_features, width)
    if found != (len(config.action_names), len(config.state_names)):
        raise UserError(
            f"{folder}: its files are for {found[0]} action and {found[1]} state dimensions; its description names "
            f"{len(config.action_names)} and {len(config.state_names)}"
        )
    return OFTPolicy(model, config, tokenizer, folder, chunk_size=chunk_of(said, folder))


def chunk_of(said: Mapping, folder: Path) -> int:
    """Actions at once: what our files say, else what OFT's code takes for the robot that the statistics are named after."""
    if "num_actions_chunk" in said:
        return int(said["num_actions_chunk"])
    path = folder / "dataset_statistics.json"
    names = " ".join(read_json(path) if path.is_file() else said.get("norm_stats") or {}).lower()
    return next((chunk for robot, chunk in (("aloha", 25), ("bridge", 5)) if robot in names), 8)
