"""A pi0 small enough to be trained from scratch on two cores: its sizes and its initial weights."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PI0Config, PI0ForConditionalGeneration

from robosteer_core.vla.config import PolicyConfig
from robosteer_core.vla.pi0 import Pi0Policy
from robosteer_core.vla.tokenizer import InstructionTokenizer, train

IMAGE_SIZE, PATCH_SIZE = 48, 8
CHUNK = 8
INSTRUCTION_TOKENS = 16
LAYERS, HEADS, HEAD_WIDTH = 6, 8, 16


def new_policy(config: PolicyConfig, seed: int, layers: int = LAYERS) -> Pi0Policy:
    """A pi0 of `layers` x 8 heads, width 128 (backbone) and 96 (expert), with random weights."""
    torch.manual_seed(seed)
    tokenizer = InstructionTokenizer(train(), config.instruction_tokens)
    text = {
        "model_type": "gemma", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": layers,
        "num_attention_heads": HEADS, "num_key_value_heads": 1, "head_dim": HEAD_WIDTH,
        "vocab_size": tokenizer.vocabulary_size + 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
    }  # fmt: skip
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 3,
        "num_attention_heads": 4, "patch_size": PATCH_SIZE, "image_size": config.image_size, "vision_use_head": False,
    }  # fmt: skip
    vlm = {
        "model_type": "paligemma", "text_config": text, "vision_config": vision, "projection_dim": 128,
        "image_token_index": tokenizer.vocabulary_size, "hidden_size": 128,
    }  # fmt: skip
    expert = {
        "model_type": "gemma", "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": layers,
        "num_attention_heads": HEADS, "num_key_value_heads": 1, "head_dim": HEAD_WIDTH,
    }  # fmt: skip
    model = PI0ForConditionalGeneration(
        PI0Config(
            vlm_config=vlm, dit_config=expert, chunk_size=CHUNK, max_state_dim=len(config.state_names),
            max_action_dim=len(config.action_names), num_inference_steps=config.flow_steps,
        )
    )  # fmt: skip
    # transformers draws every weight with a standard deviation of 0.02; at this width the signal would die out.
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return Pi0Policy(model, config, tokenizer)
