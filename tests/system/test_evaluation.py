"""`robosteer eval` as a user runs it: what it prints and writes, what it refuses, and how it goes on after a crash."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from robosteer_core.cli import main
from robosteer_core.errors import UserError
from robosteer_core.evaluation.catalogue import load_catalogue
from robosteer_core.evaluation.conditions import grid, load_conditions
from robosteer_core.evaluation.evaluation import Evaluation, video_path
from robosteer_core.evaluation.ndarray_packing import pack
from robosteer_core.evaluation.trial_policy import PolicySpec
from robosteer_core.evaluation.trials import Cell, Trial, TrialRecord
from robosteer_core.evaluation.worker import default_processes
from robosteer_core.rig import load_rig
from robosteer_core.runtime.runner import EXECUTED

TOUCH, PRESS = "touch the red button", "press the red button"
EVAL = [sys.executable, "-m", "robosteer_core.cli", "eval"]


def records(folder):
    _, *lines = (folder / "trials.jsonl").read_text().splitlines()
    return [TrialRecord.model_validate_json(line) for line in lines]


def outcomes(folder):
    return {r.trial: (r.success, r.failure, r.robot_s, r.ticks, r.digest) for r in records(folder)}


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """The scripted operator on two tasks under two variations, two seeds each, in one process."""
    out = tmp_path_factory.mktemp("eval") / "run"
    words = ["--policy", "scripted", "--task", TOUCH, "--task", PRESS, "--variation", "none", "--variation", "start"]
    command = [*EVAL, *words, "--trials", "2", "--json", "-", "--out", str(out), "--processes", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, done, words


def test_standard_output_holds_the_list_alone(tried):
    out, done, _ = tried
    rows = json.loads(done.stdout)
    assert [sorted(row) for row in rows] == [sorted(["policy", "task", "variation", "successes", "trials", "wilson_95", "wall_s"])] * 4
    assert [(row["task"], row["variation"]) for row in rows] == [(t, v) for t in (TOUCH, PRESS) for v in ("none", "start")]
    assert all(row["trials"] == 2 and 0 <= row["wilson_95"][0] <= row["wilson_95"][1] <= 1 for row in rows)
    assert sum(row["successes"] for row in rows) == sum(record.success for record in records(out))


def test_the_table_has_every_trial(tried):
    out, _, _ = tried
    table = pq.read_table(out / "trials.parquet").to_pylist()
    assert len(table) == 8
    assert {(row["task"], row["variation"], row["seed"]) for row in table} == {
        (task, variation, seed) for task in (TOUCH, PRESS) for variation in ("none", "start") for seed in (0, 1)
    }
    assert all(row["policy"] == "scripted" and row["robot_s"] > 0.5 and row["wall_s"] > 0 for row in table)


def test_the_page_is_one_file(tried):
    page = (tried[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 2 and TOUCH in page and "start" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_same_command_again_repeats_nothing(tried):
    out, done, words = tried
    before = (out / "trials.jsonl").read_bytes()
    again = subprocess.run([*EVAL, *words, "--trials", "2", "--json", "-", "--out", str(out)], capture_output=True, text=True)
    assert again.stdout == done.stdout and (out / "trials.jsonl").read_bytes() == before


def test_killed_in_several_processes_it_goes_on_to_what_one_process_gives(tried, tmp_path):
    """kill -9 after the first outcomes are on the disk; the workers end by themselves; nothing is lost or done twice."""
    out, log = tmp_path / "run", tmp_path / "run" / "trials.jsonl"
    command = [*EVAL, *tried[2], "--trials", "2", "--out", str(out), "--processes", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not log.exists() or len(log.read_text().splitlines()) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    log.write_bytes(log.read_bytes()[: log.read_bytes().rfind(b"\n") + 1])  # a line that was cut in its middle
    kept = outcomes(out)
    assert len(kept) >= 2
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(records(out)) == len(outcomes(out)) == 8 and kept.items() <= outcomes(out).items()
    assert outcomes(out) == outcomes(tried[0])


class Still:
    """Commands nothing at all."""

    def __init__(self, width=7):
        self.width = width

    def act(self, observation):
        assert observation.frames["front"].colour.shape == (480, 640, 3)
        return np.zeros((5, self.width))


class Named(Still):
    def __init__(self, identity):
        super().__init__()
        self.identity = identity


def still_evaluation(out, policy=Still()):  # noqa: B008
    return Evaluation(load_rig("lab"), {"still": policy}, [Cell(policy="still", task=PRESS)], 1, out=out, failures_filmed=1)


def test_who_interrupts_it_is_told_what_is_kept_and_how_it_goes_on(tmp_path):
    command = [sys.executable, "-m", "robosteer_core.cli", "eval", "--policy", "scripted", "--task", PRESS, "--trials", "200"]
    words = [*command, "--processes", "1", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("200 trials: 1 combinations")
    while "trials: 10 of 200" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert f"trials are in {tmp_path / 'run'}" in process.communicate(timeout=60)[1] and process.returncode == 130
    assert len(records(tmp_path / "run")) >= 10


def test_any_object_can_be_tried_and_its_failures_are_filmed(tmp_path):
    with still_evaluation(tmp_path / "run") as evaluation:
        (record,) = evaluation.run()
        assert evaluation.unseen() == [record]
        evaluation.film()
    assert not record.success and record.failure_class in ("never reached", "time-out") and record.ticks == 180
    assert evaluation.video(record.trial).stat().st_size > 1000


@pytest.mark.parametrize("gone", [False, True], ids=["stays", "goes"])
def test_a_failing_remote_policy_is_filmed_and_a_server_that_goes_costs_the_film_alone(tmp_path, policy_server, caplog, gone):
    """Trial and film go through one connection, which stays when the trial is over."""
    asked = []

    def answer(message):
        asked.append(message)
        if gone and len(asked) > 180 // EXECUTED:
            raise ConnectionError("no more answers")
        return pack({"actions": np.zeros((5, 7))})

    with policy_server(answer) as address:
        spec = PolicySpec(name="remote", policy=address)
        with Evaluation(load_rig("lab"), {"remote": spec}, [Cell(policy="remote", task=PRESS)], 1, out=tmp_path / "run") as evaluation:
            (record,) = evaluation.run()
            evaluation.film()
    assert not record.success and record.ticks == 180
    assert evaluation.video(record.trial).exists() is not gone and ("not all is filmed" in caplog.text) is gone


class Fatal(Still):
    """Its process dies with it."""

    def act(self, observation):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_costs_its_own_trial_alone(tmp_path):
    cells, policies = [Cell(policy=name, task=PRESS) for name in ("fatal", "still")], {"fatal": Fatal(), "still": Still()}
    with Evaluation(load_rig("lab"), policies, cells, 1, out=tmp_path / "run", processes=2, failures_filmed=0) as evaluation:
        with pytest.raises(UserError, match=r"has died \(exit code -9\)"):
            evaluation.run()
    assert [record.trial.policy for record in records(tmp_path / "run")] == ["still"]


def test_seeds_to_be_seen_are_filmed_also_when_their_trials_are_there(tried, tmp_path, capsys):
    out, _, words = tried
    shutil.copytree(out, tmp_path / "run")
    before = outcomes(out)
    assert main(["eval", *words, "--trials", "2", "--videos", "1", "--failures", "0", "--out", str(tmp_path / "run")]) == 0
    assert len(list((tmp_path / "run" / "videos").glob("*.mp4"))) == 4 and outcomes(tmp_path / "run") == before


def test_names_of_videos_are_short_and_differ(tmp_path):
    long = "/".join(["policies of the laboratory"] * 12)
    trials = [Trial(policy=f"{where}/{long}", task=PRESS, seed=0) for where in ("here", "there")]
    first, second = (video_path(tmp_path, trial).name for trial in trials)
    assert first != second and len(first.encode()) < 200
    assert len(video_path(tmp_path, Trial(policy="\u00fc" * 300, task="\u00fc" * 300, seed=0)).name.encode()) < 200


def test_actions_of_another_shape_end_it_and_are_no_trial(tmp_path):
    with still_evaluation(tmp_path / "run", Still(8)) as evaluation, pytest.raises(UserError, match=r"shape \(5, 8\), expected \(chunk, 7\)"):
        evaluation.run()
    assert records(tmp_path / "run") == []


def test_objects_are_told_apart_by_their_identity_and_without_one_nothing_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with still_evaluation(tmp_path / "named", Named("one")), still_evaluation(None, Named("one")) as first:
        assert first.about["policies"] == {"still": "one"}
    with still_evaluation(tmp_path / "named", Named("one")):
        pass
    with pytest.raises(UserError, match="holds trials of something else"):
        still_evaluation(tmp_path / "named", Named("two"))
    with still_evaluation(tmp_path / "nameless"):
        pass
    for out in (tmp_path / "nameless", tmp_path / "named", None):
        with pytest.raises(UserError, match="the policies still do not say what they are.*`identity`"):
            still_evaluation(out)
    with pytest.raises(UserError, match="identity of a policy is JSON"):
        still_evaluation(tmp_path / "odd", Named({1, 2}))
    assert not (tmp_path / "odd").exists() and len(list((tmp_path / "runs").iterdir())) == 1


def test_an_object_that_cannot_act_is_refused(tmp_path):
    with pytest.raises(UserError, match="needs a method act"):
        still_evaluation(tmp_path / "run", object())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "nobody"], "no policy 'nobody'; expected a checkpoint folder, ws://host:port, or one of: scripted"),
        (["--policy", "scripted", "--task", "sing"], "unknown task 'sing'"),
        (["--policy", "scripted", "--task", PRESS, "--variation", "fog"], "unknown variation 'fog'"),
        (["--policy", "scripted", "--task", PRESS, "--through", "air"], "trials go through arm, lab; found 'air'"),
        (["--policy", "scripted", "--task", PRESS, "--trials", "0"], "greater than or equal to 1"),
        (["--policy", "scripted", "--task", PRESS, "--adapter", "somewhere"], "an adapter goes into a checkpoint folder"),
        (["--policy", "scripted", "--policy", "scripted"], "named twice"),
        (["--policy", "ws://127.0.0.1:9", "--task", PRESS], "no policy server at ws://127.0.0.1:9"),
        (["--policy", "scripted", "--task", PRESS, "--rig", "nowhere"], "no rig file"),
        (["--policy", "scripted", "--task", PRESS, "--json", "/nowhere/rates.json"], "no folder for --json"),
        (["--policy", "scripted", "--task", PRESS, "--json", "/tmp"], "--json /tmp is a folder"),
        ([], "give what to try"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(words, message, tmp_path, capsys):
    assert main(["eval", *words, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr()
    assert message in " ".join(said.err.replace("│", " ").split()) and said.out == ""
    assert not (tmp_path / "run").exists()


CONDITIONS = """
- {name: seeing, policy: scripted, task: touch the red button, variation: all}
- {name: blind, policy: scripted, task: press the red button, images: grey}
"""


@pytest.mark.parametrize("words", [["--task", PRESS], ["--variation", "none"], ["--adapter", "none"]])
def test_a_file_of_conditions_says_itself_what_is_tried(words, tmp_path, capsys):
    (tmp_path / "conditions.yaml").write_text(CONDITIONS)
    assert main(["eval", str(tmp_path / "conditions.yaml"), *words, "--out", str(tmp_path / "run")]) == 2
    assert f"leave out {words[0]}" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_all_in_a_file_of_conditions_is_what_it_is_on_the_command_line(tmp_path):
    (tmp_path / "conditions.yaml").write_text(CONDITIONS)
    catalogue = load_catalogue()
    specs, cells = load_conditions(tmp_path / "conditions.yaml", catalogue)
    _, those = grid(["scripted"], [], [TOUCH], ["all"], catalogue)
    assert [cell.variation for cell in cells if cell.policy == "seeing"] == [cell.variation for cell in those] == list(catalogue.variations)
    assert [(cell.task, cell.variation) for cell in cells if cell.policy == "blind"] == [(PRESS, "none")] and specs["blind"].images == "grey"
    (tmp_path / "conditions.yaml").write_text("[{name: one, policy: scripted, task: sing}]")
    with pytest.raises(UserError, match="unknown task 'sing'"):
        load_conditions(tmp_path / "conditions.yaml", catalogue)
    (tmp_path / "conditions.yaml").write_bytes(b"- \xff")
    with pytest.raises(UserError, match="not valid YAML"):
        load_conditions(tmp_path / "conditions.yaml", catalogue)


def test_the_list_is_in_its_file_whole_or_not_at_all(tried, tmp_path):
    """What is there already stays where the new one cannot be written to its end."""
    out, done, words = tried
    file = tmp_path / "rates.json"
    command = [*EVAL, *words, "--trials", "2", "--out", str(out), "--json", str(file)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert json.loads(file.read_text()) == json.loads(done.stdout) and os.listdir(tmp_path) == ["rates.json"]
    inode = file.stat().st_ino
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert file.stat().st_ino != inode  # replaced, not written over


def test_through_the_lab_there_are_as_many_processes_as_cores_but_not_more_than_four():
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    program += "from robosteer_core.evaluation.worker import default_processes as d; print(d('lab'), d('arm'))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.split() == ["1", "1"]
    assert default_processes("lab") == min(4, len(os.sched_getaffinity(0)))


def test_a_folder_of_other_trials_is_refused_and_left_alone(tried, capsys):
    before = (tried[0] / "trials.jsonl").read_bytes()
    assert main(["eval", "--policy", "scripted", "--task", TOUCH, "--trials", "1", "--through", "arm", "--out", str(tried[0])]) == 2
    assert "holds trials of something else" in capsys.readouterr().err
    assert (tried[0] / "trials.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["eval", "--policy", "scripted", "--task", TOUCH, "--trials", "1", "--out", str(tmp_path / "file" / "run")]) == 2
    assert "give another path" in capsys.readouterr().err
