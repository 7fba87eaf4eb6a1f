"""The report: its keys, what it refuses, and a page that is whole by itself."""

import json
import re
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from pydantic import ValidationError

from robosteer_core.errors import UserError
from robosteer_core.evaluation.report import CONDITIONS, Details, PolicyTimes, Report, read_report, write_report
from robosteer_core.evaluation.statistics import SuccessRate, wilson_interval
from robosteer_core.evaluation.trials import Cell, TrialRecord, interleave

SUCCESSES = {"base": 1, "base_on_own_task": 3, "steered": 4, "steered_blind": 0, "random_heads": 2}
CONTENT = dict(
    task="press the <red> button", demos=20, n_heads=2, heads=(("vlm", 0, 3), ("vlm", 1, 7)), scored_part="expert", k=20,
    cv_mse=0.5, trainable_parameters=12288, full_lora_parameters=46080, finetune_s=61.5, sim_s_per_wall_s=1.5,
    policy_ms=PolicyTimes(p50=20.0, p99=31.0), late_ticks=0, wall_s=900.0, seed=0,
    **{name: SuccessRate(successes=count, trials=5) for name, count in SUCCESSES.items()},
)  # fmt: skip


@pytest.fixture
def report():
    return Report(**CONTENT)


@pytest.fixture
def head_map(tmp_path):
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().imshow([[0.1, 0.4], [0.3, 0.2]])
    figure.savefig(tmp_path / "heads.png")
    return tmp_path / "heads.png"


@pytest.fixture
def videos(tmp_path):
    """Two files in the place of videos: the page only refers to them."""
    files = {"base": tmp_path / "made" / "base trial.mp4", "steered": tmp_path / "report" / "steered.mp4"}
    for name, file in files.items():
        file.parent.mkdir()
        file.write_bytes(name.encode())
    return files


@pytest.fixture
def records():
    """Outcomes as in the report; a condition succeeds on its first seeds."""
    trials = interleave([Cell(policy=name, task="press") for name in CONDITIONS], range(5))
    return [
        TrialRecord(
            trial=trial, success=trial.seed < SUCCESSES[trial.policy], robot_s=1, wall_s=1, ticks=15, late_ticks=0,
            failure="wrong object: red_cube" if trial.policy == "base" and trial.seed > 2 else None,
        )
        for trial in trials
    ]  # fmt: skip


class Page(HTMLParser):
    """Collects text, what the page refers to, and the marks of outcomes."""

    def __init__(self, text):
        super().__init__()
        self.words, self.references, self.marks, self.rows = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.references += [attributes[key] for key in ("src", "href") if key in attributes]
        if (attributes.get("class") or "").startswith("mark"):
            self.marks.append(attributes["title"])

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))


def test_report_json_has_the_agreed_keys_in_order(tmp_path, report, head_map):
    write_report(tmp_path, report, head_map, {})
    content = json.loads((tmp_path / "report.json").read_text())
    assert list(content) == (
        "task demos n_heads heads scored_part k cv_mse trainable_parameters full_lora_parameters finetune_s base "
        "base_on_own_task steered steered_blind random_heads sim_s_per_wall_s policy_ms late_ticks wall_s seed"
    ).split()
    assert content["heads"] == [["vlm", 0, 3], ["vlm", 1, 7]]
    assert content["policy_ms"] == {"p50": 20.0, "p99": 31.0}
    assert content["steered"] == {"successes": 4, "trials": 5, "wilson_95": list(wilson_interval(4, 5))}
    assert read_report(tmp_path / "report.json") == report


def test_page_shows_every_condition_with_its_interval(tmp_path, report, head_map, videos, records):
    write_report(tmp_path / "report", report, head_map, videos, records, Details(own_task="touch the cube"))
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert "“press the <red> button”" in page.text
    for name, count in SUCCESSES.items():
        low, high = wilson_interval(count, 5)
        row = f"{name.replace('_', ' ')} {CONDITIONS[name]}"
        assert row in page.text
        assert f"{count} / 5{100 * count / 5:.0f} %{100 * low:.0f}–{100 * high:.0f} %" in page.text
    assert "a task of its own training: “touch the cube”" in page.text


def test_page_shows_the_outcome_of_every_seed_and_the_paired_test(tmp_path, report, head_map, records):
    write_report(tmp_path, report, head_map, {}, [kept for kept in records if kept.trial != records[0].trial])
    page = Page((tmp_path / "report.html").read_text())
    assert page.marks.count("success") == sum(SUCCESSES.values()) - 1
    assert page.marks.count("wrong object: red_cube") == 2
    assert page.marks.count("not done in time") == 25 - sum(SUCCESSES.values()) - 2
    assert page.marks.count("not tried") == 1
    assert "only the steered policy succeeded in 3 and only the base in 0" in page.text
    assert "p = 0.250" in page.text


def test_page_names_where_heads_were_scored_and_which_were_trained(tmp_path, report, head_map):
    write_report(tmp_path, report, head_map, {})
    page = Page((tmp_path / "report.html").read_text())
    assert "The scores were read in the part expert; trained were the heads of the same layer and index in vlm" in page.text
    assert "vlm · layer 0 · head 3" in page.text and "vlm · layer 1 · head 7" in page.text


def test_page_is_whole_without_the_network(tmp_path, report, head_map, videos):
    """Pictures are inside of the page, videos beside it, and nothing else is referred to."""
    folder = tmp_path / "report"
    write_report(folder, report, head_map, videos)
    references = Page((folder / "report.html").read_text()).references
    pictures = [entry for entry in references if entry.startswith("data:image/png;base64,")]
    assert len(pictures) == 2
    assert b64decode(pictures[1].partition(",")[2]) == head_map.read_bytes()
    assert [entry for entry in references if entry not in pictures] == ["base%20trial.mp4", "steered.mp4", "report.json"]
    assert (folder / "base trial.mp4").read_bytes() == b"base"
    assert (folder / "steered.mp4").read_bytes() == b"steered"


def test_success_is_drawn_as_long_as_it_is(tmp_path, report, head_map):
    """The accent colour appears in the steered bar alone: 4 of 5 is its share of the axis from 0 to 1."""
    whole = {"steered": SuccessRate(successes=5, trials=5)}

    def accent(changes):
        write_report(tmp_path, report.model_copy(update=changes), head_map, {})
        pixels = np.asarray(Image.open(tmp_path / "success.png").convert("RGB"))
        return np.count_nonzero((pixels == (0x0F, 0x76, 0x6E)).all(axis=2))

    assert accent({}) / accent(whole) == pytest.approx(0.8, abs=0.02)


def test_missing_picture_is_named_before_anything_is_written(tmp_path, report, head_map):
    folder = tmp_path / "report"
    with pytest.raises(UserError, match="gone.mp4"):
        write_report(folder, report, head_map, {"base": tmp_path / "gone.mp4"})
    assert not folder.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n_heads": 3}, "n_heads is 3, heads names 2"),
        ({"heads": (("tail", 0, 3), ("vlm", 1, 7))}, "heads.0.0"),
        ({"cv_mse": float("nan")}, "cv_mse"),
        ({"extra": 1}, "extra"),
    ],
)
def test_report_refuses_impossible_numbers(changes, named):
    with pytest.raises(ValidationError, match=re.escape(named)):
        Report(**CONTENT | changes)


def test_report_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="no report at .*report.json"):
        read_report(tmp_path / "report.json")
    (tmp_path / "report.json").write_text('{"task": "press"')
    with pytest.raises(UserError, match="report.json is not a report"):
        read_report(tmp_path / "report.json")
