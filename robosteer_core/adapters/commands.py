"""`robosteer adapter`: look into adapters, merge them, hand them on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from robosteer_core.errors import UserError

if TYPE_CHECKING:
    from robosteer_core.adapters.store import AdapterRecord

app = typer.Typer(no_args_is_help=True, help="Look into adapters, merge them into checkpoints, hand them to PEFT and lerobot.")

Adapter = Annotated[Path, typer.Option(help="folder of the adapter, as `robosteer finetune` writes it")]
Base = Annotated[Optional[Path], typer.Option(help="checkpoint folder of its base [default: the one it was trained on]")]


def _base(policy: Optional[Path], record: AdapterRecord) -> Path:
    """The checkpoint folder to take. Raises UserError where the adapter's own is not here."""
    if policy is None and not Path(record.base).is_dir():
        raise UserError(f"the adapter was trained on {record.base}, which is not here; say where its base lies with --policy")
    return policy or Path(record.base)


@app.command("info")
def info_command(
    adapter: Adapter,
    policy: Annotated[Optional[Path], typer.Option(help="a checkpoint folder: does the adapter fit it?")] = None,
    json_to: Annotated[Optional[str], typer.Option("--json", help="print one JSON object: `-` for stdout, else a file")] = None,
) -> None:
    """Tell what an adapter trains, what it was trained on, and whether it fits a base."""
    import json

    from robosteer_core.adapters.store import CONFIG, HEADS, WEIGHTS, apply_adapter, read_record, read_weights
    from robosteer_core.episodes.layout import write_json

    record = read_record(adapter)
    weights = read_weights(adapter / WEIGHTS) if record.heads else {}
    found = record.model_dump(mode="json", exclude={"scores"}) | {
        "stored_parameters": sum(value.numel() for value in weights.values()),
        "files": {name: (adapter / name).stat().st_size for name in (WEIGHTS, CONFIG, HEADS) if (adapter / name).is_file()},
        "fits": None,
    }
    if policy is not None:
        from robosteer_core.vla.checkpoint import load_policy

        apply_adapter(load_policy(policy), adapter)
        found["fits"] = str(policy)
    if json_to == "-":
        typer.echo(json.dumps(found))
        return
    if json_to is not None:
        write_json(found, Path(json_to))
    heads = " ".join(f"({head.layer},{head.head})" for head in record.heads) or "none: this is the base itself"
    extra = [name for name, there in (("feed-forward layers", record.feed_forward), ("action modules", record.action_modules)) if there]
    for name, value in {
        "instructions": ", ".join(record.instructions),
        "demonstrations": record.dataset,
        "cameras": ", ".join(f"{name}: {source}" for name, source in (record.camera_map or {}).items()) or "the base's",
        "actions": f"{', '.join(record.action_names)}; {record.action_hz:g} a second" if record.action_names else "the base's",
        "base": f"{record.base} (weights {record.base_sha256[:12]})",
        f"{record.trained_part} heads": heads,
        "scored part": record.scored_part or "none",
        "also trained": ", ".join(extra) or "nothing",
        "keys and values": record.kv,
        "rank, alpha": f"{record.rank}, {record.alpha:g}",
        "files": ", ".join(f"{name} {size:,} bytes" for name, size in found["files"].items()),
        **({"fits": f"{policy}"} if policy else {}),
    }.items():
        typer.echo(f"{name:16s} {value}")


@app.command("merge")
def merge_command(
    adapter: Adapter,
    out: Annotated[Path, typer.Option(help="new folder of the merged checkpoint")],
    policy: Base = None,
) -> None:
    """Add an adapter to the weights of its base; writes a checkpoint that needs no adapter."""
    from robosteer_core.adapters.export import require_new
    from robosteer_core.adapters.store import apply_adapter, read_record
    from robosteer_core.vla.checkpoint import load_policy

    require_new(out)
    record = read_record(adapter)
    folder = _base(policy, record)
    merged = load_policy(folder)
    apply_adapter(merged, adapter, merged=True)
    merged.save(out)
    typer.echo(f"{folder} with {adapter}, {len(record.heads)} heads, in {out}")


@app.command("export")
def export_command(
    adapter: Adapter,
    out: Annotated[Path, typer.Option(help="new folder of the exported adapter")],
    policy: Base = None,
    layout: Annotated[str, typer.Option(help="peft: our module paths; lerobot: those of its policy of the same family")] = "peft",
) -> None:
    """Write a plain PEFT adapter: adapter_model.safetensors and adapter_config.json alone."""
    from robosteer_core.adapters.export import export_adapter
    from robosteer_core.adapters.store import read_record
    from robosteer_core.vla.checkpoint import load_policy

    export_adapter(adapter, load_policy(_base(policy, read_record(adapter))), out, layout)
    typer.echo(f"{adapter} for {layout} in {out}")
