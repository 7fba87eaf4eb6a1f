"""The picture of success against the number of trained parameters."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from robosteer_core.errors import UserError, settings
from robosteer_core.evaluation.plot import COLOURS, GRID, INK, MUTED, OTHER_COLOUR
from robosteer_core.evaluation.statistics import SuccessRate
from robosteer_core.files import written


class Trained(SuccessRate):
    """One row of a table of results: what was trained (`name`), how many `parameters` of it (0 for the base), and how often
    it succeeded. `ours` marks the rows that stand out."""

    name: str
    parameters: int = Field(ge=0)
    ours: bool = False


def read_results(path: Path) -> list[Trained]:
    """Rows of a CSV with a header: name, parameters, successes, trials, and ours where there is one. Raises UserError."""
    try:
        with path.open(newline="") as file:
            return [settings(Trained, **row) for row in csv.DictReader(file)]
    except (OSError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no table of results ({error}); expected a CSV with name, parameters, successes, trials") from error


def plot_success_by_parameters(rows: Sequence[Trained], path: Path, title: str = "") -> None:
    """One point per row with Wilson's 95 % interval over a logarithmic axis of trained parameters, as PNG.

    Rows that train nothing stand at the left edge. Raises UserError without rows.
    """
    from matplotlib.figure import Figure

    if not rows:
        raise UserError("expected at least one row of results; found none")
    counts = [row.parameters for row in rows if row.parameters]
    least, most = (min(counts), max(counts)) if counts else (1, 1)
    nothing = least / 6
    figure = Figure(figsize=(7.6, 4.2), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    for number, row in enumerate(sorted(rows, key=lambda row: row.parameters)):
        place, (low, high) = row.parameters or nothing, row.wilson_95
        colour = COLOURS["steered"] if row.ours else OTHER_COLOUR
        axes.errorbar(place, row.rate, yerr=[[row.rate - low], [high - row.rate]], color=INK, capsize=4, linewidth=1.2, zorder=2)
        axes.scatter(place, row.rate, s=64, color=colour, edgecolor="white", linewidth=1, zorder=3)
        above = number % 2 == 0 or low < 0.15  # neighbours may be as good as each other; below the axis there is no room
        axes.annotate(f"{row.name}\n{row.successes}/{row.trials}", (place, high if above else low), (0, 5 if above else -5), fontsize=8,
                      textcoords="offset points", color=INK, ha="center", va="bottom" if above else "top",
                      fontweight="bold" if row.ours else "normal")  # fmt: skip
    axes.set_xlim(nothing / 1.6 if len(counts) < len(rows) else least / 2, most * (4 if most > least else 10))
    if len(counts) < len(rows):
        axes.axvline(least / 2.6, color=GRID, linewidth=1)
        axes.text(nothing, -0.045, "none", ha="center", va="top", fontsize=9, color=MUTED, transform=axes.get_xaxis_transform())
    axes.set_xticks([tick for tick in (10.0**exponent for exponent in range(12)) if least / 2.6 < tick < most * 4])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.13)  # the words above what always succeeds
    axes.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0 %", "25 %", "50 %", "75 %", "100 %"), fontsize=9)
    axes.grid(color=GRID, zorder=0)
    axes.set_xlabel("trained parameters", fontsize=9, color=MUTED)
    axes.set_ylabel("success, with 95 % Wilson interval", fontsize=9, color=MUTED)
    axes.tick_params(length=0, colors=MUTED)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, fontsize=11, loc="left", color=INK)
    with written(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="white")
