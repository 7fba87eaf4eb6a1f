"""The demo as a user runs it, at the smallest size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from robosteer_core.evaluation.report import read_report

DEMO = Path(__file__).resolve().parents[2] / "launch" / "demo.py"
KEYS = """task demos n_heads heads scored_part k cv_mse trainable_parameters full_lora_parameters finetune_s base
base_on_own_task steered steered_blind random_heads sim_s_per_wall_s policy_ms late_ticks wall_s seed""".split()


@pytest.fixture(scope="module")
def demo(rig_file, tmp_path_factory):
    """Two demonstrations, one trial of each condition, five steps of finetuning of the shipped base."""
    out = tmp_path_factory.mktemp("demo") / "run"
    words = ["--out", str(out), "--rig", str(rig_file), "--demos", "2", "--trials", "1", "--steps", "5"]
    run = subprocess.run([sys.executable, str(DEMO), *words], capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return out


def test_the_report_has_every_number(demo):
    content = json.loads((demo / "report.json").read_text())
    assert sorted(content) == sorted(KEYS)
    report = read_report(demo / "report.json")
    assert report.n_heads == 8 and {part for part, _, _ in report.heads} == {"vlm"} and report.scored_part == "expert"
    assert report.steered.trials == report.base.trials == 1
    assert 0 < report.trainable_parameters < report.full_lora_parameters


def test_the_page_shows_head_map_success_and_both_videos(demo):
    page = (demo / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 2
    for video in ("base", "steered"):
        (name,) = {path.name for path in demo.glob(f"{video}_7*.mp4")}
        assert name in page and (demo / name).stat().st_size > 1000


def test_demonstrations_are_a_sound_dataset(demo):
    check = subprocess.run(
        [sys.executable, "-m", "robosteer_core.cli", "dataset", "check", str(demo / "demonstrations")], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_no_process_of_the_lab_is_left(demo, rig_file):
    for place in (rig_file, demo):
        assert not subprocess.run(["pgrep", "-f", str(place)], capture_output=True, text=True).stdout.split()


def test_a_trial_repeats_to_the_bit_alone_and_on_a_loaded_machine(demo, rig_file, tmp_path):
    """A trial of the demo once more, by itself and with both cores busy: the same commands were sent, the same outcome came."""
    there = _record(demo / "trials", "base_on_own_task")
    conditions = yaml.safe_load((demo / "conditions.yaml").read_text())
    (tmp_path / "conditions.yaml").write_text(yaml.safe_dump([c for c in conditions if c["name"] == "base_on_own_task"]))
    out, seed = tmp_path / "trials", str(there["trial"]["seed"])
    words = ["eval", str(tmp_path / "conditions.yaml"), "--rig", str(rig_file), "--out", str(out), "--trials", "1", "--seed", seed, "--through", "arm"]
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        subprocess.run([sys.executable, "-m", "robosteer_core.cli", *words], check=True, timeout=600)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    here = _record(out, "base_on_own_task")
    assert [here[key] for key in ("digest", "success", "robot_s")] == [there[key] for key in ("digest", "success", "robot_s")]


def _record(trials, name):
    """The one trial of a condition."""
    records = [json.loads(line) for line in (trials / "trials.jsonl").read_text().splitlines()[1:]]
    (found,) = [record for record in records if record["trial"]["policy"] == name]
    return found
