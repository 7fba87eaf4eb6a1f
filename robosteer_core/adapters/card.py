"""The model card of an adapter: one page, whole by itself, that says what was trained on what and how to use it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from robosteer_core.files import write_text
from robosteer_core.page import data_uri, render

if TYPE_CHECKING:
    from robosteer_core.adapters.store import AdapterRecord
    from robosteer_core.vla.policy import Policy

CARD = "card.html"
#: Said of a run whose `better_on_held_out` is false.
WORSE = "no step that was measured is better than the base on the held-out episodes; what was written is the best of them"


def write_card(folder: Path, record: AdapterRecord, policy: Policy, files: tuple[Path, ...], training: dict[str, Any] | None = None) -> None:
    """Write `card.html` into the folder of an adapter of `policy`, in one step.

    `files` are named with size and SHA-256; `training` is the summary of the run that made it, where there is one.
    """
    from robosteer_core.adapters.export import LEROBOT
    from robosteer_core.heads.draw import draw

    eligible = policy.sites.eligible(record.trained_part)
    scores = None if record.scores is None else np.array(record.scores)
    chosen = [(head.layer, head.head) for head in record.heads]
    scored = record.scored_part and f"scored: {record.scored_part} heads; "
    with TemporaryDirectory() as temporary:
        picture = Path(temporary) / "heads.png"
        draw(scores, chosen, picture, title="", subtitle=f"{scored or ''}trained: {record.trained_part} heads (framed{', by rank' if scored else ''})",
             unit="mean squared error of the predicted action", eligible=eligible)  # fmt: skip
        head_map = data_uri(picture)
    page = render(
        Path(__file__).with_name(CARD),
        record=record, folder=str(folder.absolute()), layers=eligible.shape[0], heads=eligible.shape[1], training=training,
        parameters=record.targets(policy).parameters(policy.model, record.rank), loss=policy.loss_name, worse=WORSE,
        for_lerobot=policy.family in LEROBOT, head_map=head_map,
        files=[(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files],
    )  # fmt: skip
    write_text(folder / CARD, page)


def training_of(folder: Path) -> dict[str, Any] | None:
    """The summary that `robosteer finetune` left in a folder, None where there is none that can be read."""
    try:
        found = json.loads((folder / "training.json").read_text())
    except (OSError, ValueError):
        return None
    wanted = {"full_lora_parameters", "loss_before", "loss_after", "finetune_s", "steps", "best", "better_on_held_out", "episodes", "frames",
              "held_out_episodes", "held_out_frames", "config"}  # fmt: skip
    return found if isinstance(found, dict) and wanted <= found.keys() else None
