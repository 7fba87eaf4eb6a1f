"""The schedule of trials and the log that survives a crash."""

import os
import signal
import subprocess
import sys

import pytest

from robosteer_core.errors import UserError
from robosteer_core.evaluation.trials import Cell, Trial, TrialLog, TrialRecord, by_seed, interleave

ABOUT = {"policy": "sha256:12", "inference_delay_ms": 40}
CELLS = [
    Cell(policy="base", task="press the red button"),
    Cell(policy="base_on_own_task", task="touch the red cube"),
    Cell(policy="steered", task="press the red button", variation="lighting"),
]


def record(trial, success=True):
    return TrialRecord(trial=trial, success=success, robot_s=4.2, wall_s=3.1, ticks=63, late_ticks=0, policy_ms=(21.5, 20.25))


@pytest.fixture
def schedule():
    return interleave(CELLS, range(100, 104))


def test_schedule_tries_every_cell_on_every_seed_once(schedule):
    assert len(schedule) == len(set(schedule)) == 12
    assert {(trial.cell, trial.seed) for trial in schedule} == {(cell, seed) for cell in CELLS for seed in range(100, 104)}


def test_schedule_finishes_a_seed_before_the_next_and_turns_the_order(schedule):
    assert [trial.seed for trial in schedule] == sorted(trial.seed for trial in schedule)
    first = [trial.policy for trial in schedule[::3]]
    assert first == ["base", "base_on_own_task", "steered", "base"]


def test_interrupted_log_goes_on_where_it_stopped(tmp_path, schedule):
    path = tmp_path / "runs" / "trials.jsonl"
    with TrialLog(path, ABOUT) as log:
        assert log.remaining(schedule) == schedule
        for trial in schedule[:5]:
            log.append(record(trial))
    with TrialLog(path, ABOUT) as log:
        assert log.remaining(schedule) == schedule[5:]
        for trial in log.remaining(schedule):
            log.append(record(trial, success=False))
    with TrialLog(path, ABOUT) as log:
        assert log.remaining(schedule) == []
        assert log.records(schedule) == [record(trial, success=index < 5) for index, trial in enumerate(schedule)]


def test_no_trial_is_lost_when_the_process_is_killed(tmp_path, schedule):
    """A process that logs trials without end is killed by SIGKILL: all that it had reported are there."""
    path = tmp_path / "trials.jsonl"
    program = f"""
from pathlib import Path
from robosteer_core.evaluation.trials import *
with TrialLog(Path({str(path)!r}), {ABOUT!r}) as log:
    for seed in range(10**6):
        trial = Trial(policy="base", task="touch", seed=seed)
        log.append(TrialRecord(trial=trial, success=True, robot_s=1, wall_s=1, ticks=15, late_ticks=0))
        print(seed, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        reported = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    reported = max([reported, *(int(line) for line in process.communicate()[0].split("\n")[:-1])])
    with TrialLog(path, ABOUT) as log:
        there = log.records(Trial(policy="base", task="touch", seed=seed) for seed in range(reported + 2))
    assert [kept.trial.seed for kept in there][: reported + 1] == list(range(reported + 1))


@pytest.mark.parametrize("kept", [1, 0.5])
def test_torn_last_line_is_run_again_and_leaves_no_trace(tmp_path, schedule, kept):
    path = tmp_path / "trials.jsonl"
    with TrialLog(path, ABOUT) as log:
        log.append(record(schedule[0]))
        whole = path.stat().st_size
        log.append(record(schedule[1]))
    torn = path.stat().st_size - whole
    os.truncate(path, whole + (torn - 1 if kept == 1 else torn // 2))
    with TrialLog(path, ABOUT) as log:
        assert log.remaining(schedule) == schedule[1:]
        log.append(record(schedule[1]))
    with TrialLog(path, ABOUT) as log:
        assert log.records(schedule) == [record(schedule[0]), record(schedule[1])]


def test_log_torn_in_its_first_line_starts_anew(tmp_path, schedule):
    path = tmp_path / "trials.jsonl"
    path.write_text('{"about": {"inf')
    with TrialLog(path, ABOUT) as log:
        log.append(record(schedule[0]))
    with TrialLog(path, ABOUT) as log:
        assert log.records(schedule) == [record(schedule[0])]


def test_log_of_another_policy_is_not_continued(tmp_path):
    path = tmp_path / "trials.jsonl"
    TrialLog(path, ABOUT).close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="policy: 'sha256:12' there, 'sha256:99' now"):
        TrialLog(path, ABOUT | {"policy": "sha256:99"})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["one\ntwo", '{"a": 1}\n', "[1, 2]\n", '{"about": 3}\n'])
def test_other_file_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(UserError, match="notes.txt: expected a log of trials"):
        TrialLog(path, ABOUT)
    assert path.read_text() == content


def test_damaged_record_is_named_by_its_line(tmp_path, schedule):
    path = tmp_path / "trials.jsonl"
    with TrialLog(path, ABOUT) as log:
        for trial in schedule[:3]:
            log.append(record(trial))
    path.write_text(path.read_text().replace('"robot_s":4.2', '"robot_s":-4.2', 2))
    with pytest.raises(UserError, match="line 2: .*robot_s"):
        TrialLog(path, ABOUT)


def test_outcome_is_kept_once(tmp_path, schedule):
    path = tmp_path / "trials.jsonl"
    with TrialLog(path, ABOUT) as log:
        log.append(record(schedule[0]))
        with pytest.raises(ValueError, match="already has an outcome"):
            log.append(record(schedule[0], success=False))
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    with pytest.raises(UserError, match="line 3: .* is there twice"):
        TrialLog(path, ABOUT)


def test_records_are_read_by_seed(schedule):
    records = [record(trial, success=trial.seed % 2 == 0) for trial in schedule]
    assert {seed: r.success for seed, r in by_seed(records, "steered").items()} == {100: True, 101: False, 102: True, 103: False}


def test_a_log_that_another_process_writes_is_refused(tmp_path, schedule):
    with TrialLog(tmp_path / "trials.jsonl", ABOUT):
        with pytest.raises(UserError, match="another process writes"):
            TrialLog(tmp_path / "trials.jsonl", ABOUT)


def test_a_line_that_another_process_is_writing_is_not_cut(tmp_path):
    path = tmp_path / "trials.jsonl"
    with TrialLog(path, ABOUT):
        with path.open("ab") as file:
            file.write(b'{"trial": {"pol')
        before = path.read_bytes()
        with pytest.raises(UserError, match="another process writes"):
            TrialLog(path, ABOUT)
        assert path.read_bytes() == before


def test_where_no_folder_can_be_the_error_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="give another path"):
        TrialLog(tmp_path / "file" / "trials.jsonl", ABOUT)
