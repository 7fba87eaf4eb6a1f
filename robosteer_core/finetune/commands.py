"""`robosteer finetune`: train chosen heads on demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def finetune(
    policy: Annotated[Path, typer.Option(help="checkpoint folder of the base policy")],
    dataset: Annotated[Path, typer.Option(help="LeRobot v3 dataset of the task's demonstrations")],
    heads: Annotated[str, typer.Option(help="a selection's file, random:SEED, all, or none (measures the base)")],
    out: Annotated[Path, typer.Option(help="folder of the adapter; an interrupted run in it goes on")],
    steps: Annotated[int, typer.Option(min=1)] = 600,
    batch_size: Annotated[int, typer.Option(min=1, help="frames a step")] = 32,
    draws: Annotated[int, typer.Option(min=1, help="noises drawn per frame and step")] = 4,
    rank: Annotated[int, typer.Option(min=1)] = 16,
    alpha: Annotated[Optional[float], typer.Option(help="the update is scaled by alpha / rank [default: the rank]")] = None,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 5e-3,
    kv: Annotated[str, typer.Option(help="adapt keys and values too: own (where all heads of a group are chosen), any, none")] = "none",
    feed_forward: Annotated[bool, typer.Option("--ffn", help="a LoRA on all feed-forward layers too, as the release")] = False,
    action_modules: Annotated[
        bool, typer.Option("--action-modules", help="train the projections of state, time and action too, as the release")
    ] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    n_heads: Annotated[Optional[int], typer.Option(min=1, help="how many random heads [default: as many as a selection has]")] = None,
    threads: Annotated[int, typer.Option(min=1, help="of the CPU; a small model gains little from a second one")] = 1,
    json_to: Annotated[Optional[str], typer.Option("--json", help="print the summary as one JSON object: `-` for stdout, else a file")] = None,
) -> None:
    """Train low-rank updates of q and o of the chosen heads, everything else frozen; writes a PEFT adapter."""
    import json

    import torch

    from robosteer_core.episodes.layout import write_json
    from robosteer_core.episodes.reader import Dataset
    from robosteer_core.errors import settings
    from robosteer_core.finetune.heads_option import parse_heads
    from robosteer_core.finetune.train import FinetuneConfig
    from robosteer_core.finetune.train import finetune as train
    from robosteer_core.heads.demonstrations import fit, load_demonstrations
    from robosteer_core.heads.progress import progress_bar
    from robosteer_core.heads.task_heads import read_heads, recorded_scores
    from robosteer_core.vla.checkpoint import load_policy

    config = settings(
        FinetuneConfig, steps=steps, batch_size=batch_size, draws=draws, rank=rank, alpha=rank if alpha is None else alpha,
        learning_rate=lr, kv=kv, feed_forward=feed_forward, action_modules=action_modules, seed=seed,
    )  # fmt: skip
    torch.set_num_threads(threads)
    opened, base = Dataset(dataset), load_policy(policy)
    chosen, scored_part = parse_heads(heads, base.sites, n_heads)
    scores = recorded_scores(read_heads(Path(heads))[1]) if scored_part else None
    fit(base, opened)
    with progress_bar() as progress:
        demonstrations = load_demonstrations(opened, base, progress=progress)
        summary = train(base, demonstrations, chosen, out, config, dataset=str(dataset), scored_part=scored_part, scores=scores, progress=progress)
    if json_to == "-":
        typer.echo(json.dumps(summary))
        return
    if json_to is not None:
        write_json(summary, Path(json_to))
    typer.echo(
        f"{len(chosen)} heads, {summary['trainable_parameters']:,} trainable parameters (all heads, same rank: "
        f"{summary['full_lora_parameters']:,}); flow loss {summary['loss_before']:.4f} -> {summary['loss_after']:.4f} in "
        f"{summary['finetune_s']:.1f} s; adapter in {out}"
    )
