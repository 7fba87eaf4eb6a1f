"""pi0 (arXiv 2410.24164) on transformers' `PI0ForConditionalGeneration`, with a sampling loop of our own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import PI0Config, PI0ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import MODEL_FILE, empty, put_tensors, read_json, read_tensors
from robosteer_core.vla.config import PolicyConfig
from robosteer_core.vla.decoder import run_layers
from robosteer_core.vla.paligemma import EXPERT_EMBEDDINGS, PaliGemmaPolicy, config_of, renamed
from robosteer_core.vla.policy import Frame, Prefix
from robosteer_core.vla.tokenizer import load_tokenizer

# What it would say while saving and loading is either checked by us or of no use here.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()

_TIME_AND_STATE = ("state_proj", "action_in_proj", "action_time_mlp_in", "action_time_mlp_out")


class Pi0Policy(PaliGemmaPolicy):
    """A pi0 checkpoint. Its suffix is [state, a_1, a_2, ...]; `model` is transformers' module."""

    family = "pi0"
    first_action_token = 1
    model: PI0ForConditionalGeneration

    @property
    def sizes(self) -> PI0Config:
        return self.model.config

    def time_features(self, time: torch.Tensor) -> torch.Tensor:
        return self.model.embed_action_time.sinusoid_embeds(time)

    def step(self, prefix: Prefix, frame: Frame, state: torch.Tensor, noisy: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        embed = self.model.embed_action_time
        actions = embed.action_in_proj(noisy.to(self.dtype))
        times = features[:, None, :].expand_as(actions).to(actions.dtype)
        actions = embed.action_time_mlp_out(F.silu(embed.action_time_mlp_in(torch.cat([actions, times], dim=2))))
        suffix = torch.cat([embed.state_proj(state.to(self.dtype))[:, None, :], actions], dim=1)
        hidden, _ = run_layers(self.expert, suffix, frame.rotary, frame.mask, prefix.key_values)
        return self.model.action_out_proj(self.expert.norm(hidden[-1][:, 1:])).float()

    def _save_model(self, folder: Path) -> None:
        self.model.save_pretrained(folder)


def _described(folder: Path) -> PI0Config:
    try:
        return PI0Config.from_pretrained(folder)
    except Exception as error:  # of several kinds, one of them huggingface_hub's own
        raise UserError(f"{folder / MODEL_FILE} does not describe a pi0: {error}") from error


def load(folder: Path, config: PolicyConfig, dtype: torch.dtype = torch.float32) -> Pi0Policy:
    """Read a checkpoint of ours, of lerobot or of openpi. Raises UserError where it is missing something or does not fit."""
    said = read_json(folder / MODEL_FILE)
    tokenizer = load_tokenizer(folder, config)
    tensors = renamed(read_tensors(folder))
    if "time_mlp_in.weight" in tensors:
        raise UserError(f"{folder} was opened as a pi0; its weights are those of a pi0.5: correct `family` in its policy.json")
    for name in _TIME_AND_STATE:
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in tensors:
                tensors[f"embed_action_time.{name}.{kind}"] = tensors.pop(f"{name}.{kind}")
    # The configuration that transformers wrote says everything; the others leave the sizes to be seen from the weights.
    found = _described(folder) if "dit_config" in said else config_of(tensors, said, folder)
    with empty(dtype):
        model = PI0ForConditionalGeneration(found)
    put_tensors(model, tensors, folder, optional=frozenset({EXPERT_EMBEDDINGS}))
    return Pi0Policy(model, config, tokenizer, folder)
