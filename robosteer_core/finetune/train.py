"""Train on demonstrations: an adapter of some heads, or every weight; the base model's own loss, everything else frozen.

The same loop trains steered heads, random heads, all heads and whole models, so that they differ in what is trained alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np
import torch
from rich.progress import Progress

from robosteer_core.adapters.sparse_lora import add_adapter
from robosteer_core.adapters.store import FITTED, HEADS, AdapterRecord, base_of, save_adapter
from robosteer_core.adapters.targets import adapter_targets
from robosteer_core.episodes.layout import write_json
from robosteer_core.errors import UserError
from robosteer_core.files import require_room
from robosteer_core.finetune.batches import Batches, PrefixSource, WholePrefix
from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.finetune.frozen import FrozenPrefix, longest
from robosteer_core.finetune.heads_option import require_trainable
from robosteer_core.finetune.loop import STATE, measured, require_finite, run, saved_step, state_bytes
from robosteer_core.finetune.memory import Memory, advice, estimate, prefix_is_trained, reached, room
from robosteer_core.finetune.processes import Processes
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.heads.progress import stage
from robosteer_core.vla.config import CONFIG_FILE
from robosteer_core.vla.policy import FlowPolicy, Policy
from robosteer_core.vla.sites import Head

if TYPE_CHECKING:
    from robosteer_core.finetune.events import Events

SETTINGS, SUMMARY = "settings.json", "training.json"
#: Where a run that trains every weight leaves them: a checkpoint folder.
CHECKPOINT = "policy"


def finetune(
    policy: Policy,
    demonstrations: Demonstrations,
    heads: Sequence[Head],
    out: Path,
    config: FinetuneConfig,
    *,
    dataset: str,
    scored_part: str | None = None,
    scores: tuple[tuple[float, ...], ...] | None = None,
    camera_map: dict[str, str] | None = None,
    processes: Processes | None = None,
    events: type[Events] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train `heads` of `policy` in place and write the adapter to `out`; returns the summary, which is `training.json`.

    Where the `processes` share the weights out, the policy is left whole in the first of them alone, and can be run no more.
    With `config.full` every weight that reaches the action is trained, and `out` gets a checkpoint. Without either the base
    is measured. Killed and called again with the same settings, it goes on from the last saved step and ends with the same
    result; finished, it returns at once. `events` (`finetune.events.Events`) write its log for TensorBoard too. With held-out
    episodes the step with the lowest loss on them is written, also where the base itself is no worse: `better_on_held_out`
    of the summary tells. Raises UserError where `out` holds another run, for heads that cannot be trained, and where training
    diverges; no result is written then.
    """
    processes = processes or Processes()
    sites = policy.sites
    require_trainable(sites, heads)
    if config.full and heads:
        raise UserError("every weight is to be trained, and heads are named too; expected one of them")
    parts = processes.count * config.accumulate
    if config.batch_size < parts:
        raise UserError(f"a batch of {config.batch_size} frames cannot be split into {parts} parts (processes x accumulate)")
    base, sha256 = base_of(policy)
    part = heads[0].part if heads else "vlm"
    extra = dict(feed_forward=config.feed_forward, action_modules=config.action_modules)
    targets = adapter_targets(policy, heads, config.kv, **extra) if heads else None
    everything = adapter_targets(policy, sites.eligible_heads(part), config.kv, **extra).parameters(policy.model, config.rank)
    batches = Batches(policy, demonstrations, config)
    with stage(progress, "hashing the demonstrations"):
        digest = _digest(demonstrations)
    settings = {
        "base_sha256": sha256, "demonstrations_sha256": digest, "heads": [list(head) for head in heads],
        "statistics_sha256": hashlib.sha256(policy.config.model_dump_json(include=set(FITTED)).encode()).hexdigest(),
        "config": config.model_dump(),
    }  # fmt: skip
    result = out / CHECKPOINT / CONFIG_FILE if config.full else out / HEADS
    if processes.writes:
        _prepare(out, settings)
    processes.wait()
    _prepare(out, settings)
    if result.exists() and (out / SUMMARY).exists():
        if processes.writes:
            (out / STATE).unlink(missing_ok=True)  # of a run killed before it could
        return _read(out / SUMMARY)
    torch.manual_seed(config.seed)
    if heads:
        add_adapter(policy.model, targets, config.rank, config.alpha)
    else:
        policy.requires_grad_(config.full)
    if config.precision == "bfloat16":
        # Small steps of an optimiser would be lost in bfloat16's 8 bits.
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    if config.full:
        within_reach = reached(policy, config, len(demonstrations.images))
        for name, parameter in policy.model.named_parameters():
            parameter.requires_grad_(name in within_reach)
    lowest = min((head.layer for head in heads if head.part == "vlm"), default=len(policy.backbone.layers))
    first = 0 if config.full or part == "vlm" and heads and config.feed_forward else lowest
    frozen = isinstance(policy, FlowPolicy) and not prefix_is_trained(policy, len(demonstrations.images))
    trainable = sum(parameter.numel() for parameter in policy.model.parameters() if parameter.requires_grad)
    if processes.writes and trainable:
        there = (out / STATE).stat().st_size if (out / STATE).exists() else 0
        saved = sum(tensor.nbytes for tensor in policy.model.state_dict().values()) if config.full else 0
        require_room(out, 2 * state_bytes(trainable, config) - there + saved)  # the state before goes when the next one is there
    words = longest(policy, demonstrations) if frozen else None

    @cache
    def needed(config: FinetuneConfig) -> Memory:
        policy.backbone.checkpointing = config.checkpointing
        frames = -(-config.batch_size // (processes.count * config.accumulate))
        shards = processes.count if processes.sharded else 1
        return estimate(policy, config, frames, len(demonstrations.images), first, frozen=frozen, words=words, shards=shards)

    with stage(progress, "estimating the memory"):
        memory = needed(config)
    if progress:
        each = f" in each of {processes.count} processes" if processes.count > 1 else ""
        progress.console.print(f"{memory}{each}; {trainable:,} trainable parameters")
        most = room(processes.device or policy.device)
        if memory.total > most:
            progress.console.print("looking for settings that need less")
            progress.console.print(advice(needed, config, processes.count, most))
        unfit = trainable and config.warning(sum(parameter.numel() for parameter in policy.model.parameters()))
        if unfit:
            progress.console.print(unfit)
    policy.backbone.checkpointing = config.checkpointing
    model = processes.wrapped(policy)
    with torch.no_grad():
        source = model(lambda: _source(policy, demonstrations, first, frozen, progress))
    with stage(progress, "measuring the loss before"):
        before = {"loss_before": measured(model, batches, source)}
        if config.held_out:
            before["held_out_loss_before"] = measured(model, batches, source, held_out=True)
    if not np.isfinite([*before.values()]).all():
        raise UserError(
            f"the policy's loss on the demonstrations is no finite number before any training ({before}): its weights, its statistics or "
            "the demonstrations are damaged; see `robosteer dataset check`"
        )
    trained = {"seconds": 0.0, "steps": 0, "best": None}
    if trainable:
        try:
            trained = run(model, source, batches, out, config, processes, progress, events)
        except KeyboardInterrupt:
            if progress:
                progress.console.print(f"stopped; the same command goes on from step {saved_step(out)} of {config.steps}")
            raise
    with stage(progress, "measuring the loss after"):
        after = {"loss_after": require_finite(measured(model, batches, source), "the loss afterwards", max(trained["steps"] - 1, 0), config)}
        if config.held_out:
            after["held_out_loss_after"] = measured(model, batches, source, held_out=True)
    summary = {
        "heads": settings["heads"],
        "scored_part": scored_part,
        "trained_part": "all" if config.full else part,
        "trainable_parameters": trainable,
        "full_lora_parameters": everything,
        "finetune_s": round(trained["seconds"], 2),
        "steps": trained["steps"],
        **before,
        **after,
        "frames": len(demonstrations),
        "episodes": len(np.unique(demonstrations.episode)),
        "held_out_episodes": batches.held_out.tolist(),
        "held_out_frames": int(np.isin(demonstrations.episode, batches.held_out).sum()),
        "best": trained["best"],
        "better_on_held_out": after["held_out_loss_after"] < before["held_out_loss_before"] if config.held_out and trainable else None,
        "cached_bytes": source.bytes if source else 0,
        "first_layer_run": first,
        "memory_bytes": asdict(memory),
        "processes": processes.count,
        "sharded": processes.sharded,
        "config": config.model_dump(),
    }
    processes.gather(policy)
    if processes.writes:
        write_json(summary, out / SUMMARY)
        if config.full:
            policy.save(out / CHECKPOINT)
        else:
            record = AdapterRecord(
                heads=tuple(heads), scored_part=scored_part, trained_part=part, kv=config.kv, rank=config.rank, alpha=config.alpha,
                base=base, base_sha256=sha256, dataset=dataset, instructions=tuple(sorted(set(demonstrations.instruction))),
                **{key: getattr(policy.config, key) for key in FITTED}, camera_map=camera_map, scores=scores, **extra,
            )  # fmt: skip
            save_adapter(policy, out, record)
        (out / STATE).unlink(missing_ok=True)
    processes.wait()
    return summary


def _source(
    policy: Policy, demonstrations: Demonstrations, first: int, frozen: bool, progress: Progress | None = None
) -> PrefixSource | None:
    """Prefixes of a policy that follows a flow: computed once below layer `first` where nothing that enters it is trained."""
    if not isinstance(policy, FlowPolicy):
        return None
    return FrozenPrefix(policy, demonstrations, first, progress=progress) if frozen else WholePrefix(policy, demonstrations)


def _prepare(out: Path, settings: dict[str, Any]) -> None:
    """Make `out` the folder of this run, if it is not. Raises UserError where it holds another one or something else."""
    path = out / SETTINGS
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(file.name != f"{SETTINGS}.tmp" for file in out.iterdir())):
            raise UserError(f"expected a new folder, or one of an earlier run, at {out}; found something else; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        write_json(settings, path)
        return
    # Runs of before did not tell their statistics.
    found = {"statistics_sha256": settings["statistics_sha256"]} | _read(path)
    there, here = _flat(found), _flat(json.loads(json.dumps(settings)))
    differing = [f"{key} ({there.get(key)} there, {here[key]} here)" for key in here if there.get(key) != here[key]]
    if differing:
        raise UserError(f"{out} holds a run that differs in {', '.join(differing)}; choose another --out or remove it")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); it may be truncated: remove the folder, and the run begins anew") from error


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the config beside the others."""
    return {key: value for key, value in settings.items() if key != "config"} | settings.get("config", {})


def _digest(demonstrations: Demonstrations) -> str:
    """SHA-256 of everything that is trained on."""
    digest = hashlib.sha256("\n".join(demonstrations.instruction).encode())
    for values in (demonstrations.state, demonstrations.action, demonstrations.episode, *demonstrations.images.values()):
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()
