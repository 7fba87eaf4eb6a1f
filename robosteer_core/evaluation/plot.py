"""The picture of success rates with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from robosteer_core.evaluation.statistics import SuccessRate

INK, MUTED, GRID = "#1d2733", "#5c6875", "#e3e7ec"
COLOURS = {"steered": "#0f766e"}
OTHER_COLOUR = "#a9b4c0"


def plot_success(rates: Mapping[str, SuccessRate], path: Path) -> None:
    """One bar per condition with Wilson's 95 % interval, as PNG."""
    from matplotlib.figure import Figure

    names = list(rates)[::-1]
    figure = Figure(figsize=(7.6, 0.52 * len(names) + 0.75), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    for row, name in enumerate(names):
        rate = rates[name]
        low, high = rate.wilson_95
        axes.barh(row, rate.rate, height=0.58, color=COLOURS.get(name, OTHER_COLOUR), zorder=2)
        axes.errorbar(
            rate.rate, row, xerr=[[rate.rate - low], [high - rate.rate]], color=INK, capsize=4, linewidth=1.3, zorder=3
        )
        axes.text(1.025, row, f"{rate.successes}/{rate.trials}", va="center", color=INK, fontsize=10, clip_on=False)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=10, color=INK)
    axes.set_xlim(0, 1)
    ticks = (0, 0.2, 0.4, 0.6, 0.8, 1)
    axes.set_xticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks], fontsize=9, color=MUTED)
    axes.grid(axis="x", color=GRID, zorder=0)
    axes.set_xlabel("success, with 95 % Wilson interval", fontsize=9, color=MUTED)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(path, facecolor="white")
