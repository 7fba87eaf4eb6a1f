"""OpenVLA (arXiv 2406.09246): a Prismatic VLM that writes each action dimension as one of its 256 rarest words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from robosteer_core.vla.checkpoint import MODEL_FILE, WEIGHTS_FILE, empty, put_tensors, read_json, read_tensors
from robosteer_core.vla.config import PolicyConfig
from robosteer_core.vla.decoder import KeyValue, run_layers
from robosteer_core.vla.policy import Inputs, Policy, prefix_positions
from robosteer_core.vla.prismatic import MASK_TOKEN, PrismaticModel, configs_of, ours, theirs
from robosteer_core.vla.sites import Sites
from robosteer_core.vla.tokenizer import Tokenizer, load_tokenizer

#: Edges of the bins of [-1, 1]; an action lies at the centre of its bin, so that there are 255 of them.
EDGES = np.linspace(-1, 1, 256)
CENTRES = (EDGES[:-1] + EDGES[1:]) / 2


class PrismaticPolicy(Policy):
    """What OpenVLA and OpenVLA-OFT share. The order of tokens is <s>, image patches, the rest of the prompt, actions."""

    model: PrismaticModel

    def _sites(self) -> Sites:
        return self.model.sites()

    @property
    def state_dim(self) -> int:
        return len(self.config.state_names)

    @property
    def action_dim(self) -> int:
        return len(self.config.action_names)

    @property
    def vision_size(self) -> int:
        return self.model.featurizer.config.image_size

    @property
    def backbone(self) -> nn.Module:
        return self.model.language_model.model

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, cameras, 3, H, W) -> (B, tokens, width), by both vision towers and the projector."""
        features = self.model.image_features(pixels.flatten(0, 1))
        return features.reshape(pixels.shape[0], -1, features.shape[-1])

    def embed(self, inputs: Inputs, features: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (B, tokens, width) of prompt and images, and which tokens count, (B, tokens) bool; what is padded comes last."""
        features = self.image_features(inputs.pixels) if features is None else features
        text, mask = self.backbone.embed_tokens(inputs.ids), inputs.mask.bool()
        seen = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        return torch.cat([text[:, :1], features, text[:, 1:]], dim=1), torch.cat([mask[:, :1], seen, mask[:, 1:]], dim=1)


class OpenVLAPolicy(PrismaticPolicy):
    """An OpenVLA checkpoint: one action at a time, dimension by dimension, without a state."""

    family = "openvla"
    loss_name = "cross-entropy of the actions' words"

    def __init__(self, model: PrismaticModel, config: PolicyConfig, tokenizer: Tokenizer, source: Path | None, words: int) -> None:
        super().__init__(model, config, tokenizer, source)
        self.words = words  # of the vocabulary, less what pads it to a multiple

    @property
    def chunk_size(self) -> int:
        return 1

    def bins(self, actions: np.ndarray) -> np.ndarray:
        """Normalised actions -> the word of each number, as in training."""
        return self.words - np.digitize(np.clip(actions, -1, 1), EDGES)

    def actions_of(self, ids: np.ndarray) -> np.ndarray:
        """Words -> normalised actions; words that are none of the actions' count as the nearest that is."""
        return CENTRES[np.clip(self.words - ids - 1, 0, len(CENTRES) - 1)]

    def prefix(self, inputs: Inputs) -> tuple[torch.Tensor, list[KeyValue], torch.Tensor]:
        """Hidden states (B, width) of the prompt's last token, each layer's keys and values, and which tokens count."""
        embeddings, mask = self.embed(inputs)
        causal = torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device).tril()
        states, pairs = run_layers(self.backbone, embeddings, prefix_positions(mask), (mask[:, None, :] & causal)[:, None])
        return states[-1][torch.arange(len(mask), device=mask.device), mask.sum(1) - 1], pairs, mask

    def predict(self, inputs: Inputs, generator: torch.Generator | None = None) -> torch.Tensor:
        """The likeliest word of each dimension after those before it; nothing is drawn."""
        hidden, pairs, mask = self.prefix(inputs)
        # Keys and values of the actions' words go into places that are there from the start: every step has the same shapes.
        pairs = [tuple(F.pad(part, (0, 0, 0, self.action_dim - 1)) for part in pair) for pair in pairs]
        mask, length = F.pad(mask, (0, self.action_dim - 1)), mask.shape[1]
        position, found = mask.sum(1, keepdim=True), []
        own = torch.ones(len(mask), 1, dtype=torch.bool, device=mask.device)
        for step in range(self.action_dim):
            word = self.model.language_model.lm_head(self.backbone.norm(hidden)).argmax(-1)
            found.append(word)
            if step + 1 == self.action_dim:
                break
            embedding = self.backbone.embed_tokens(word)[:, None]
            states, new = run_layers(self.backbone, embedding, position + step, torch.cat([mask, own], 1)[:, None, None, :], pairs)
            hidden = states[-1][:, 0]
            for pair, fresh in zip(pairs, new):
                for part, values in zip(pair, fresh):
                    part[:, :, length + step] = values[:, :, 0]
            mask[:, length + step] = True
        ids = torch.stack(found, dim=1)[:, None].cpu().numpy()
        return torch.from_numpy(self.actions_of(ids)).float().to(inputs.ids.device)

    def logits(self, inputs: Inputs, ids: torch.Tensor) -> torch.Tensor:
        """Of each action dimension's word, (B, dimensions, vocabulary), after the words `ids` (B, dimensions) of those before it."""
        embeddings, mask = self.embed(inputs)
        embeddings = torch.cat([embeddings, self.backbone.embed_tokens(ids)], dim=1)
        length, mask = mask.shape[1], F.pad(mask, (0, ids.shape[1]), value=True)
        causal = torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device).tril()
        states, _ = run_layers(self.backbone, embeddings, prefix_positions(mask), (mask[:, None, :] & causal)[:, None])
        last = mask[:, :length].sum(1) - 1
        first = states[-1][torch.arange(len(mask), device=mask.device), last][:, None]
        hidden = torch.cat([first, states[-1][:, length:-1]], dim=1)
        return self.model.language_model.lm_head(self.backbone.norm(hidden)).float()

    def losses(self, inputs: Inputs, actions: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Cross-entropy of each dimension's word."""
        ids = torch.from_numpy(self.bins(actions[:, 0].cpu().numpy())).to(inputs.ids.device)
        return F.cross_entropy(self.logits(inputs, ids).transpose(1, 2), ids, reduction="none")[:, None]

    def _save_model(self, folder: Path) -> None:
        save(folder, self.model, {"pad_to_multiple_of": self.model.text.vocab_size - self.words})


def save(folder: Path, model: nn.Module, said: Mapping[str, Any]) -> None:
    """Weights and configuration as OpenVLA's files name them."""
    save_file(theirs(model.state_dict()), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    text = {"model_type": "llama", "vocab_size": model.text.vocab_size, "rms_norm_eps": model.text.rms_norm_eps}
    content = {"model_type": "openvla", "n_action_bins": 256, "text_config": text} | dict(said)
    (folder / MODEL_FILE).write_text(json.dumps(content, indent=2) + "\n")


def load(folder: Path, config: PolicyConfig, dtype: torch.dtype = torch.float32) -> OpenVLAPolicy:
    """Read a checkpoint of ours or of OpenVLA. Raises UserError where it is missing something or does not fit."""
    said = read_json(folder / MODEL_FILE)
    tokenizer = load_tokenizer(folder, config)
    tensors = ours(read_tensors(folder))
    with empty(dtype):
        model = PrismaticModel(*configs_of(tensors, said, folder))
    put_tensors(model, tensors, folder, optional=frozenset({MASK_TOKEN}))
    return OpenVLAPolicy(model, config, tokenizer, folder, model.text.vocab_size - said.get("pad_to_multiple_of", 64))
