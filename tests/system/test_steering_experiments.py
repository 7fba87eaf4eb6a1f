"""The steering experiments at their smallest size, with a policy of random weights: what they leave, and that they go on."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from robosteer_core.rig import load_rig
from robosteer_core.vla.config import Normalisation, PolicyConfig
from robosteer_core.vla.small import IMAGE_SIZE, INSTRUCTION_TOKENS, new_policy

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "steering_experiments.py"
TASK = "press the red button hard"


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """It turns the hand so fast that the robot's reflex ends every trial soon."""
    rig = load_rig("lab")
    folder = tmp_path_factory.mktemp("policies") / "wild"
    new_policy(
        PolicyConfig(
            family="pi0", cameras=("front", "wrist"), image_size=IMAGE_SIZE, state_names=rig.state_names,
            action_names=rig.action_space.names, action_hz=15, instruction_tokens=INSTRUCTION_TOKENS, flow_steps=2,
            state=Normalisation(mean=(0.0,) * 7, std=(1.0,) * 7),
            action=Normalisation(mean=(0.0, 0.0, 0.0, 0.0, 0.0, -0.3, 0.5), std=(0.01,) * 6 + (0.5,)),
        ),
        seed=0, layers=2,
    ).save(folder)  # fmt: skip
    return folder


def experiments(out, policy, *words):
    sizes = ["--demos", "2", "--steps", "2", "--heads", "2", "--trials", "1", "--arm-trials", "0", "--fewer-trials", "1", "--processes", "1"]
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(out), "--policy", str(policy), *sizes, *words], capture_output=True, text=True, timeout=900
    )  # fmt: skip


def test_the_main_table_is_made_and_a_second_call_goes_on_with_what_is_missing(policy, tmp_path):
    done = experiments(tmp_path, policy, "--task", TASK, "--only", "main")
    assert done.returncode == 0, done.stderr
    trials = pq.read_table(tmp_path / "main.parquet").to_pylist()
    assert {row["policy"] for row in trials} == {"zero-shot", "all heads", "selected heads", "random heads"}
    assert {(row["task"], row["seed"]) for row in trials} == {(TASK, 700_000)}
    files = [path for path in tmp_path.glob("adapters/*/*.json") if not path.name.endswith(".heads.json")]
    records = {record["name"]: record for record in (json.loads(path.read_text()) for path in files)}
    assert {name: len(record["heads"]) for name, record in records.items()} == {"all heads": 8, "selected heads": 2, "random heads": 2}
    assert all(0 < record["action_error"] < record["action_error_before"] for record in records.values())
    page = (tmp_path / "report.html").read_text()
    assert "45 → 75" in page and "<b>0</b>/1 <small>0–79 %</small>" in page

    # As if it had been killed in the fourth trial, while it wrote.
    log, adapters = next(tmp_path.glob("trials/main/*/trials.jsonl")), {path: path.stat().st_mtime_ns for path in tmp_path.glob("adapters/*/*/*")}
    whole = log.read_bytes()
    log.write_bytes(whole[: whole.rstrip().rfind(b"\n") + 40])
    again = experiments(tmp_path, policy, "--task", TASK, "--only", "main")
    assert again.returncode == 0, again.stderr
    digests = [[json.loads(line)["digest"] for line in text.splitlines()[1:]] for text in (whole, log.read_bytes())]
    assert digests[0] == digests[1] and {path: path.stat().st_mtime_ns for path in adapters} == adapters


def test_an_unknown_task_is_refused(policy, tmp_path):
    done = experiments(tmp_path, policy, "--task", "fry the egg")
    assert done.returncode == 1 and "expected tasks of place the marker in the mug" in done.stderr and not any(tmp_path.iterdir())
