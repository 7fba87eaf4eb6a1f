"""pi0 (arXiv 2410.24164) on transformers' `PI0ForConditionalGeneration`, with a sampling loop of our own."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PI0Config, PI0ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import MODEL_FILE, WEIGHTS_FILE
from robosteer_core.vla.config import PolicyConfig
from robosteer_core.vla.decoder import KeyValue, run_layers
from robosteer_core.vla.policy import TOKENIZER_FILE, FlowPolicy, Inputs, Prefix, prefix_positions
from robosteer_core.vla.sites import Sites, decoder_layers, encoder_layers
from robosteer_core.vla.tokenizer import InstructionTokenizer

# What it would print while loading is checked below and said in one message.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


class Pi0Policy(FlowPolicy):
    """A pi0 checkpoint. Its suffix is [state, a_1, a_2, ...]; `model` is transformers' module."""

    family = "pi0"
    first_action_token = 1
    model: PI0ForConditionalGeneration

    def _sites(self) -> Sites:
        """The backbone reaches the actions through keys and values alone, so queries and outputs of its last layer do not."""
        config = self.model.config
        text = config.vlm_config.text_config
        return Sites({
            "vision": encoder_layers("vision", "model.vlm.vision_tower.encoder.layers", config.vlm_config.vision_config),
            "vlm": decoder_layers("vlm", "model.vlm.language_model.layers", text, last_reaching=text.num_hidden_layers - 2),
            "expert": decoder_layers("expert", "model.dit.layers", config.dit_config),
        })  # fmt: skip

    @property
    def chunk_size(self) -> int:
        return self.model.config.chunk_size

    @property
    def action_dim(self) -> int:
        return self.model.config.max_action_dim

    @property
    def state_dim(self) -> int:
        return self.model.config.max_state_dim

    @property
    def backbone(self):
        return self.model.model.vlm.language_model

    @property
    def expert(self):
        return self.model.model.dit

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.model.model.vlm.get_image_features(pixels.to(self.dtype).flatten(0, 1)).pooler_output
        return features.reshape(pixels.shape[0], -1, features.shape[-1])

    def embed(self, inputs: Inputs, features: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.image_features(inputs.pixels) if features is None else features
        text = self.model.model.vlm.get_input_embeddings()(inputs.ids)
        seen = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        return torch.cat([features, text], dim=1), torch.cat([seen, inputs.mask.bool()], dim=1)

    def run_backbone(
        self, hidden: torch.Tensor, mask: torch.Tensor, *, first: int = 0, stop: int | None = None, for_suffix: bool = False
    ) -> tuple[list[torch.Tensor], list[KeyValue]]:
        positions = prefix_positions(mask)
        return run_layers(self.backbone, hidden, positions, mask[:, None, None, :], first=first, stop=stop, for_suffix=for_suffix)

    def velocity(self, prefix: Prefix, state: torch.Tensor, noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        suffix = self.model.embed_action_time(state, noisy, time)
        batch, tokens = suffix.shape[:2]
        positions = prefix.mask.long().sum(-1, keepdim=True) + torch.arange(tokens)
        # The state's token looks at the prefix and itself; the actions look at everything.
        block = torch.ones(tokens, tokens, dtype=torch.bool)
        block[0, 1:] = False
        mask = torch.cat([prefix.mask[:, None, :].expand(-1, tokens, -1), block.expand(batch, -1, -1)], dim=-1)
        hidden, _ = run_layers(self.expert, suffix, positions, mask[:, None], prefix.key_values)
        return self.model.action_out_proj(self.expert.norm(hidden[-1][:, 1:]))

    def sample(self, prefix: Prefix, state: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        steps, actions = self.config.flow_steps, noise
        for step in range(steps):
            time = torch.full((len(state),), 1.0 - step / steps)
            actions = actions - self.velocity(prefix, state, actions, time) / steps
        return actions

    def _save_model(self, folder: Path) -> None:
        self.model.save_pretrained(folder)


def load(folder: Path, config: PolicyConfig) -> Pi0Policy:
    """Read a checkpoint folder. Raises UserError where something is missing, truncated or does not fit."""
    for name in (MODEL_FILE, WEIGHTS_FILE, TOKENIZER_FILE):
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
    return Pi0Policy(model.float(), config, tokenizer, folder)
