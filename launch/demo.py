"""The whole story in the simulated lab, by robosteer's own commands: `make demo`.

Twenty demonstrations of a task that the base policy was never taught, the heads that matter for it, finetuning of those
heads only, and trials of the steered policy beside the base and two controls. The report is runs/demo/report.html.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml
from rich.console import Console

from robosteer_core.errors import UserError
from robosteer_core.evaluation.evaluation import video_path
from robosteer_core.evaluation.report import CONDITIONS, Details, PolicyTimes, Report, write_report
from robosteer_core.evaluation.statistics import SuccessRate
from robosteer_core.evaluation.trials import TrialRecord
from robosteer_core.rig import Rig, load_rig
from robosteer_core.runtime.lab_processes import READY_TIMEOUT_S, ROBOSTEER, environment, process

TASK, OWN_TASK = "press the red button", "touch the red button"
#: Scenes of demonstrations and of trials never share a seed, nor does pretraining use either.
DEMONSTRATION_SEED, TRIAL_SEED = 500_000, 700_000
BASE = Path(__file__).resolve().parent.parent / "robosteer_sim" / "pretrain" / "base"

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--rig", default="lab")
    parser.add_argument("--policy", type=Path, default=BASE, help="the base policy")
    parser.add_argument("--demos", type=int, default=20)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--steps", type=int, default=600, help="of finetuning")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with (arguments.out.parent / f".{arguments.out.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(f"another demo is writing to {arguments.out}; wait for it, or choose another --out") from error
            demo(arguments)
    except UserError as error:
        print(f"robosteer: {error}", file=sys.stderr)
        sys.exit(2)


def demo(arguments: argparse.Namespace) -> None:
    began, out = time.perf_counter(), arguments.out
    rig = load_rig(arguments.rig)
    if (out / "report.html").exists():
        # The last report is kept, so that a repeat, whatever comes of it, never destroys what somebody wants to look at.
        previous = out.with_name(out.name + ".previous")
        if previous.exists():
            shutil.rmtree(previous)
        out.rename(previous)
    elif (out / "logs").is_dir():
        shutil.rmtree(out)  # of a demo that did not get to its end
    if out.exists():
        raise UserError(f"expected a new folder, or one of an earlier demo, at {out}; found something else; choose another --out")
    out.mkdir()
    dataset, heads = out / "demonstrations", out / "heads.json"
    policy, seed, steps = str(arguments.policy), str(arguments.seed), str(arguments.steps)
    console.rule(f"1  {arguments.demos} demonstrations of: {TASK}")
    count = ["--episodes", str(arguments.demos)]
    recording = ["record", "--rig", arguments.rig, "--task", TASK, *count, "--dataset", str(dataset), "--logs", str(out / "logs")]
    with process("record", recording, out / "logs") as (recorder, line):  # with the lab and the nodes that it needs
        console.print(f"record: {line}")
        first = DEMONSTRATION_SEED + 1000 * arguments.seed
        run("sim", "operator", "--rig", arguments.rig, "--task", TASK, *count, "--seed", str(first))
        expect_success("record", recorder)
    console.rule("2  the attention heads that matter for it")
    run("heads", "select", "--dataset", str(dataset), "--policy", policy, "--out", str(heads), "--seed", seed)
    selection = json.loads(heads.read_text())
    console.rule("3  finetuning: those heads, and as many at random")
    adapters = {"steered": str(heads), "random_heads": f"random:{arguments.seed + 1}"}
    for name, chosen in adapters.items():
        run("finetune", "--policy", policy, "--dataset", str(dataset), "--heads", chosen, "--out", str(out / name),
            "--steps", steps, "--seed", seed)  # fmt: skip
    console.rule(f"4  {arguments.trials} trials of each condition")
    (out / "conditions.yaml").write_text(yaml.safe_dump(conditions(policy, out), sort_keys=False))
    run("eval", str(out / "conditions.yaml"), "--rig", arguments.rig, "--out", str(out / "trials"), "--videos", "4",
        "--failures", "0", "--through", "arm",
        "--trials", str(arguments.trials), "--seed", str(TRIAL_SEED + 1000 * arguments.seed))  # fmt: skip
    console.rule("5  the report")
    report(arguments, rig, selection, time.perf_counter() - began)
    console.print(f"report: {out / 'report.html'}  ({(time.perf_counter() - began) / 60:.1f} minutes)")


def conditions(policy: str, out: Path) -> list[dict]:
    steered = {"policy": policy, "adapter": str(out / "steered"), "task": TASK}
    return [
        {"name": "base", "policy": policy, "task": TASK},
        {"name": "base_on_own_task", "policy": policy, "task": OWN_TASK},
        {"name": "steered", **steered},
        {"name": "steered_blind", **steered, "images": "grey"},
        {"name": "random_heads", "policy": policy, "adapter": str(out / "random_heads"), "task": TASK},
    ]


def report(arguments: argparse.Namespace, rig: Rig, selection: dict, wall_s: float) -> None:
    out = arguments.out
    header, *lines = (out / "trials" / "trials.jsonl").read_text().splitlines()
    about, records = json.loads(header)["about"], [TrialRecord.model_validate_json(line) for line in lines]
    training = json.loads((out / "steered" / "training.json").read_text())
    policy_ms = sorted(ms for record in records for ms in record.policy_ms)
    content = Report(
        task=TASK, demos=arguments.demos, n_heads=len(selection["heads"]), heads=[tuple(head) for head in selection["heads"]],
        scored_part=selection["scored_part"], k=selection["k"], cv_mse=selection["cv_mse"],
        trainable_parameters=training["trainable_parameters"], full_lora_parameters=training["full_lora_parameters"],
        finetune_s=training["finetune_s"],
        **{name: SuccessRate.of([r.success for r in records if r.trial.policy == name]) for name in CONDITIONS},
        sim_s_per_wall_s=sum(r.robot_s for r in records) / sum(r.wall_s for r in records),
        policy_ms=PolicyTimes(p50=policy_ms[len(policy_ms) // 2], p99=policy_ms[int(0.99 * (len(policy_ms) - 1))]),
        late_ticks=sum(r.late_ticks for r in records), wall_s=wall_s, seed=arguments.seed,
    )  # fmt: skip
    details = Details(
        own_task=OWN_TASK,
        parameters={
            "policy rate": f"{rig.rates.policy_hz:g} Hz",
            "set-point rate": f"{rig.rates.setpoint_hz:g} Hz",
            "charged per inference": f"{rig.rates.inference_delay_ms:g} ms of robot time",
            "a trial ends after": f"{about['trial_s'][TASK]:g} s of robot time",
        },
        commands=(shlex.join(["python", *sys.argv]),) if len(sys.argv) > 1 else ("make demo",),
    )
    write_report(out, content, out / "heads.png", videos(out, records), records, details)


def videos(out: Path, records: list[TrialRecord]) -> dict[str, Path]:
    """One video of the base and one of the steered policy, on the same seed, the first of which the steered one succeeds."""
    filmed = {
        (record.trial.policy, record.trial.seed): path for record in records
        if (path := video_path(out / "trials", record.trial)).is_file()
    }  # fmt: skip
    good = {r.trial.seed for r in records if r.trial.policy == "steered" and r.success}
    seeds = sorted({seed for _, seed in filmed})
    seed = next((seed for seed in seeds if seed in good), seeds[0])
    # Under the names by which the page has always shown them.
    return {name: shutil.copyfile(filmed[name, seed], out / f"{name}_{seed}.mp4") for name in ("base", "steered")}


def run(*arguments: str) -> None:
    """Run one command of robosteer in the foreground."""
    finished = subprocess.run([*ROBOSTEER, *arguments], env=environment())
    if finished.returncode:
        raise UserError(f"`robosteer {' '.join(arguments)}` failed with exit code {finished.returncode}")


def expect_success(name: str, child: subprocess.Popen) -> None:
    """Wait for a command that ends by itself."""
    try:
        code = child.wait(READY_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{name} did not end within {READY_TIMEOUT_S} s; look at its log") from error
    if code:
        raise UserError(f"{name} failed with exit code {code}; look at its log")


if __name__ == "__main__":
    main()
