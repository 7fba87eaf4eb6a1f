"""Adapters for others: a plain PEFT folder without our sidecar, under our names or under lerobot's."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from robosteer_core.adapters.store import CONFIG, PREFIX, WEIGHTS, apply_adapter, read_record, read_weights
from robosteer_core.errors import UserError
from robosteer_core.files import require_writable, written_folder
from robosteer_core.vla.checkpoint import read_json
from robosteer_core.vla.policy import Policy

LAYOUTS = ("peft", "lerobot")

_PALIGEMMA = {"model.vlm.": "paligemma_with_expert.paligemma.model.", "model.dit.": "paligemma_with_expert.gemma_expert.model."}
#: How module paths of a family begin here and in lerobot 0.6, whose policy keeps all of it under `model`.
LEROBOT = {
    "pi0": _PALIGEMMA | {"embed_action_time.": ""},
    "pi05": _PALIGEMMA,
    "smolvla": {"vlm.": "vlm_with_expert.vlm.model.", "lm_expert.": "vlm_with_expert.lm_expert."},
}


def lerobot_path(family: str, path: str) -> str:
    """The path of a module in lerobot's policy. Raises UserError for a family that lerobot lacks."""
    if family not in LEROBOT:
        raise UserError(f"lerobot has no policy of the family {family}; expected one of {', '.join(LEROBOT)}; use --layout peft")
    for ours, theirs in LEROBOT[family].items():
        if path.startswith(ours):
            return f"model.{theirs}{path.removeprefix(ours)}"
    return f"model.{path}"


def export_adapter(adapter: Path | str, policy: Policy, out: Path | str, layout: str = "peft") -> None:
    """Write `adapter`, made for `policy`, as a plain PEFT adapter into the new folder `out`.

    The policy gets the adapter on the way: that is how it is known to fit. Raises UserError, before anything is written,
    where it does not, and where there is something at `out`.
    """
    adapter, out = Path(adapter), Path(out)
    if layout not in LAYOUTS:
        raise UserError(f"expected a layout of {', '.join(LAYOUTS)}; found {layout!r}")
    require_new(out)
    record = read_record(adapter)
    if not record.heads:
        raise UserError(f"{adapter} trains no heads: it is the base itself, and there is nothing to export")
    apply_adapter(policy, adapter)
    weights, config = read_weights(adapter / WEIGHTS), read_json(adapter / CONFIG)
    if layout == "lerobot":
        weights = {PREFIX + lerobot_path(policy.family, key.removeprefix(PREFIX)): value for key, value in weights.items()}
        for key in ("target_modules", "modules_to_save"):
            config[key] = config[key] and [lerobot_path(policy.family, path) for path in config[key]]
    with written_folder(out) as part:
        save_file(weights, part / WEIGHTS, metadata={"format": "pt"})
        (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def require_new(out: Path) -> None:
    """Raises UserError where there is something at `out` already, or nothing can be."""
    if out.exists():
        raise UserError(f"expected a new folder at {out}; there is something already; choose another --out")
    require_writable(out)
