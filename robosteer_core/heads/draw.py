"""The layer x head map of a selection, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from robosteer_core.episodes.layout import put, temporary_of
from robosteer_core.heads.task_heads import TaskHeads

matplotlib.use("Agg")


def head_map(found: TaskHeads, path: Path, title: str = "") -> None:
    """Write a PNG: each head's error (dark predicts the action best), the chosen ones framed with their rank."""
    index = found.selection.ks.index(found.selection.k)
    subtitle = (
        f"scored: {found.scored_part} heads, k = {found.selection.k}; trained: the {found.heads[0].part} heads of the same index (framed, by rank)"
    )
    draw(found.selection.scores[index], found.selection.heads, path, title=title, subtitle=subtitle, eligible=found.eligible,
         unit="mean squared error, raw actions" if found.raw_actions else "mean squared error [variance of the action]")  # fmt: skip


def draw(
    scores: np.ndarray,
    chosen: Sequence[tuple[int, int]],
    path: Path,
    *,
    title: str,
    subtitle: str,
    unit: str,
    eligible: np.ndarray,
) -> None:
    """`scores` (layers, heads); `chosen` (layer, head), best first; ineligible heads are hatched."""
    layers, heads = scores.shape
    figure = Figure(figsize=(max(6.4, 2.4 + 0.62 * heads), max(2.6, 1.7 + 0.5 * layers)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(scores, cmap="viridis", aspect="auto")
    middle = (scores.min() + scores.max()) / 2
    small = layers * heads <= 64
    for (layer, head), score in np.ndenumerate(scores):
        ink = "white" if score < middle else "black"
        if small:
            axes.text(head, layer + 0.22, f"{score:.3g}", ha="center", va="center", fontsize=7, color=ink)
        if not eligible[layer, head]:
            axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, hatch="///", edgecolor="grey", linewidth=0))
    for rank, (layer, head) in enumerate(chosen, 1):
        ink = "white" if scores[layer, head] < middle else "black"
        axes.add_patch(Rectangle((head - 0.46, layer - 0.46), 0.92, 0.92, fill=False, edgecolor="crimson", linewidth=2.2))
        axes.text(head, layer - (0.16 if small else 0), str(rank), ha="center", va="center", fontsize=9, fontweight="bold", color=ink)
    axes.set_xticks(range(heads))
    axes.set_yticks(range(layers))
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    note = "" if eligible.all() else "\nhatched: cannot reach the action, not eligible"
    axes.set_title(subtitle + note, fontsize=8, loc="left")
    if title:
        figure.suptitle(title, fontsize=11)
    figure.colorbar(picture, ax=axes, label=unit).ax.yaxis.label.set_fontsize(7)
    temporary = temporary_of(path)
    figure.savefig(temporary, format="png")
    put(temporary, path)
