"""The report of one steering: `report.json` with its numbers and `report.html` with its pictures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from robosteer_core.errors import UserError
from robosteer_core.evaluation.statistics import PairedComparison, SuccessRate, compare_paired
from robosteer_core.evaluation.trials import TrialRecord, by_seed
from robosteer_core.files import write_text
from robosteer_core.page import data_uri, render

Count = Annotated[int, Field(ge=0)]
NotNegative = Annotated[float, Field(ge=0)]
Head = tuple[Literal["vision", "vlm", "expert"], Count, Count]

CONDITIONS = {
    "base": "the base policy on the new task",
    "base_on_own_task": "the base policy on a task of its own training",
    "steered": "the selected heads finetuned",
    "steered_blind": "the steered policy, its images made grey",
    "random_heads": "as many heads drawn at random, finetuned alike",
}
"""The conditions of a report, with what each one tries."""


class Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PolicyTimes(Content):
    """Wall milliseconds of one inference: the median and the 99th percentile."""

    p50: NotNegative
    p99: NotNegative


class Report(Content):
    """The numbers of one steering; what `report.json` holds."""

    task: str
    demos: int = Field(ge=1)
    n_heads: int = Field(ge=1)
    heads: tuple[Head, ...] = Field(description="(part, layer, head) as trained")
    scored_part: Literal["vision", "vlm", "expert"]
    k: int = Field(ge=1, description="neighbours of the regression that chose the heads")
    cv_mse: NotNegative = Field(description="its leave-one-episode-out error over the chosen heads")
    trainable_parameters: Count
    full_lora_parameters: Count = Field(description="of a LoRA of the same rank on all heads")
    finetune_s: NotNegative = Field(description="wall seconds")
    base: SuccessRate
    base_on_own_task: SuccessRate
    steered: SuccessRate
    steered_blind: SuccessRate
    random_heads: SuccessRate
    sim_s_per_wall_s: NotNegative
    policy_ms: PolicyTimes
    late_ticks: Count
    wall_s: NotNegative
    seed: int

    @model_validator(mode="after")
    def _all_heads(self) -> Report:
        if len(set(self.heads)) != self.n_heads:
            raise ValueError(f"n_heads is {self.n_heads}, heads names {len(set(self.heads))} different ones")
        return self

    @property
    def rates(self) -> dict[str, SuccessRate]:
        return {condition: getattr(self, condition) for condition in CONDITIONS}

    @property
    def trained_parts(self) -> str:
        return ", ".join(sorted({part for part, _, _ in self.heads}))


class Details(Content):
    """What the page says beside the numbers."""

    own_task: str = Field(default="", description="the training task on which the base was tried")
    parameters: dict[str, str] = Field(default={}, description="name to value with its unit, shown as a table")
    commands: tuple[str, ...] = Field(default=("make demo",), description="what to type for the same numbers")


def write_report(
    folder: Path,
    report: Report,
    head_map: Path,
    videos: Mapping[str, Path],
    records: Sequence[TrialRecord] = (),
    details: Details = Details(),
) -> None:
    """Write `report.json`, `report.html` and `success.png` into `folder`.

    The page embeds its pictures; `videos` (caption to mp4) are copied beside it unless they are in `folder` already.
    `records` add the outcome of each seed and the paired test. Raises UserError naming a picture or video that is missing,
    before anything is written.
    """
    for file in (head_map, *videos.values()):
        if not file.is_file():
            raise UserError(f"expected a picture or video for the report at {file}; found none there")
    folder.mkdir(parents=True, exist_ok=True)
    for video in videos.values():
        if video.resolve().parent != folder.resolve():
            shutil.copyfile(video, folder / video.name)

    from robosteer_core.evaluation.plot import plot_success

    success = folder / "success.png"
    plot_success(report.rates, success)
    page = _page(report, details, records, head_map, success, {caption: video.name for caption, video in videos.items()})
    write_text(folder / "report.html", page)
    write_text(folder / "report.json", report.model_dump_json(indent=2) + "\n")


def read_report(path: Path) -> Report:
    """The numbers of a `report.json`. Raises UserError if it is none."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"no report at {path}; expected the report.json that `make demo` writes") from error
    except ValueError as error:
        raise UserError(f"{path} is not a report: {error}") from error


def _page(
    report: Report, details: Details, records: Sequence[TrialRecord], head_map: Path, success: Path, videos: Mapping[str, str]
) -> str:
    tried = {condition: by_seed(records, condition) for condition in CONDITIONS}
    return render(
        Path(__file__).with_name("report.html"),
        report=report,
        details=details,
        conditions=CONDITIONS,
        seeds=sorted({record.trial.seed for record in records if record.trial.policy in CONDITIONS}),
        tried=tried,
        comparison=_compare(tried["base"], tried["steered"]),
        images={"head_map": data_uri(head_map), "success": data_uri(success)},
        videos=videos,
    )


def _compare(first: Mapping[int, TrialRecord], second: Mapping[int, TrialRecord]) -> PairedComparison | None:
    """The paired test over the seeds that both have, None without any."""
    shared = sorted(first.keys() & second.keys())
    return compare_paired([first[seed].success for seed in shared], [second[seed].success for seed in shared]) if shared else None
