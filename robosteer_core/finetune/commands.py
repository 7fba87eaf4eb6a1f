"""`robosteer finetune`: train chosen heads on demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def finetune(
    policy: Annotated[Path, typer.Option(help="checkpoint folder of the base policy")],
    dataset: Annotated[Path, typer.Option(help="LeRobot v3 dataset of the task's demonstrations")],
    heads: Annotated[
        str,
        typer.Option(
            help="a selection's file; or for comparison random:SEED, layers:N,N (all heads of these layers), all, full (every weight, "
            "to a checkpoint in OUT/policy), none (measures the base)"
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder of the adapter; an interrupted run in it goes on")],
    steps: Annotated[int, typer.Option(min=1)] = 600,
    batch_size: Annotated[int, typer.Option(min=1, help="frames a step, of all processes together")] = 32,
    accumulate: Annotated[int, typer.Option(min=1, help="parts of a batch that pass one after another, to need less memory")] = 1,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="less memory, more time: layers are computed again on the way back")
    ] = False,
    draws: Annotated[int, typer.Option(min=1, help="noises drawn per frame and step")] = 4,
    rank: Annotated[int, typer.Option(min=1)] = 16,
    alpha: Annotated[Optional[float], typer.Option(help="the update is scaled by alpha / rank [default: the rank]")] = None,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 5e-3,
    kv: Annotated[str, typer.Option(help="adapt keys and values too: own (where all heads of a group are chosen), any, none")] = "none",
    feed_forward: Annotated[bool, typer.Option("--ffn", help="a LoRA on all feed-forward layers too, as the release")] = False,
    action_modules: Annotated[
        bool, typer.Option("--action-modules", help="train the projections of state, time and action too, as the release")
    ] = False,
    new_statistics: Annotated[
        bool,
        typer.Option("--new-statistics", help="normalise by the dataset's statistics, as the release, also where it names the policy's own "
                     "dimensions [default: as the selection's heads were scored]"),
    ] = False,
    held_out: Annotated[int, typer.Option(min=0, help="episodes that are not trained on; the step with the lowest loss on them is kept")] = 0,
    validate_every: Annotated[int, typer.Option(min=1, help="steps between losses of the held-out episodes")] = 50,
    patience: Annotated[int, typer.Option(min=1, help="such losses in a row that are no new lowest one, after which training stops")] = 5,
    precision: Annotated[
        Optional[str], typer.Option(help="float32 or bfloat16 [default: bfloat16 on a GPU that has it, else float32]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    n_heads: Annotated[Optional[int], typer.Option(min=1, help="how many random heads [default: as many as a selection has]")] = None,
    sharded: Annotated[
        bool, typer.Option("--sharded", help="several processes share the weights out (FSDP2), for a model that fits no single GPU")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="the log for TensorBoard too, in OUT/tensorboard")] = False,
    threads: Annotated[int, typer.Option(min=1, help="of the CPU; a small model gains little from a second one")] = 1,
    json_to: Annotated[Optional[str], typer.Option("--json", help="print the summary as one JSON object: `-` for stdout, else a file")] = None,
) -> None:
    """Train low-rank updates of q and o of the chosen heads, everything else frozen; writes a PEFT adapter.

    Several processes share each batch: `torchrun --nproc_per_node N -m robosteer_core.cli finetune ...`; with --sharded the
    weights too.
    """
    import json
    from contextlib import nullcontext

    import torch

    from robosteer_core.adapters.card import WORSE
    from robosteer_core.adapters.store import base_of
    from robosteer_core.episodes.layout import write_json
    from robosteer_core.episodes.reader import Dataset
    from robosteer_core.errors import UserError, settings
    from robosteer_core.files import require_writable
    from robosteer_core.finetune.config import FinetuneConfig
    from robosteer_core.finetune.heads_option import parse_heads
    from robosteer_core.finetune.processes import Processes, own_device
    from robosteer_core.finetune.train import CHECKPOINT
    from robosteer_core.finetune.train import finetune as train
    from robosteer_core.heads.demonstrations import fit, load_demonstrations
    from robosteer_core.heads.progress import progress_bar, stage
    from robosteer_core.heads.task_heads import read_heads, recorded_scores
    from robosteer_core.vla.checkpoint import load_policy

    events = None
    if tensorboard:
        from robosteer_core.finetune.events import Events as events  # of an extra: missed before anything is read or written

    if n_heads is not None and not heads.startswith("random:"):
        raise UserError(f"--n-heads is for --heads random:SEED; found --heads {heads}")
    full = heads == "full"
    if full and (kv != "none" or feed_forward or action_modules):
        raise UserError("--heads full trains every weight: leave --kv, --ffn and --action-modules, which are an adapter's, away")
    device = own_device()
    if precision is None:
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    require_writable(out)
    config = settings(
        FinetuneConfig, steps=steps, batch_size=batch_size, draws=draws, rank=rank, alpha=rank if alpha is None else alpha,
        learning_rate=lr, kv=kv, feed_forward=feed_forward, action_modules=action_modules, full=full, accumulate=accumulate,
        checkpointing=checkpointing, precision=precision, held_out=held_out, validate_every=validate_every, patience=patience, seed=seed,
    )  # fmt: skip
    torch.set_num_threads(threads)
    # What is trained stays float32; in a full finetuning that is everything.
    dtype = torch.bfloat16 if precision == "bfloat16" and not full else torch.float32
    opened, processes = Dataset(dataset), Processes(device, sharded=sharded)
    with progress_bar() if processes.writes else nullcontext() as progress:
        with stage(progress, "loading the policy"):
            base = load_policy(policy, dtype=dtype)
        with stage(progress, "hashing the policy's weights"):
            base_of(base)
        chosen, scored_part = parse_heads("none" if full else heads, base, n_heads)
        record = read_heads(Path(heads))[1] if scored_part else {}
        scored_anew = record.get("new_statistics", False)
        scored_otherwise = scored_part and new_statistics and not scored_anew and base.config.action_names == opened.action_names
        taken = fit(base, opened, anew=new_statistics or scored_anew)
        if progress:
            progress.console.print(str(taken))
            if scored_otherwise:
                progress.console.print(f"warning: the heads of {heads} were scored under the policy's statistics, and are trained under the "
                                       "dataset's; select them with --new-statistics, too")  # fmt: skip
        demonstrations = load_demonstrations(opened, base, progress=progress)
        summary = train(
            base, demonstrations, chosen, out, config, dataset=str(dataset), scored_part=scored_part, scores=recorded_scores(record),
            camera_map=taken.cameras, processes=processes, events=events, progress=progress,
        )  # fmt: skip
    if not processes.writes:
        return
    if json_to == "-":
        typer.echo(json.dumps(summary))
    else:
        if json_to is not None:
            write_json(summary, Path(json_to))
        held = ""
        if held_out:
            kept = f" (step {summary['best']['step']} of {summary['steps']} is kept)" if summary["best"] else ""
            held = f"; on {held_out} held-out episodes {summary['held_out_loss_before']:.4f} -> {summary['held_out_loss_after']:.4f}{kept}"
        typer.echo(
            f"{'every weight' if full else f'{len(chosen)} heads'}, {summary['trainable_parameters']:,} trainable parameters (all heads, "
            f"same rank: {summary['full_lora_parameters']:,}); loss {summary['loss_before']:.4f} -> {summary['loss_after']:.4f}{held}; "
            f"{summary['finetune_s']:.1f} s; {f'policy in {out / CHECKPOINT}' if full else f'adapter in {out}'}"
        )
    if summary.get("better_on_held_out") is False:
        typer.echo(f"robosteer: warning: {WORSE}", err=True)
