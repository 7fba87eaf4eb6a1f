"""Checkpoint folders: which family lies in one, its weights as tensors by name, and what is wrong with them."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.initialization import no_init_weights

from robosteer_core.errors import UserError
from robosteer_core.vla.config import CONFIG_FILE, Family, PolicyConfig
from robosteer_core.vla.policy import Policy

WEIGHTS_FILE, INDEX_FILE, MODEL_FILE = "model.safetensors", "model.safetensors.index.json", "config.json"

#: Where older files of lerobot keep statistics of the data among the weights.
STATISTICS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")

#: The module of each family, with a function `load(folder, config)`; imported when a checkpoint of it is opened.
FAMILIES: dict[Family, str] = {family: f"robosteer_core.vla.{family}" for family in ("pi0", "pi05", "smolvla", "openvla", "openvla_oft")}


def load_policy(folder: Path | str, *, dtype: torch.dtype = torch.float32) -> Policy:
    """Read a checkpoint folder of any family, ours or as it lies on the hub, with weights of `dtype`.

    A `policy.json` of ours says what inputs and actions mean; without one, a folder of the hub is taken by what its own files say
    (see `layouts.describe`), which no rig agrees with until it is fitted to a dataset. Raises UserError where something is missing,
    truncated or does not fit.
    """
    folder = Path(folder)
    if (folder / CONFIG_FILE).is_file() or not (folder / MODEL_FILE).is_file():
        config = PolicyConfig.load(folder)
    else:
        config = import_module("robosteer_core.vla.layouts").describe(folder)
    policy = import_module(FAMILIES[config.family]).load(folder, config, dtype)
    _require_agreement(policy, folder)
    return policy


def _require_agreement(policy: Policy, folder: Path) -> None:
    """Raises UserError where the description of a policy's inputs and actions does not fit its model."""
    config = policy.config
    for what, names, statistics, most in (
        ("action", config.action_names, config.action, policy.action_dim), ("state", config.state_names, config.state, policy.state_dim)
    ):  # fmt: skip
        widths = {len(values) for values in vars(statistics).values() if isinstance(values, tuple)}
        if widths != {len(names)}:
            found = " and ".join(map(str, sorted(widths)))
            raise UserError(f"{folder}: expected statistics of the {len(names)} {what} dimensions; found {found}")
        if len(names) > most:
            raise UserError(f"{folder}: the model takes {what}s of at most {most} dimensions; its description names {len(names)}")
    if config.image_size != policy.vision_size:
        raise UserError(
            f"{folder}: the model sees images of {policy.vision_size} pixels a side; its description says {config.image_size}"
        )
    words, places = policy.tokenizer.vocabulary_size, policy.backbone.embed_tokens.num_embeddings
    if words > places:
        raise UserError(f"{folder}: its tokenizer has {words} words, the model {places}; it is another model's")


def on_device(policy: Policy, device: str) -> Policy:
    """The policy on a device of torch: cpu, cuda, cuda:1. Raises UserError where this machine has no such device, or no room on it."""
    try:
        return policy.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"the policy cannot run on {device!r} here: {str(error).splitlines()[0]}") from error


def fingerprint(folder: Path | str) -> str:
    """SHA-256 of the weights, of several files in the order of their names: which base an adapter was made for.

    A process reads them once, and again when a file changes.
    """
    files = tuple(weight_files(Path(folder).absolute()))
    return _fingerprint(files, tuple((about.st_mtime_ns, about.st_size) for about in map(Path.stat, files)))


@lru_cache(maxsize=8)
def _fingerprint(files: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Raises UserError where the file is missing or no JSON object."""
    if not path.is_file():
        raise UserError(f"{path.parent} lacks {path.name}; copy it again")
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no JSON ({error}); it may be truncated: copy it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object; found {type(content).__name__}")
    return content


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the weights: one, or the shards that an index names. Raises UserError."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if not (folder / INDEX_FILE).is_file():
        raise UserError(f"the policy in {folder} lacks {WEIGHTS_FILE}")
    names = read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(names, dict) or {*map(type, names.values())} != {str}:
        raise UserError(f"{folder / INDEX_FILE} names no weights; copy it again")
    paths = [folder / name for name in sorted(set(names.values()))]
    for path in paths:
        if not path.is_file():
            raise UserError(f"the policy in {folder} lacks {path.name}, which {INDEX_FILE} names; copy it again")
    return paths


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a checkpoint, from the heads of its files. Raises UserError as `read_tensors` does."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        shapes |= _opened(path, lambda file: {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})
    return shapes


def read_tensors(folder: Path, *, statistics: bool = False) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by name, mapped from disk; or, of older files of lerobot, the `statistics` among them,
    which are otherwise left out. Raises UserError where a file is truncated or missing."""
    tensors: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        tensors |= _opened(
            path, lambda file: {name: file.get_tensor(name) for name in file.keys() if name.startswith(STATISTICS) == statistics}
        )  # fmt: skip
    return tensors


def read_pickled(path: Path, remedy: str) -> dict[str, Any]:
    """What torch saved. Raises UserError, with what to do, where it is truncated or no dictionary."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
    except (RuntimeError, ValueError, OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}); it may be truncated: {remedy}") from error
    return found


def _opened(path: Path, read):
    try:
        with safe_open(path, framework="pt") as file:
            return read(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); it may be truncated: copy it again") from error


@contextmanager
def empty(dtype: torch.dtype) -> Iterator[None]:
    """Modules that are made here have weights of `dtype` that nobody has drawn: `put_tensors` fills them."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with no_init_weights():
            yield
    finally:
        torch.set_default_dtype(before)


def put_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor], source: Path, *, optional: frozenset[str] = frozenset()) -> None:
    """Copy `tensors` into the parameters and buffers of `model` of the same names; `optional` ones may be missing and are 0.

    Raises UserError naming the first of the names that are missing, unexpected or of another shape.
    """
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - tensors.keys() - optional)
    unexpected = sorted(tensors.keys() - wanted.keys())
    shapes = [
        f"{name} (expected {tuple(wanted[name].shape)}, found {tuple(tensors[name].shape)})"
        for name in sorted(wanted.keys() & tensors.keys()) if wanted[name].shape != tensors[name].shape
    ]  # fmt: skip
    whole = [f"{name} ({tensors[name].dtype})" for name in sorted(tensors) if not tensors[name].is_floating_point()]
    wrong = {"missing": missing, "unexpected": unexpected, "of another shape": shapes, "quantised or no weights at all": whole}
    if any(wrong.values()):
        found = "; ".join(f"{what}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
                          for what, names in wrong.items() if names)  # fmt: skip
        raise UserError(f"the weights in {source} do not fit its {MODEL_FILE}: {found}")
    with torch.no_grad():
        for name, place in wanted.items():
            place.copy_(tensors[name]) if name in tensors else place.zero_()
