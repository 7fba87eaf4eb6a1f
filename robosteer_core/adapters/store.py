"""Adapters on disk: `adapter_model.safetensors` and `adapter_config.json` as PEFT reads them, and `heads.json` beside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from peft import LoraConfig
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from robosteer_core.adapters.slices import KeyValueRule, head_slices
from robosteer_core.adapters.sparse_lora import ADAPTER, adapter_layers, add_adapter, merge
from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import fingerprint
from robosteer_core.vla.config import Statistics
from robosteer_core.vla.policy import Policy
from robosteer_core.vla.sites import Head

WEIGHTS, CONFIG, HEADS = "adapter_model.safetensors", "adapter_config.json", "heads.json"
_PREFIX = "base_model.model."  # of every key in a PEFT file


class AdapterRecord(BaseModel):
    """`heads.json`: what PEFT's own files cannot say.

    `heads` as trained, [part, layer, head]; `base` the checkpoint folder at training time and `base_sha256` its
    weights; `scored_part` the part whose heads were ranked, None where none was; `state` and `action` the statistics
    that the policy was trained with. No heads: the base itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    heads: tuple[Head, ...]
    scored_part: str | None
    trained_part: str
    kv: KeyValueRule
    rank: int
    alpha: float
    base: str
    base_sha256: str
    dataset: str
    instructions: tuple[str, ...]
    state: Statistics
    action: Statistics


def save_adapter(policy: Policy, folder: Path | str, record: AdapterRecord, name: str = ADAPTER) -> None:
    """Write the adapter that `policy` carries. `heads.json` is written last: a folder without it holds no adapter."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HEADS).unlink(missing_ok=True)
    if record.heads:
        config: LoraConfig = policy.model.peft_config[name]
        config.base_model_name_or_path = record.base
        temporary = folder / (WEIGHTS + ".tmp")
        save_file(adapter_weights(policy, name), temporary, metadata={"format": "pt"})
        os.replace(temporary, folder / WEIGHTS)
        content = config.to_dict() | {"inference_mode": True, "target_modules": sorted(config.target_modules)}
        _write(folder / CONFIG, content)
    _write(folder / HEADS, record.model_dump(mode="json"))


def adapter_weights(policy: Policy, name: str = ADAPTER) -> dict[str, torch.Tensor]:
    """The adapter as PEFT names it, dense with zeros outside of the heads."""
    found = {}
    for path, layer in adapter_layers(policy.model).items():
        for key, value in layer.state_dict().items():
            if key.startswith("lora_"):
                found[f"{_PREFIX}{path}.{key.replace(f'.{name}.', '.')}"] = value.contiguous()
    return found


def read_record(folder: Path | str) -> AdapterRecord:
    """Raises UserError where the folder holds no adapter of ours."""
    path = Path(folder) / HEADS
    if not path.is_file():
        raise UserError(f"no adapter in {folder}: expected a folder with {WEIGHTS}, {CONFIG} and {HEADS}; make one with `robosteer finetune`")
    try:
        return AdapterRecord.model_validate(json.loads(path.read_text()))
    except (ValidationError, json.JSONDecodeError) as error:
        raise UserError(f"{path} does not describe an adapter: {error}") from error


def base_of(policy: Policy) -> tuple[str, str]:
    """Checkpoint folder that the policy was loaded from, and the SHA-256 of its weights."""
    source = policy.source
    if source is None:
        raise UserError("this policy was not loaded from a checkpoint; save it and load it, so that adapters can name their base")
    return str(source), fingerprint(source)


def apply_adapter(policy: Policy, folder: Path | str, *, merged: bool = False, name: str = ADAPTER) -> AdapterRecord:
    """Put the adapter in `folder` into `policy`, in place; `merged` into its weights, which costs no time afterwards.

    The policy takes on the statistics that the adapter was trained with. Raises UserError where the adapter was made
    for another base, names heads that the model lacks, or is damaged; the policy is then as it was.
    """
    folder, record = Path(folder), read_record(folder)
    base, sha256 = base_of(policy)
    if sha256 != record.base_sha256:
        raise UserError(
            f"the adapter {folder} was made for the base {record.base} (weights {record.base_sha256[:12]}); the policy is "
            f"{base} (weights {sha256[:12]}); load that base or make an adapter for this one"
        )
    if record.heads:
        slices = head_slices(policy.sites, record.heads, record.kv)
        weights = _read_weights(folder / WEIGHTS)
        shapes = _expected_shapes(policy, slices, record.rank)
        found = {key: tuple(value.shape) for key, value in weights.items()}
        if found != shapes:
            differing = sorted(key for key in shapes.keys() | found.keys() if shapes.get(key) != found.get(key))
            raise UserError(
                f"{folder / WEIGHTS} does not fit its {HEADS}: expected {differing[0]} of shape {shapes.get(differing[0])}; "
                f"found {found.get(differing[0])}"
            )
        add_adapter(policy.model, slices, record.rank, record.alpha, name)
        for path, layer in adapter_layers(policy.model).items():
            for factor in ("lora_A", "lora_B"):
                dense = weights[f"{_PREFIX}{path}.{factor}.weight"]
                layer.load_state_dict({f"{factor}.{name}.weight": dense}, strict=False)
        for layer in adapter_layers(policy.model).values():
            layer.requires_grad_(False)
        policy.eval()
        if merged:
            merge(policy.model)
    policy.config = policy.config.model_copy(update={"state": record.state, "action": record.action})
    return record


def _expected_shapes(policy: Policy, slices, rank: int) -> dict[str, tuple[int, int]]:
    shapes = {}
    for path in slices:
        layer = policy.model.get_submodule(path)
        shapes[f"{_PREFIX}{path}.lora_A.weight"] = (rank, layer.in_features)
        shapes[f"{_PREFIX}{path}.lora_B.weight"] = (layer.out_features, rank)
    return shapes


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"the adapter lacks {path}; copy it again") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); it may be truncated: copy it again") from error


def _write(path: Path, content: dict) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")
    os.replace(temporary, path)
