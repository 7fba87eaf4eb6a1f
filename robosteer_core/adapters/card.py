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

CARD = "card.html"


def write_card(
    folder: Path, record: AdapterRecord, eligible: np.ndarray, parameters: int, files: tuple[Path, ...], training: dict[str, Any] | None = None
) -> None:
    """Write `card.html` into an adapter's folder, in one step.

    `eligible` (layers, heads) are the heads of the trained part that reach the action; `files` are named with size and
    SHA-256; `training` is the summary of the run that made it, where there is one.
    """
    from robosteer_core.heads.draw import draw

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
        record=record, folder=str(folder), layers=eligible.shape[0], heads=eligible.shape[1], parameters=parameters, training=training,
        head_map=head_map, files=[(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files],
    )  # fmt: skip
    write_text(folder / CARD, page)


def training_of(folder: Path) -> dict[str, Any] | None:
    """The summary that `robosteer finetune` left in a folder, None where there is none that can be read."""
    try:
        found = json.loads((folder / "training.json").read_text())
    except (OSError, ValueError):
        return None
    wanted = {"full_lora_parameters", "loss_before", "loss_after", "finetune_s", "episodes", "frames", "config"}
    return found if isinstance(found, dict) and wanted <= found.keys() else None
