"""What a run will need is known before it starts, also for models that do not fit here."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import SHORT
from test_published_sizes import pi
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PI0ForConditionalGeneration

from robosteer_core.adapters.sparse_lora import add_adapter
from robosteer_core.adapters.targets import adapter_targets
from robosteer_core.finetune.batches import Batches
from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.finetune.frozen import longest
from robosteer_core.finetune.memory import GPU, Memory, advice, estimate, that_fits
from robosteer_core.finetune.train import _source
from robosteer_core.vla import decoder
from robosteer_core.vla.checkpoint import empty
from robosteer_core.vla.config import Normalisation, PolicyConfig
from robosteer_core.vla.paligemma import config_of, renamed
from robosteer_core.vla.pi0 import Pi0Policy
from robosteer_core.vla.sites import Head

#: Twenty heads that reach from the lowest layer to the highest that counts: the costliest choice of twenty.
LOWEST = [Head("vlm", layer, head) for layer, head in [(0, 3), *((layer, layer % 8) for layer in range(1, 17)), (5, 1), (9, 3), (12, 0)]]


def real_pi0():
    """pi0_base with three cameras, weights without memory."""
    with torch.device("meta"):
        tensors = renamed(pi(False))
        sizes = config_of(tensors, {"chunk_size": 50}, Path("pi"))
        with empty(torch.bfloat16):
            model = PI0ForConditionalGeneration(sizes)
    names, unit = tuple("1234567"), Normalisation(mean=(0.0,) * 7, std=(1.0,) * 7)
    config = PolicyConfig(family="pi0", cameras=("a", "b", "c"), image_size=224, state_names=names, action_names=names, action_hz=15,
                          instruction_tokens=48, flow_steps=10, state=unit, action=unit)  # fmt: skip
    return Pi0Policy(model, config, None)


def needed(policy, heads, frames, **options):
    config = FinetuneConfig(precision="bfloat16", draws=1, **options)
    with torch.device("meta"):
        add_adapter(policy.model, adapter_targets(policy, heads, "none"), 16, 16.0)
    policy.backbone.checkpointing = config.checkpointing
    return estimate(policy, config, frames, 3, min(head.layer for head in heads), frozen=True)


def test_the_real_pi0_is_finetuned_sparsely_under_24_gb():
    """Batches of 32 in parts of 4, layers computed again on the way back."""
    assert len(set(LOWEST)) == 20
    found = needed(real_pi0(), LOWEST, 4, checkpointing=True)
    assert 3.5e9 * 2 * 0.98 < found.weights < 3.5e9 * 2 * 1.02
    assert found.total < 24e9


def test_where_a_real_pi0_does_not_fit_the_settings_that_do_are_named():
    """The defaults, on the GPU's bfloat16; what is named is what the estimate says of it."""
    policy, asked = real_pi0(), FinetuneConfig(precision="bfloat16")
    with torch.device("meta"):
        add_adapter(policy.model, adapter_targets(policy, LOWEST, "none"), 16, 16.0)

    @cache
    def needed(config):
        policy.backbone.checkpointing = config.checkpointing
        return estimate(policy, config, config.batch_size // config.accumulate, 3, 0, frozen=True)

    assert needed(asked).total > 4 * GPU
    found = that_fits(needed, asked, 1, GPU)
    assert needed(found).total <= GPU and (found.batch_size, found.draws) == (asked.batch_size, asked.draws)
    assert f"--accumulate {found.accumulate} fits: memory: about {needed(found).total / 2**30:.1f} GiB" in advice(needed, asked, 1, GPU)


@pytest.mark.parametrize("most, options", [
    (900, {"accumulate": 2}), (250, {"accumulate": 8}), (90, {"accumulate": 2, "checkpointing": True}),
    (5, {"accumulate": 8, "checkpointing": True, "draws": 1}), (2, None),
])  # fmt: skip
def test_settings_that_fit_cost_as_little_time_as_they_can(most, options):
    """Sixteen frames on two processes, 1600 bytes at once; a batch can be split into 8 parts, one frame each."""
    asked = FinetuneConfig(batch_size=16, draws=4)

    def needed(config):
        return Memory(0, 0, 1600 // config.accumulate // (10 if config.checkpointing else 1) * config.draws // 4)

    assert that_fits(needed, asked, 2, most) == (options and asked.model_copy(update=options))


def test_our_rate_and_steps_are_warned_of_where_the_base_is_large():
    assert FinetuneConfig().warning(10**6) is None
    assert "--lr 0.005 and --steps 600" in FinetuneConfig().warning(3_500_000_000)
    assert "--lr 2.5e-5 --steps 3000" in FinetuneConfig(steps=3000).warning(3_500_000_000)
    assert FinetuneConfig(learning_rate=2.5e-5, steps=3000).warning(3_500_000_000) is None


def test_heads_higher_up_need_less():
    low, high = (needed(real_pi0(), [Head("vlm", layer, 0)], 2) for layer in (2, 14))
    assert high.step < 0.7 * low.step


def plain_attention(query, key, value, mask, scale):
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scale, enable_gqa=True)


@pytest.mark.parametrize("options", [{}, {"checkpointing": True}, {"full": True}])
def test_the_estimate_is_what_a_step_allocates(small_policy, demonstrations, monkeypatch, options):
    """Oracle: PyTorch's own record of what its allocator gave out and took back in a real step, gradients included."""
    config = SHORT.model_copy(update=options)
    if config.full:
        small_policy.requires_grad_(True)
    else:
        add_adapter(small_policy.model, adapter_targets(small_policy, [Head("vlm", 0, 1)], "none"), 4, 4.0)
    small_policy.backbone.checkpointing = config.checkpointing
    frozen, rows = not config.full, torch.arange(12)
    source = _source(small_policy, demonstrations, 0, frozen)
    found = estimate(small_policy, config, len(rows), 2, 0, frozen=frozen, words=longest(small_policy, demonstrations) if frozen else None)
    batches = Batches(small_policy, demonstrations, config)
    assert allocated(batches, source, rows) < found.step, "attention as written for a CPU needs less than PyTorch's plain kernel"
    monkeypatch.setattr(decoder, "attend", plain_attention)
    small_policy.zero_grad()
    with sdpa_kernel(SDPBackend.MATH):
        assert found.step == pytest.approx(allocated(batches, source, rows), rel=0.1)


def allocated(batches, source, rows):
    """The most bytes at once during a step."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        batches.loss(source, rows, 0).backward()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(sizes).max())
