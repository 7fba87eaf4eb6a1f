"""The page of an evaluation: one file with its pictures and, where they are not too many, its videos."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from robosteer_core.evaluation import plot
from robosteer_core.evaluation.comparison import compare_policies
from robosteer_core.evaluation.failure import FAILURE_CLASSES
from robosteer_core.evaluation.statistics import SuccessRate
from robosteer_core.evaluation.trials import Cell, Trial, TrialRecord
from robosteer_core.files import write_text
from robosteer_core.page import data_uri, render

#: Videos are inside of the page up to this much, megabytes; those beyond are links to the files beside it.
EMBEDDED_MB = 24.0
#: Failed trials that the page lists one by one.
LISTED = 400


def write_grid_report(
    path: Path, records: Sequence[TrialRecord], cells: Sequence[Cell], about: Mapping[str, object], video: Callable[[Trial], Path]
) -> None:
    """Write the page at `path`, in one step. `video` tells where the video of a trial would be."""
    policies, tasks, variations = (list(dict.fromkeys(getattr(c, key) for c in cells)) for key in ("policy", "task", "variation"))
    failed = [record for record in records if not record.success]
    classes = {f"{short(p)}: {t}" if len(policies) > 1 else t: counts for (p, t), counts in _classes(failed, policies, tasks).items()}
    with TemporaryDirectory() as folder:
        pictures = {"tasks": _forest(records, "task", tasks, policies, Path(folder))}
        if len(variations) > 1:
            pictures["variations"] = _forest(records, "variation", variations, policies, Path(folder))
        if failed:
            plot.failures(classes, Path(folder) / "failures.png")
            pictures["failures"] = data_uri(Path(folder) / "failures.png")
    page = render(
        Path(__file__).with_name("grid_report.html"),
        records=records, policies=policies, tasks=tasks, variations=variations, about=about, pictures=pictures, short=short,
        pooled={policy: _rate(records, policy=policy) for policy in policies},
        rates={(c.policy, c.task, c.variation): _rate(records, **c.model_dump()) for c in cells},
        by_task={(p, t): _rate(records, policy=p, task=t) for p in policies for t in tasks},
        by_variation={(p, v): _rate(records, policy=p, variation=v) for p in policies for v in variations},
        comparisons=compare_policies(records, policies, tasks), classes=FAILURE_CLASSES, failed=failed, listed=failed[:LISTED],
        times={policy: _times([r for r in records if r.trial.policy == policy]) for policy in policies},
        videos=_videos(path.parent, failed, video), seeds=sorted({record.trial.seed for record in records}),
    )  # fmt: skip
    write_text(path, page)


def short(policy: str) -> str:
    """The last folder of each path in a policy's name."""
    return " + ".join(word if "://" in word else Path(word).name or word for word in policy.split(" + "))


def _rate(records: Sequence[TrialRecord], **where: str) -> SuccessRate | None:
    outcomes = [r.success for r in records if all(getattr(r.trial, key) == value for key, value in where.items())]
    return SuccessRate.of(outcomes) if outcomes else None


def _forest(records: Sequence[TrialRecord], key: str, values: Sequence[str], policies: Sequence[str], folder: Path) -> str:
    groups = {value: {short(p): _rate(records, policy=p, **{key: value}) for p in policies} for value in values}
    groups = {value: {name: rate for name, rate in rates.items() if rate} for value, rates in groups.items()}
    plot.forest({value: rates for value, rates in groups.items() if rates}, folder / f"{key}.png")
    return data_uri(folder / f"{key}.png")


def _classes(failed: Sequence[TrialRecord], policies: Sequence[str], tasks: Sequence[str]) -> dict[tuple[str, str], Counter]:
    counts = {(policy, task): Counter() for policy in policies for task in tasks}
    for record in failed:
        counts[record.trial.policy, record.trial.task][record.failure_class] += 1
    return {key: found for key, found in counts.items() if found}


def _times(records: Sequence[TrialRecord]) -> dict[str, float | None]:
    """Robot and wall seconds, late ticks, and milliseconds of an inference: median and 99th percentile."""
    ms = sorted(value for record in records for value in record.policy_ms)
    return {
        "robot_s": sum(record.robot_s for record in records), "wall_s": sum(record.wall_s for record in records),
        "late_ticks": sum(record.late_ticks for record in records),
        "p50": ms[len(ms) // 2] if ms else None, "p99": ms[int(0.99 * (len(ms) - 1))] if ms else None,
    }  # fmt: skip


def _videos(folder: Path, failed: Sequence[TrialRecord], video: Callable[[Trial], Path]) -> list[tuple[TrialRecord, str]]:
    """The failed trials that were filmed, each with what the page plays."""
    found, left = [], EMBEDDED_MB * 1e6
    for record in failed:
        file = video(record.trial)
        if file.is_file():
            left -= file.stat().st_size
            found.append((record, data_uri(file) if left > 0 else os.path.relpath(file, folder)))
    return found
