"""The picture of success rates with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap

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


POLICY_COLOURS = ("#0f766e", "#b45309", "#4338ca", "#be123c", "#4d7c0f", "#475569")
CLASS_COLOURS = {
    "limit": "#9f1239", "wrong object": "#ea580c", "dropped": "#ca8a04", "spoiled": "#a16207", "never reached": "#64748b",
    "time-out": "#94a3b8",
}  # fmt: skip


def forest(groups: Mapping[str, Mapping[str, SuccessRate]], path: Path) -> None:
    """Success rates by group (task or variation) and policy: a point with Wilson's 95 % interval each, as PNG."""
    from matplotlib.figure import Figure

    policies = list(dict.fromkeys(policy for rates in groups.values() for policy in rates))
    step = 0.22
    height = len(groups) * (0.24 + step * len(policies)) + 0.85
    figure = Figure(figsize=(8.6, height), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    places, row = [], 0.0
    for rates in groups.values():
        first = row
        for policy, rate in rates.items():
            colour = POLICY_COLOURS[policies.index(policy) % len(POLICY_COLOURS)]
            low, high = rate.wilson_95
            axes.plot([low, high], [row, row], color=colour, linewidth=2.4, solid_capstyle="round", alpha=0.45, zorder=2)
            axes.plot(rate.rate, row, "o", color=colour, markersize=6, zorder=3, clip_on=False)
            axes.text(1.03, row, f"{rate.successes}/{rate.trials}", va="center", fontsize=8, color=INK, clip_on=False)
            row += step
        places.append((first + row - step) / 2)
        row += 0.24
    axes.set_yticks(places, [_wrapped(name) for name in groups], fontsize=9, color=INK)
    axes.set_ylim(row - 0.1, -0.25)
    axes.set_xlim(-0.01, 1.01)
    ticks = (0, 0.2, 0.4, 0.6, 0.8, 1)
    axes.set_xticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks], fontsize=9, color=MUTED)
    axes.grid(axis="x", color=GRID, zorder=0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(policies) > 1:
        handles = [
            axes.plot([], [], "o-", color=POLICY_COLOURS[i % len(POLICY_COLOURS)], label=name)[0] for i, name in enumerate(policies)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, facecolor="white")


def failures(rows: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """How many failures of each class: one stacked bar per row, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 0.36 * len(rows) + 0.95), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    for number, counts in enumerate(rows.values()):
        left = 0
        for name, colour in CLASS_COLOURS.items():
            count = counts.get(name, 0)
            if count:
                axes.barh(number, count, left=left, color=colour, height=0.62, zorder=2)
                axes.text(left + count / 2, number, str(count), ha="center", va="center", fontsize=8, color="white")
                left += count
    axes.set_yticks(range(len(rows)), [_wrapped(name) for name in rows], fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(length=0, labelcolor=MUTED, axis="x", labelsize=9)
    axes.grid(axis="x", color=GRID, zorder=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("failed trials", fontsize=9, color=MUTED)
    present = [name for name in CLASS_COLOURS if any(counts.get(name) for counts in rows.values())]
    handles = [axes.barh([0], [0], color=CLASS_COLOURS[name], label=name) for name in present]
    figure.legend(handles=handles, loc="outside upper left", ncols=6, frameon=False, fontsize=9)
    figure.savefig(path, facecolor="white")


def _wrapped(name: str) -> str:
    """In two lines where it is long."""
    return "\n".join(wrap(name, 30))
