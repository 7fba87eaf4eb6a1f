"""Train the adapter of some heads on demonstrations: the base model's own loss, everything else frozen.

The same loop trains steered heads, random heads and all heads, so that they differ in the heads alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.progress import Progress
from torch import nn

from robosteer_core.adapters.slices import KeyValueRule
from robosteer_core.adapters.sparse_lora import add_adapter
from robosteer_core.adapters.store import HEADS, AdapterRecord, base_of, save_adapter
from robosteer_core.adapters.targets import adapter_targets
from robosteer_core.episodes.layout import write_json
from robosteer_core.errors import UserError
from robosteer_core.finetune.frozen import FrozenPrefix
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.vla.policy import FlowPolicy
from robosteer_core.vla.sites import Head

SETTINGS, STATE, LOG, SUMMARY = "settings.json", "training.pt", "log.jsonl", "training.json"


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
    seed: int = Field(default=0, ge=0)
    save_every: int = Field(default=100, ge=1, description="steps between states from which a killed run goes on")

    def rate(self, step: int) -> float:
        warm_up = max(1, self.steps // 15)
        cosine = 0.5 * (1 + np.cos(np.pi * step / self.steps))
        return float(self.learning_rate * min(1.0, (step + 1) / warm_up) * (0.1 + 0.9 * cosine))


LOG_EVERY = 10
_MEASURED_FRAMES = 256


def finetune(
    policy: FlowPolicy,
    demonstrations: Demonstrations,
    heads: Sequence[Head],
    out: Path,
    config: FinetuneConfig,
    *,
    dataset: str,
    scored_part: str | None = None,
    scores: tuple[tuple[float, ...], ...] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train `heads` of `policy` in place and write the adapter to `out`; returns the summary, which is `training.json`.

    Killed and called again with the same settings, it goes on from the last saved step and ends with the same adapter;
    finished, it returns at once. Without heads it measures the base. Raises UserError where `out` holds another run, or
    heads that cannot be trained.
    """
    sites = policy.sites
    for head in heads:
        site = sites.site(head)
        if head.part == "vision" or not sites.eligible(head.part)[head.layer, head.head]:
            why = "the image encoder is frozen" if head.part == "vision" else "its queries and outputs do not reach the action"
            raise UserError(f"head {tuple(head)} cannot be trained: {why} (layer {site.layer} of {len(sites.part(head.part))})")
    base, sha256 = base_of(policy)
    part = heads[0].part if heads else "vlm"
    extra = dict(feed_forward=config.feed_forward, action_modules=config.action_modules)
    targets = adapter_targets(policy, heads, config.kv, **extra) if heads else None
    trainable = targets.parameters(policy.model, config.rank) if heads else 0
    everything = adapter_targets(policy, sites.eligible_heads(part), config.kv, **extra).parameters(policy.model, config.rank)
    settings = {
        "base_sha256": sha256, "demonstrations_sha256": _digest(demonstrations), "heads": [list(head) for head in heads],
        "config": config.model_dump(),
    }  # fmt: skip
    if _finished(out, settings):
        return json.loads((out / SUMMARY).read_text())
    torch.manual_seed(config.seed)
    if heads:
        add_adapter(policy.model, targets, config.rank, config.alpha)
    else:
        policy.requires_grad_(False)
    lowest = min((head.layer for head in heads if head.part == "vlm"), default=len(policy.backbone.layers))
    first = 0 if part == "vlm" and heads and config.feed_forward else lowest
    frozen = FrozenPrefix(policy, demonstrations, first, progress=progress)
    batches = _Batches(policy, demonstrations, config)
    before = _measure(policy, frozen, batches)
    seconds = _train(policy, frozen, batches, out, config, progress) if heads else 0.0
    record = AdapterRecord(
        heads=tuple(heads), scored_part=scored_part, trained_part=part, kv=config.kv, rank=config.rank, alpha=config.alpha, base=base,
        base_sha256=sha256, dataset=dataset, instructions=tuple(sorted(set(demonstrations.instruction))),
        state=policy.config.state, action=policy.config.action, scores=scores, **extra,
    )  # fmt: skip
    summary = {
        "heads": settings["heads"],
        "scored_part": scored_part,
        "trained_part": part,
        "trainable_parameters": trainable,
        "full_lora_parameters": everything,
        "finetune_s": round(seconds, 2),
        "loss_before": before,
        "loss_after": _measure(policy, frozen, batches),
        "frames": len(demonstrations),
        "episodes": len(np.unique(demonstrations.episode)),
        "cached_bytes": frozen.bytes,
        "first_layer_run": first,
        "config": config.model_dump(),
    }
    write_json(summary, out / SUMMARY)
    save_adapter(policy, out, record)
    (out / STATE).unlink(missing_ok=True)
    return summary


class _Batches:
    """What each step sees; a function of the seed and the step alone, so that a resumed run sees the same."""

    def __init__(self, policy: FlowPolicy, demonstrations: Demonstrations, config: FinetuneConfig) -> None:
        self._policy, self._config, self._count = policy, config, len(demonstrations)
        self._state = policy.normalised_state(demonstrations.state)
        index = np.arange(self._count)[:, None] + np.arange(policy.chunk_size)
        # Beyond the episode its last action stands, as in LeRobot, and does not count. The next episode's must not
        # stand there: the actions of a chunk see each other.
        ends = np.searchsorted(demonstrations.episode, demonstrations.episode, side="right")[:, None]
        self._actions = policy.normalised_actions(demonstrations.action[np.minimum(index, ends - 1)])
        self._valid = torch.from_numpy(index < ends)

    def rows(self, step: int) -> torch.Tensor:
        """Frames of a step: one permutation of all after another."""
        size, rows = self._config.batch_size, []
        for position in range(step * size, (step + 1) * size):
            epoch, place = divmod(position, self._count)
            rows.append(self._order(epoch)[place])
        return torch.tensor(rows)

    def _order(self, epoch: int) -> np.ndarray:
        if getattr(self, "_known", (None,))[0] != epoch:
            self._known = epoch, np.random.default_rng([self._config.seed, epoch]).permutation(self._count)
        return self._known[1]

    def loss(self, frozen: FrozenPrefix, rows: torch.Tensor, draw: int) -> torch.Tensor:
        """Mean squared error of the flow over the actions that lie in the episode; `draw` seeds noise and time."""
        draws = self._config.draws
        generator = torch.Generator().manual_seed(self._config.seed * 2**32 + draw)
        actions = self._actions[rows].repeat_interleave(draws, 0)
        noise = torch.randn(actions.shape, generator=generator)
        times = self._policy.draw_time(len(actions), generator)
        prefix = frozen.prefix(rows).repeated(draws)
        errors = self._policy.loss(prefix, self._state[rows].repeat_interleave(draws, 0), actions, noise, times)
        return errors[self._valid[rows].repeat_interleave(draws, 0)].mean()

    def measured(self) -> torch.Tensor:
        """Frames spread evenly over the demonstrations."""
        return torch.linspace(0, self._count - 1, min(_MEASURED_FRAMES, self._count)).long()


@torch.no_grad()
def _measure(policy: FlowPolicy, frozen: FrozenPrefix, batches: _Batches) -> float:
    """Flow loss over the same frames, noises and times every time."""
    policy.eval()
    parts = batches.measured().split(64)
    return float(np.average([float(batches.loss(frozen, rows, 2**31 + i)) for i, rows in enumerate(parts)], weights=list(map(len, parts))))


def _train(policy: FlowPolicy, frozen: FrozenPrefix, batches: _Batches, out: Path, config: FinetuneConfig, progress: Progress | None) -> float:
    """Run the steps that are left; returns the seconds spent on all of them."""
    named = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(named.values(), lr=config.learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=1e-10)
    done, spent, log = 0, 0.0, []
    if (out / STATE).exists():
        state = torch.load(out / STATE, weights_only=True)
        with torch.no_grad():
            for name, parameter in named.items():
                parameter.copy_(state["parameters"][name])
        optimiser.load_state_dict(state["optimiser"])
        done, spent, log = state["step"], state["seconds"], state["log"]
    task = progress and progress.add_task("finetuning", total=config.steps, completed=done)
    begin, running = time.monotonic(), []
    policy.eval()
    for step in range(done, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.rate(step)
        loss = batches.loss(frozen, batches.rows(step), step)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(named.values(), 1.0)
        optimiser.step()
        running.append(float(loss.detach()))
        if progress:
            progress.update(task, advance=1, description=f"finetuning, loss {np.mean(running[-LOG_EVERY:]):.3f}")
        last = step + 1 == config.steps
        if (step + 1) % LOG_EVERY == 0 or last:
            log.append({"step": step + 1, "loss": float(np.mean(running[-LOG_EVERY:])), "rate": config.rate(step)})
        if (step + 1) % config.save_every == 0 or last:
            state = {
                "parameters": {name: p.detach() for name, p in named.items()}, "optimiser": optimiser.state_dict(),
                "step": step + 1, "seconds": spent + time.monotonic() - begin, "log": log,
            }  # fmt: skip
            torch.save(state, out / (STATE + ".tmp"))
            (out / (STATE + ".tmp")).replace(out / STATE)
            (out / (LOG + ".tmp")).write_text("".join(json.dumps(entry) + "\n" for entry in log))
            (out / (LOG + ".tmp")).replace(out / LOG)
    return spent + time.monotonic() - begin


def _finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether `out` holds this very run, complete. Raises UserError where it holds another one or something else."""
    path = out / SETTINGS
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"expected a new folder, or one of an earlier run, at {out}; found something else; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        write_json(settings, path)
        return False
    found = json.loads(path.read_text())
    differing = [key for key in settings if found.get(key) != json.loads(json.dumps(settings[key]))]
    if differing:
        raise UserError(f"{out} holds a run that differs in {', '.join(differing)}; choose another --out or remove it")
    return (out / HEADS).exists() and (out / SUMMARY).exists()


def _digest(demonstrations: Demonstrations) -> str:
    """SHA-256 of everything that is trained on."""
    digest = hashlib.sha256("\n".join(demonstrations.instruction).encode())
    for values in (demonstrations.state, demonstrations.action, demonstrations.episode, *demonstrations.images.values()):
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()
