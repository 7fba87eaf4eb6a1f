"""How a run trains."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from robosteer_core.adapters.slices import KeyValueRule

#: Parameters of a base from which on it is one of the real sizes.
LARGE = 1e8


class FinetuneConfig(BaseModel):
    """How to train. Betas, weight decay, clipping and the cosine to a tenth are the release's (CFG, OPT); it trains a
    real pi0 for 3000 steps with 200 of warm-up at a peak rate of 2.5e-5. A small model needs a higher rate."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: int = Field(default=600, ge=1)
    batch_size: int = Field(default=32, ge=1, description="frames a step")
    draws: int = Field(default=4, ge=1, description="noises and times drawn per frame; the prefix is the expensive part")
    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=16.0, gt=0, description="the update is scaled by alpha / rank")
    learning_rate: float = Field(default=5e-3, gt=0, description="peak")
    kv: KeyValueRule = Field(default="none", description="adapt keys and values too: own, any or none")
    feed_forward: bool = Field(default=False, description="a LoRA on all feed-forward layers of the part too, as the release")
    action_modules: bool = Field(default=False, description="train the projections of state, time and action too, as the release")
    full: bool = Field(default=False, description="train every weight instead of an adapter")
    accumulate: int = Field(default=1, ge=1, description="parts of a batch that pass one after another, to need less memory")
    checkpointing: bool = Field(default=False, description="keep only what enters each layer, and compute the rest again on the way back")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="of what is computed; what is trained stays float32")
    held_out: int = Field(default=0, ge=0, description="episodes that are not trained on; the step with the lowest loss on them is kept")
    validate_every: int = Field(default=50, ge=1, description="steps between losses of the held-out episodes")
    patience: int = Field(default=5, ge=1, description="such losses in a row without a new lowest one, after which training stops")
    seed: int = Field(default=0, ge=0, lt=2**32)
    save_every: int = Field(default=100, ge=1, description="steps between states from which a killed run goes on")

    def warning(self, parameters: int) -> str | None:
        """What to say of a run on a base of so many parameters: that our defaults are a small model's."""
        defaults = [f"--{option} {getattr(self, field):g}" for option, field in (("lr", "learning_rate"), ("steps", "steps"))
                    if getattr(self, field) == type(self).model_fields[field].default]  # fmt: skip
        if parameters <= LARGE or not defaults:
            return None
        return (
            f"warning: {' and '.join(defaults)} is meant for a small model, and the base has {parameters / 1e9:.1f} billion parameters; "
            "the release trains a pi0 with --lr 2.5e-5 --steps 3000"
        )

    def rate(self, step: int) -> float:
        warm_up = max(1, self.steps // 15)
        cosine = 0.5 * (1 + np.cos(np.pi * step / self.steps))
        return float(self.learning_rate * min(1.0, (step + 1) / warm_up) * (0.1 + 0.9 * cosine))
