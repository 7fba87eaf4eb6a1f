"""Checkpoint folders as they lie on the hub: what lerobot, openpi and OpenVLA say of their policies' inputs and actions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import MODEL_FILE, read_json, read_tensors, tensor_shapes
from robosteer_core.vla.config import CONFIG_FILE, Family, Normalisation, PolicyConfig, Quantiles, Statistics
from robosteer_core.vla.paligemma import image_size

_LOG = logging.getLogger(__name__)

_IMAGES, _STATE, _ACTION = "observation.images.", "observation.state", "action"
#: Options of lerobot that change what a policy computes and that are not built here, with the value that is.
_LEROBOT_PLAIN = {
    "use_relative_actions": False, "use_visual_memory": False, "use_proprioceptive_memory": False, "adapt_to_pi_aloha": False,
    "add_image_special_tokens": False, "attention_mode": "cross_attn", "self_attn_every_n_layers": 2,
}  # fmt: skip


def describe(folder: Path) -> PolicyConfig:
    """What a folder without a `policy.json` says of its policy, from its own files.

    The names of state and action dimensions, which such files do not hold, become `state_0`, `action_0` and so on.
    Raises UserError where it is no checkpoint of a family that is known.
    """
    said = read_json(folder / MODEL_FILE)
    if "type" in said:
        return _lerobot(folder, said)
    if "action_horizon" in said:
        return _openpi(folder, said)
    if said.get("model_type") == "openvla":
        return _openvla(folder, said)
    raise UserError(
        f"no policy in {folder}: expected {CONFIG_FILE}, or a {MODEL_FILE} of lerobot (with `type`), openpi (with "
        f"`action_horizon`) or OpenVLA (with `model_type`: openvla)"
    )


def _config(
    family: Family, preprocessing: str, cameras: tuple[str, ...], size: int, tokens: int, steps: int, state: Statistics, action: Statistics
) -> PolicyConfig:
    return PolicyConfig(
        family=family, preprocessing=preprocessing, cameras=cameras, image_size=size, instruction_tokens=tokens, flow_steps=steps,
        state_names=_names("state", state), action_names=_names("action", action), action_hz=0.0, state=state, action=action,
    )  # fmt: skip


def _names(kind: str, statistics: Statistics) -> tuple[str, ...]:
    return tuple(f"{kind}_{index}" for index in range(statistics.width))


def _as_it_is(width: int, like: Statistics) -> Statistics:
    """Statistics that change nothing, of the kind of `like`: what a dataset's own are made after (`config.new_statistics`)."""
    if isinstance(like, Normalisation):
        return Normalisation(mean=(0.0,) * width, std=(1.0,) * width)
    return like.model_copy(update={"low": (-1.0,) * width, "high": (1.0,) * width})


_MEAN_STD, _QUANTILES = Normalisation(mean=(), std=()), Quantiles(low=(), high=())


# --- lerobot --------------------------------------------------------------------------------------------------------


def _lerobot(folder: Path, said: Mapping[str, Any]) -> PolicyConfig:
    family = said["type"]
    if family not in ("pi0", "pi05", "smolvla"):
        raise UserError(f"{folder} holds a policy of lerobot's type {family!r}; expected one of pi0, pi05, smolvla")
    for option, plain in _LEROBOT_PLAIN.items():
        if said.get(option, plain) != plain:
            raise UserError(f"{folder / MODEL_FILE}: {option} is {said[option]!r}; robosteer runs policies with {plain!r} alone")
    try:
        inputs, outputs, rules = said["input_features"], said["output_features"], said["normalization_mapping"]
        renamed = _lerobot_names(folder)
        cameras = tuple(renamed.get(name, name).removeprefix(_IMAGES) for name, feature in inputs.items() if feature["type"] == "VISUAL")
        widths = {_STATE: inputs.get(_STATE, {"shape": [said.get("max_state_dim", 32)]})["shape"][0], _ACTION: outputs[_ACTION]["shape"][0]}
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"{folder / MODEL_FILE} does not describe inputs and outputs as lerobot does: {error!r} is missing") from error
    stored = _lerobot_statistics(folder)
    kind = _QUANTILES if family == "pi05" else _MEAN_STD
    state = _lerobot_normalisation(folder, stored, _STATE, rules.get("STATE", "IDENTITY"), widths[_STATE], kind)
    action = _lerobot_normalisation(folder, stored, _ACTION, rules.get("ACTION", "IDENTITY"), widths[_ACTION], kind)
    size = said.get("resize_imgs_with_padding" if family == "smolvla" else "image_resolution") or ([512] if family == "smolvla" else [224])
    if len(set(size)) != 1:
        raise UserError(f"{folder / MODEL_FILE}: expected square images; found {size}")
    tokens = said.get("tokenizer_max_length", 200 if family == "pi05" else 48)
    steps = said.get("num_steps" if family == "smolvla" else "num_inference_steps", 10)
    return _config(family, "lerobot", cameras, size[0], tokens, steps, state, action)


def _lerobot_names(folder: Path) -> dict[str, str]:
    """What the robot calls each of the policy's inputs, where its processor renames them on the way in.

    Raises UserError where something else than a camera is renamed.
    """
    path = folder / "policy_preprocessor.json"
    steps = read_json(path).get("steps", []) if path.is_file() else []
    maps = [step.get("config", {}).get("rename_map") or {} for step in steps if step.get("registry_name") == "rename_observations_processor"]
    renamed = {ours: theirs for names in maps for theirs, ours in names.items()}
    for ours, theirs in renamed.items():
        if ours != theirs and not (ours.startswith(_IMAGES) and theirs.startswith(_IMAGES)):
            raise UserError(f"{path} renames {theirs!r} to {ours!r}; robosteer renames cameras ({_IMAGES}NAME) alone: take it out of rename_map")
    return renamed


def _lerobot_statistics(folder: Path) -> dict[str, np.ndarray]:
    """`observation.state.mean`, `action.q99` and so on, from the files that the processors' steps name."""
    found: dict[str, np.ndarray] = {}
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        if not (folder / name).is_file():
            continue
        for step in read_json(folder / name).get("steps", []):
            file = step.get("state_file")
            if file and "normalizer" in step.get("registry_name", ""):
                try:
                    found |= load_file(folder / file)
                except (SafetensorError, OSError) as error:
                    raise UserError(f"{folder / file}, which {name} names, cannot be read ({error}); copy it again") from error
    if not found:  # older files keep them among the weights, as `normalize_inputs.buffer_observation_state.mean`
        for name, tensor in read_tensors(folder, statistics=True).items():
            key, _, column = name.partition(".buffer_")[2].rpartition(".")
            found[f"{key.replace('observation_state', _STATE)}.{column}"] = tensor.float().numpy()
    return found


def _lerobot_normalisation(folder: Path, stored: Mapping[str, np.ndarray], key: str, rule: str, width: int, kind: Statistics) -> Statistics:
    """lerobot adds 1e-8 to the deviation that it divides by; `kind` is the family's own, which no rule but IDENTITY leaves open."""
    columns = {"MEAN_STD": ("mean", "std"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90"), "MIN_MAX": ("min", "max")}
    tails = {"QUANTILES": 0.01, "QUANTILE10": 0.1, "MIN_MAX": 0.0}
    if rule not in (*columns, "IDENTITY"):
        raise UserError(f"{folder / MODEL_FILE}: expected a normalisation out of {', '.join(columns)} and IDENTITY; found {rule!r}")
    if rule == "IDENTITY":
        return _as_it_is(width, kind)
    kind = _QUANTILES.model_copy(update={"tail": tails[rule]}) if rule in tails else _MEAN_STD
    first, second = (stored.get(f"{key}.{column}") for column in columns[rule])
    if first is None or second is None:
        _LOG.warning("%s has no statistics of %s (%s): it is taken as it is; give it a dataset, or a %s", folder, key, rule, CONFIG_FILE)
        return _as_it_is(width, kind)
    first, second = np.ravel(first).astype(float), np.ravel(second).astype(float)
    if rule == "MEAN_STD":
        return Normalisation(mean=tuple(first), std=tuple(second + 1e-8))
    return kind.model_copy(update={"low": tuple(first.tolist()), "high": tuple(second.tolist())})


# --- openpi ---------------------------------------------------------------------------------------------------------

_OPENPI_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


def _openpi(folder: Path, said: Mapping[str, Any]) -> PolicyConfig:
    shapes = tensor_shapes(folder)
    family: Family = "pi05" if "time_mlp_in.weight" in shapes else "pi0"
    size = image_size(shapes, folder)
    paths = sorted(folder.glob("assets/**/norm_stats.json"))
    if len(paths) == 1:
        content = read_json(paths[0]).get("norm_stats", {})
        state, action = (_openpi_normalisation(paths[0], content, key, family == "pi05") for key in ("state", "actions"))
    else:
        robots = ", ".join(path.parent.name for path in paths) or "none"
        _LOG.warning("%s has statistics of several robots or none (%s): all is taken as it is; give it a %s", folder, robots, CONFIG_FILE)
        state = action = _as_it_is(int(said.get("action_dim", 32)), _QUANTILES if family == "pi05" else _MEAN_STD)
    return _config(family, "openpi", _OPENPI_CAMERAS, size, 200 if family == "pi05" else 48, 10, state, action)


def _openpi_normalisation(path: Path, content: Mapping[str, Any], key: str, quantiles: bool) -> Statistics:
    """openpi adds 1e-6 to the deviation, or to the distance of the quantiles, both ways."""
    try:
        first, second = (tuple(map(float, content[key][column])) for column in (("q01", "q99") if quantiles else ("mean", "std")))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not hold the statistics of {key}: {error!r}") from error
    if quantiles:
        return Quantiles(low=first, high=tuple(high + 1e-6 for high in second))
    return Normalisation(mean=first, std=tuple(deviation + 1e-6 for deviation in second))


# --- OpenVLA and OpenVLA-OFT ----------------------------------------------------------------------------------------


def _openvla(folder: Path, said: Mapping[str, Any]) -> PolicyConfig:
    if said.get("n_action_bins", 256) != 256 or not said.get("use_fused_vision_backbone", True):
        raise UserError(f"{folder / MODEL_FILE}: expected OpenVLA's 256 bins and two vision towers")
    path = folder / "dataset_statistics.json"  # of a finetuned checkpoint; the base keeps them in its configuration
    known = read_json(path) if path.is_file() else said.get("norm_stats") or {}
    oft = any(folder.glob("action_head--*checkpoint.pt"))
    sizes, names = said.get("image_sizes") or [224], ", ".join(known) or "none"
    clipped = Quantiles(low=(), high=(), clip=True)
    state, action = _as_it_is(0, clipped), _as_it_is(7, clipped).model_copy(update={"mask": (True,) * 6 + (False,)})
    if known:
        # Of several, what they have in common: their widths, and that the gripper is left.
        name, statistics = next(iter(known.items()))
        # OFT takes the bounds of its ALOHA data, which have 14 dimensions, else their quantiles.
        columns = ("min", "max") if oft and "aloha" in name.lower() else ("q01", "q99")
        action = _openvla_normalisation(folder, statistics, "action", columns)
        if oft and any(folder.glob("proprio_projector--*checkpoint.pt")):
            state = _openvla_normalisation(folder, statistics, "proprio", columns)
    if len(known) != 1:
        state, action = (_as_it_is(one.width, one) for one in (state, action))
        _LOG.warning("%s has statistics of several datasets or none (%s): all is taken as it is; give it a %s", folder, names, CONFIG_FILE)
    cameras = ("image", "wrist_image") if oft else ("image",)
    return _config("openvla_oft" if oft else "openvla", "openvla_crop" if oft else "openvla", cameras, sizes[0], 96, 1, state, action)


def _openvla_normalisation(folder: Path, statistics: Mapping[str, Any], key: str, columns: tuple[str, str]) -> Quantiles:
    try:
        low, high = (tuple(map(float, statistics[key][column])) for column in columns)
        mask = statistics[key].get("mask")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder} does not hold the statistics of {key}: {error!r}") from error
    tail = 0.0 if columns == ("min", "max") else 0.01
    return Quantiles(low=low, high=high, mask=None if mask is None else tuple(map(bool, mask)), clip=True, tail=tail)
