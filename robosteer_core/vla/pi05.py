"""pi0.5 (arXiv 2504.16054): pi0 whose expert is conditioned on time by its norms, and whose state is written in the prompt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import PI0Config
from transformers.models.pi0.modeling_pi0 import PI0Model

from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import MODEL_FILE, WEIGHTS_FILE, empty, put_tensors, read_json, read_tensors
from robosteer_core.vla.config import PolicyConfig
from robosteer_core.vla.decoder import run_layers
from robosteer_core.vla.paligemma import EXPERT_EMBEDDINGS, PaliGemmaPolicy, config_of, renamed
from robosteer_core.vla.policy import Frame, Prefix, sinusoid
from robosteer_core.vla.tokenizer import cleaned, load_tokenizer

STATE_BINS = 256


class AdaptiveNorm(nn.Module):
    """RMS norm whose scale, shift and gate come from a condition: x / rms(x) * (1 + scale) + shift (openpi's adaRMS)."""

    def __init__(self, width: int, condition: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.dense = nn.Linear(condition, 3 * width)

    def forward(self, hidden: torch.Tensor, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`hidden` (B, tokens, width), `condition` (B, width of the condition) -> normed states, gate (B, 1, width)."""
        scale, shift, gate = self.dense(condition)[:, None, :].chunk(3, dim=-1)
        normed = hidden * torch.rsqrt(hidden.float().square().mean(-1, keepdim=True) + self.epsilon)
        return (normed * (1 + scale.float()) + shift.float()).to(hidden.dtype), gate


class Pi05Model(nn.Module):
    """The weights of a pi0.5: transformers' PaliGemma and Gemma expert, the latter with adaptive norms, and the projections."""

    def __init__(self, config: PI0Config) -> None:
        super().__init__()
        self.sizes = config  # not `config`: PEFT would take this for a model of transformers
        self.model = PI0Model(config)
        expert, width = self.model.dit, config.dit_config.hidden_size
        epsilon = config.dit_config.rms_norm_eps
        expert.embed_tokens = None  # it never reads words
        for layer in expert.layers:
            layer.input_layernorm = AdaptiveNorm(width, width, epsilon)
            layer.post_attention_layernorm = AdaptiveNorm(width, width, epsilon)
        expert.norm = AdaptiveNorm(width, width, epsilon)
        self.action_in_proj = nn.Linear(config.max_action_dim, width)
        self.action_out_proj = nn.Linear(width, config.max_action_dim)
        self.time_mlp_in = nn.Linear(width, width)
        self.time_mlp_out = nn.Linear(width, width)


class Pi05Policy(PaliGemmaPolicy):
    """A pi0.5 checkpoint. Its suffix is [a_1, a_2, ...]."""

    family = "pi05"
    first_action_token = 0
    model: Pi05Model

    def tokens(self, instructions: list[str], state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not self.config.state_names:
            raise UserError("a pi0.5 reads the state in its prompt; its policy.json names none in `state_names`")
        return self.tokenizer([prompt(text, bins) for text, bins in zip(instructions, state_bins(self.config.state.normalise(state)))])

    def time_features(self, time: torch.Tensor) -> torch.Tensor:
        config = self.sizes
        width = config.dit_config.hidden_size
        embedded = F.silu(self.model.time_mlp_in(sinusoid(time, width, config.min_period, config.max_period).to(self.dtype)))
        return F.silu(self.model.time_mlp_out(embedded))

    def step(self, prefix: Prefix, frame: Frame, state: torch.Tensor, noisy: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        suffix = self.model.action_in_proj(noisy.to(self.dtype))
        hidden, _ = run_layers(self.expert, suffix, frame.rotary, frame.mask, prefix.key_values, condition=features)
        return self.model.action_out_proj(self.expert.norm(hidden[-1], features)[0]).float()

    def _save_model(self, folder: Path) -> None:
        """As lerobot does; its file of the sizes too, as far as we read it."""
        names = {"model.vlm.": "paligemma_with_expert.paligemma.model.", "model.dit.": "paligemma_with_expert.gemma_expert.model."}
        tensors = {}
        for name, tensor in self.model.state_dict().items():
            for ours, theirs in names.items():
                name = name.replace(ours, theirs) if name.startswith(ours) else name
            tensors[f"model.{name}"] = tensor.contiguous()
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        config = self.sizes
        plain = ("chunk_size", "max_action_dim", "max_state_dim", "num_inference_steps", "min_period", "max_period")
        said = {key: getattr(config, key) for key in plain}
        (folder / MODEL_FILE).write_text(json.dumps({"type": "pi05"} | said, indent=2) + "\n")


def state_bins(state: np.ndarray) -> np.ndarray:
    """Normalised states (B, S) as bins 0 to 255 of [-1, 1]; below it -1, as in openpi's `PaligemmaTokenizer`."""
    return np.digitize(state, np.linspace(-1, 1, STATE_BINS + 1)[:-1]) - 1


def prompt(instruction: str, bins: np.ndarray) -> str:
    """What a pi0.5 reads, for the bins (S,) of one state."""
    return f"Task: {cleaned(instruction)}, State: {' '.join(map(str, bins))};\nAction: "


def load(folder: Path, config: PolicyConfig, dtype: torch.dtype = torch.float32) -> Pi05Policy:
    """Read a checkpoint of ours, of lerobot or of openpi. Raises UserError where it is missing something or does not fit."""
    said = read_json(folder / MODEL_FILE)
    tokenizer = load_tokenizer(folder, config)
    tensors = renamed(read_tensors(folder))
    tensors.pop(EXPERT_EMBEDDINGS, None)  # files carry a language head of the expert that nothing reads
    if "action_time_mlp_in.weight" in tensors or "state_proj.weight" in tensors:
        raise UserError(f"{folder} was opened as a pi0.5; its weights are those of a pi0: correct `family` in its policy.json")
    with empty(dtype):
        model = Pi05Model(config_of(tensors, said, folder))
    put_tensors(model, tensors, folder)
    return Pi05Policy(model, config, tokenizer, folder)
