"""Scripted operator: successes of every lab task in every variation, in one process per core asked for, without FCI.

    python tests/benchmarks/operator_success.py --out runs/operator.jsonl [--seeds 20] [--first 0] [--processes 1]
        [--tremor 0.002] [--latency 0] [--task TEXT ...] [--variation TEXT ...]

Every trial is a line of the file as soon as it is done; called again, it goes on where it was stopped. `--latency` is in
ticks of the policy, by which each command is late.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections import deque
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from robosteer_core.rig import load_rig
from robosteer_core.runtime.json_lines import Refused
from robosteer_sim.demonstrate import TREMOR_M
from robosteer_sim.operator import Operator
from robosteer_sim.rollout import Rollout
from robosteer_sim.tasks import TASKS
from robosteer_sim.variations import VARIATIONS
from robosteer_sim.world import World


@cache
def lab():
    rig = load_rig("lab")
    return rig, World(rig)


def trial(task: str, variation: str, seed: int, tremor_m: float, latency: int) -> dict:
    rig, world = lab()
    world.reset(task, seed, variation)
    rollout, operator = Rollout(world, rig), Operator(task, seed, tremor_m)
    late, refused = deque(np.zeros((latency, 7))), None
    for tick in range(int(operator.task.longest_s * rig.rates.policy_hz)):
        truth = world.truth()
        if truth["success"] or truth["failure"]:
            break
        late.append(operator.act(truth))
        try:
            rollout.apply(late.popleft())
        except Refused as error:
            refused = f"limit: {error}"
            break
    truth = world.truth()
    slow = "dropped" if truth["dropped"] else "time" if truth["reached"] else "never reached"
    return {
        "task": task, "variation": variation, "seed": seed, "tremor_m": tremor_m, "latency": latency, "success": bool(truth["success"]),
        "failure": None if truth["success"] else refused or truth["failure"] or slow, "seconds": tick / rig.rates.policy_hz,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tremor", type=float, default=TREMOR_M)
    parser.add_argument("--latency", type=int, default=0)
    parser.add_argument("--task", nargs="*", default=list(TASKS))
    parser.add_argument("--variation", nargs="*", default=list(VARIATIONS))
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    wanted = [(t, v, s, arguments.tremor, arguments.latency) for s in seeds for t in arguments.task for v in arguments.variation]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    done = {(r["task"], r["variation"], r["seed"], r["tremor_m"], r["latency"]): r for r in rows}
    todo = [key for key in wanted if key not in done]
    with ProcessPoolExecutor(arguments.processes, mp_context=multiprocessing.get_context("spawn")) as pool, arguments.out.open("a") as file:
        jobs = {pool.submit(trial, *key): key for key in todo}
        for job in track(as_completed(jobs), description="trials", total=len(jobs)):
            done[jobs[job]] = job.result()
            file.write(json.dumps(job.result()) + "\n")
            file.flush()
    report([done[key] for key in wanted], arguments.task, arguments.variation)


def report(rows: list[dict], tasks: list[str], variations: list[str]) -> None:
    table = Table("task", *variations, "all cells", "median s", title="successes of the scripted operator")
    for task in tasks:
        of_task = [row for row in rows if row["task"] == task]
        cells = [[row["success"] for row in of_task if row["variation"] == variation] for variation in variations]
        median = np.median([row["seconds"] for row in of_task if row["success"]] or [np.nan])
        total = f"{sum(map(sum, cells))}/{len(of_task)}"
        table.add_row(task, *(f"{sum(cell)}/{len(cell)}" for cell in cells), total, f"{median:.1f}")
    Console(width=180).print(table)
    for row in rows:
        if not row["success"]:
            print(f"{row['task']}, {row['variation']}, seed {row['seed']}: {row['failure']}")


if __name__ == "__main__":
    main()
