"""Adapters on disk: `adapter_model.safetensors` and `adapter_config.json` as PEFT reads them, `heads.json` and a card beside."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import LoraConfig
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from robosteer_core.adapters.card import training_of, write_card
from robosteer_core.adapters.slices import KeyValueRule
from robosteer_core.adapters.sparse_lora import ADAPTER, adapted_modules, add_adapter, merge, switch
from robosteer_core.adapters.targets import Targets, adapter_targets
from robosteer_core.errors import UserError
from robosteer_core.files import write_text, written
from robosteer_core.vla.checkpoint import fingerprint
from robosteer_core.vla.config import PolicyConfig, Statistics
from robosteer_core.vla.policy import Policy
from robosteer_core.vla.sites import Head

WEIGHTS, CONFIG, HEADS = "adapter_model.safetensors", "adapter_config.json", "heads.json"
PREFIX = "base_model.model."  # of every key in a PEFT file
#: What an adapter says of the policy's inputs and actions, since it was fitted to a dataset.
FITTED = ("state", "action", "state_names", "action_names", "action_hz", "cameras")


class AdapterRecord(BaseModel):
    """`heads.json`: what PEFT's own files cannot say.

    `heads` as trained, [part, layer, head]; `base` the checkpoint folder at training time and `base_sha256` its
    weights; `scored_part` the part whose heads were ranked, None where none was; `state` and `action` the statistics
    that the policy was trained with, for dimensions of these names, `action_hz` and `cameras`, as in `PolicyConfig` (None in
    adapters of before: the base's own); `camera_map` which of the dataset's cameras stood for each of the base's. No heads: the base itself. `feed_forward` and `action_modules` as in
    `adapter_targets`; `scores` (layers, heads) the errors by which the heads were chosen, where they were.
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
    state_names: tuple[str, ...] | None = None
    action_names: tuple[str, ...] | None = None
    action_hz: float | None = None
    cameras: tuple[str, ...] | None = None
    camera_map: dict[str, str] | None = None
    feed_forward: bool = False
    action_modules: bool = False
    scores: tuple[tuple[float, ...], ...] | None = None

    def targets(self, policy: Policy) -> Targets:
        """Raises UserError where the policy lacks what was trained."""
        return adapter_targets(policy, self.heads, self.kv, feed_forward=self.feed_forward, action_modules=self.action_modules)

    def described(self, base: PolicyConfig) -> PolicyConfig:
        """What the base's inputs and actions mean with this adapter."""
        said = {key: getattr(self, key) for key in FITTED}
        return base.model_copy(update={key: value for key, value in said.items() if value is not None})


def save_adapter(policy: Policy, folder: Path | str, record: AdapterRecord, name: str = ADAPTER) -> None:
    """Write the adapter that `policy` carries. `heads.json` is written last: a folder without it holds no adapter."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HEADS).unlink(missing_ok=True)
    if record.heads:
        config: LoraConfig = policy.model.peft_config[name]
        config.base_model_name_or_path = record.base
        with written(folder / WEIGHTS) as temporary:
            save_file(adapter_weights(policy, name), temporary, metadata={"format": "pt"})
        content = config.to_dict() | {"inference_mode": True, "target_modules": sorted(config.target_modules)}
        _write(folder / CONFIG, content)
        write_card(folder, record, policy, (folder / WEIGHTS, folder / CONFIG), training_of(folder))
    _write(folder / HEADS, record.model_dump(mode="json"))


def adapter_weights(policy: Policy, name: str = ADAPTER) -> dict[str, torch.Tensor]:
    """The adapter as PEFT names it, dense with zeros outside of the heads."""
    found = {}
    for path, module in adapted_modules(policy.model).items():
        state = module.state_dict()
        for key, value in state.items():
            kind, _, rest = key.partition(f".{name}.")
            if rest and kind.startswith("lora_"):
                found[f"{PREFIX}{path}.{kind}.{rest}"] = value.contiguous()
            elif rest and kind == "modules_to_save":
                found[f"{PREFIX}{path}.{rest}"] = value.contiguous()
    return found


def read_record(folder: Path | str) -> AdapterRecord:
    """Raises UserError where the folder holds no adapter of ours."""
    path = Path(folder) / HEADS
    if not path.is_file():
        raise UserError(f"no adapter in {folder}: expected a folder with {WEIGHTS}, {CONFIG} and {HEADS}; make one with `robosteer finetune`")
    try:
        return AdapterRecord.model_validate(json.loads(path.read_text()))
    except ValueError as error:
        raise UserError(f"{path} does not describe an adapter: {error}") from error


def base_of(policy: Policy) -> tuple[str, str]:
    """Checkpoint folder that the policy was loaded from, and the SHA-256 of its weights."""
    source = policy.source
    if source is None:
        raise UserError("this policy was not loaded from a checkpoint; save it and load it, so that adapters can name their base")
    return str(source.absolute()), fingerprint(source)


def apply_adapter(policy: Policy, folder: Path | str, *, merged: bool = False, name: str = ADAPTER) -> AdapterRecord:
    """Put the adapter in `folder` into `policy`, in place; `merged` into its weights, which costs no time afterwards.

    The policy takes on the statistics that the adapter was trained with, and its names, rate and cameras. Raises UserError where the adapter was made
    for another base, names heads that the model lacks, or is damaged, and where an adapter of this name is there already; the policy
    is then as it was.
    """
    folder, record = Path(folder), read_record(folder)
    if name in getattr(policy.model, "peft_config", {}):
        raise UserError(f"the policy carries an adapter {name!r} already, and {folder} would mix with it; load the base anew, or give another name")
    base, sha256 = base_of(policy)
    if sha256 != record.base_sha256:
        raise UserError(
            f"the adapter {folder} was made for the base {record.base} (weights {record.base_sha256[:12]}); the policy is "
            f"{base} (weights {sha256[:12]}); load that base or make an adapter for this one"
        )
    if record.heads:
        targets = record.targets(policy)
        weights = read_weights(folder / WEIGHTS)
        shapes = _expected_shapes(policy, targets, record.rank)
        found = {key: tuple(value.shape) for key, value in weights.items()}
        if found != shapes:
            differing = sorted(key for key in shapes.keys() | found.keys() if shapes.get(key) != found.get(key))
            raise UserError(
                f"{folder / WEIGHTS} does not fit its {HEADS}: expected {differing[0]} of shape {shapes.get(differing[0])}; "
                f"found {found.get(differing[0])}"
            )
        broken = [key for key, value in weights.items() if not torch.isfinite(value).all()]
        if broken:
            raise UserError(f"{folder / WEIGHTS} holds values that are not finite in {broken[0]}; train it again, with a lower rate")
        for path, part in targets.slices.items():
            dense = weights[f"{PREFIX}{path}.lora_{'B' if part.dim == 0 else 'A'}.weight"]
            if dense.count_nonzero() > dense.index_select(part.dim, torch.tensor(part.indices)).count_nonzero():
                raise UserError(f"{folder / WEIGHTS} changes other heads of {path} than {HEADS} names: they are of two adapters; copy it again")
        add_adapter(policy.model, targets, record.rank, record.alpha, name)
        for path, module in adapted_modules(policy.model).items():
            own = {key.removeprefix(f"{PREFIX}{path}."): value for key, value in weights.items() if key.startswith(f"{PREFIX}{path}.")}
            if not own:
                continue
            if path in targets.full:
                module.modules_to_save[name].load_state_dict(own)
            else:
                state = {f"{key.removesuffix('.weight')}.{name}.weight": value for key, value in own.items()}
                module.load_state_dict(state, strict=False)
        switch(policy.model, name)
        policy.eval()
        if merged:
            merge(policy.model)
    policy.config = record.described(policy.config)
    return record


def _expected_shapes(policy: Policy, targets: Targets, rank: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in (*targets.slices, *targets.whole):
        layer = policy.model.get_submodule(path)
        shapes[f"{PREFIX}{path}.lora_A.weight"] = (rank, layer.in_features)
        shapes[f"{PREFIX}{path}.lora_B.weight"] = (layer.out_features, rank)
    for path in targets.full:
        module = policy.model.get_submodule(path)
        module = getattr(module, "original_module", module)  # where another adapter is in place
        shapes |= {f"{PREFIX}{path}.{key}": tuple(value.shape) for key, value in module.state_dict().items()}
    return shapes


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Raises UserError where the file is missing or truncated."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"the adapter lacks {path}; copy it again") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); it may be truncated: copy it again") from error


def _write(path: Path, content: dict) -> None:
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")
