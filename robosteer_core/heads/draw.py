"""Pictures of a selection: the layer x head map, and the error against the rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from robosteer_core.evaluation.plot import GRID, INK, MUTED
from robosteer_core.files import written
from robosteer_core.heads.task_heads import recorded_scores

matplotlib.use("Agg")

#: Frames of the chosen heads on the map's colours; the same heads where there is no map behind them.
CHOSEN, ACCENT, QUIET = "crimson", "#0f766e", "#a9b4c0"
_SMALL = 64  # heads up to which each cell shows its number


def head_map(record: dict[str, Any], path: Path, title: str = "") -> None:
    """Write a PNG: each head's error (dark predicts the action best), the chosen ones framed with their rank.

    `record` is a selection as `TaskHeads.to_json` gives it.
    """
    scores = np.array(recorded_scores(record))
    eligible = np.ones(scores.shape, bool)
    for row in record["ranking"]:
        eligible[row["layer"], row["head"]] = row["eligible"]
    scored, trained = record["scored_part"], record["trained_part"]
    which = "the same heads" if scored == trained else f"the {trained} heads of the same index"
    draw(scores, [(layer, head) for _, layer, head in record["heads"]], path, title=title, eligible=eligible,
         subtitle=f"scored: {scored} heads, k = {record['k']}; trained: {which} (framed, by rank)", unit=_unit(record))  # fmt: skip


def _unit(record: dict[str, Any]) -> str:
    return "mean squared error, raw actions" if record["raw_actions"] else "mean squared error [variance of the action]"


def draw(
    scores: np.ndarray | None,
    chosen: Sequence[tuple[int, int]],
    path: Path,
    *,
    title: str,
    subtitle: str,
    unit: str,
    eligible: np.ndarray,
) -> None:
    """`scores` (layers, heads), None where heads were not scored; `chosen` (layer, head), best first; ineligible heads
    (`eligible` (layers, heads) False) are hatched."""
    layers, heads = eligible.shape
    figure = Figure(figsize=(max(6.4, 2.4 + 0.62 * heads), max(2.6, 1.7 + 0.5 * layers)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    plain = scores is None
    shown = np.zeros(eligible.shape) if plain else scores
    picture = axes.imshow(shown, cmap="Greys" if plain else "viridis", aspect="auto")
    middle = -np.inf if plain else (shown.min() + shown.max()) / 2
    small = layers * heads <= _SMALL and not plain
    for (layer, head), score in np.ndenumerate(shown):
        ink = "white" if score < middle else "black"
        if small:
            axes.text(head, layer + 0.22, f"{score:.3g}", ha="center", va="center", fontsize=7, color=ink)
        if not eligible[layer, head]:
            axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, hatch="///", edgecolor="grey", linewidth=0))
    for rank, (layer, head) in enumerate(chosen, 1):
        ink = "white" if shown[layer, head] < middle else "black"
        axes.add_patch(Rectangle((head - 0.46, layer - 0.46), 0.92, 0.92, fill=False, edgecolor=CHOSEN, linewidth=2.2))
        if not plain:  # without scores their order says nothing
            axes.text(head, layer - (0.16 if small else 0), str(rank), ha="center", va="center", fontsize=9, fontweight="bold", color=ink)
    axes.set_xticks(range(heads))
    axes.set_yticks(range(layers))
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    note = "" if eligible.all() else "\nhatched: cannot reach the action, not eligible"
    axes.set_title(subtitle + note, fontsize=8, loc="left")
    if title:
        figure.suptitle(title, fontsize=11)
    if plain:
        axes.set_xticks(np.arange(heads + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(layers + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=GRID)
        axes.tick_params(which="both", length=0)
    else:
        figure.colorbar(picture, ax=axes, label=unit).ax.yaxis.label.set_fontsize(7)
    _save(figure, path)


def score_by_rank(record: dict[str, Any], path: Path, title: str = "") -> None:
    """Write a PNG: the eligible heads' errors in order, with what the bootstrap says of each, the cut, and two lines that
    tell what to expect of a head drawn at random and of one that says nothing.

    `record` is a selection as `TaskHeads.to_json` gives it; without stability the bands and the lower panel are left out.
    """
    rows = [row for row in record["ranking"] if row["eligible"]]
    ranks, errors = np.arange(1, len(rows) + 1), np.array([row["mse"] for row in rows])
    selected = np.array([row["selected"] for row in rows])
    stable = record.get("stability")
    figure = Figure(figsize=(8.2, 5.4 if stable else 3.9), dpi=150, layout="constrained")
    axes, below = (figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)) if stable else (figure.add_subplot(), None))
    if stable:
        low, high = np.array([row["mse_95"] for row in rows]).T
        axes.fill_between(ranks, low, high, color=ACCENT, alpha=0.14, linewidth=0, label="95 % of resampled demonstrations")
    axes.plot(ranks, errors, color=MUTED, linewidth=1, zorder=2)
    axes.scatter(ranks[selected], errors[selected], s=34, color=ACCENT, zorder=3, label=f"chosen ({selected.sum()})")
    axes.scatter(ranks[~selected], errors[~selected], s=18, color=QUIET, zorder=3, label="not chosen")
    axes.axhline(record["cv_mse"], color=ACCENT, linewidth=1.2, linestyle="-", label=f"chosen heads together: {record['cv_mse']:.3g}")
    axes.axhline(errors.mean(), color=INK, linewidth=1, linestyle="--", label=f"a head drawn at random: {errors.mean():.3g}")
    axes.axhline(record["chance_mse"], color=INK, linewidth=1, linestyle=":", label=f"a head that says nothing: {record['chance_mse']:.3g}")
    cut = selected.sum() + 0.5
    for panel in (axes, *([below] if stable else [])):
        if selected[: selected.sum()].all() and cut < len(rows):
            panel.axvline(cut, color=CHOSEN, linewidth=1)
        panel.grid(axis="y", color=GRID, zorder=0)
        panel.tick_params(labelsize=8, colors=MUTED, length=0)
        panel.spines[:].set_visible(False)
    axes.set_ylabel(_unit(record), fontsize=8, color=MUTED)
    # Beside the plot, where no curve runs into it.
    axes.legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if stable:
        frequency = np.array([row["frequency"] for row in rows])
        below.bar(ranks, frequency, width=0.8, color=np.where(selected, ACCENT, QUIET), zorder=2)
        below.set_ylim(0, 1)
        below.set_yticks((0, 0.5, 1), ("0", "50 %", "100 %"))
        below.set_ylabel("chosen in\nresamples", fontsize=8, color=MUTED)
        span = "overlap (Jaccard) with the heads\nchosen in a resample: {:.2f}\n95 % of resamples: {:.2f} to {:.2f}"
        below.text(1.012, 1, span.format(stable["jaccard_mean"], *stable["jaccard_95"]), transform=below.transAxes, va="top", fontsize=7.5, color=INK)
    (below or axes).set_xlabel(f"rank among the {len(rows)} eligible {record['scored_part']} heads, k = {record['k']}", fontsize=8, color=MUTED)
    if len(rows) <= 32:
        (below or axes).set_xticks(ranks, [f"{rank}\n({row['layer']},{row['head']})" for rank, row in zip(ranks, rows)], fontsize=6.5)
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with written(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="white")
