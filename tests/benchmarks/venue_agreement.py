"""The same trials inside one process and through FCI: verdicts that agree, differences of path and time.

    python tests/benchmarks/venue_agreement.py --seeds 10 [--policy scripted] [--task "press the red button" ...]

Reports per task: successes in either venue, trials whose verdict agrees, trials of equally many ticks, and the largest and
median distance of the end effectors at the same tick, over the ticks that both have.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from robosteer_core.evaluation.trial_policy import PolicySpec, load_trial_policy
from robosteer_core.evaluation.trial_run import run_trial
from robosteer_core.evaluation.trials import Trial
from robosteer_core.evaluation.venue import venue_class
from robosteer_core.rig import load_rig
from robosteer_sim.catalogue import LabCatalogue


def main() -> None:
    catalogue = LabCatalogue()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="scripted")
    parser.add_argument("--task", action="append")
    parser.add_argument("--variation", default="none")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rig", default="lab")
    arguments = parser.parse_args()
    rig = load_rig(arguments.rig)
    policy = load_trial_policy(PolicySpec(name=arguments.policy, policy=arguments.policy), rig)
    agreed = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        venues = {through: venue_class(through)(rig, Path(folder) / through, False) for through in ("lab", "arm")}
        for task in arguments.task or catalogue.tasks:
            rows = []
            for seed in range(600_000, 600_000 + arguments.seeds):
                trial = Trial(policy=arguments.policy, task=task, variation=arguments.variation, seed=seed)
                rows.append([once(rig, venue, policy, trial, catalogue.seconds(task)) for venue in venues.values()])
            same = sum(here.success == there.success for (here, _), (there, _) in rows)
            agreed, tried = agreed + same, tried + len(rows)
            report(task, rows, same)
        for venue in venues.values():
            venue.close()
    print(f"verdicts agree in {agreed} of {tried} trials")


def once(rig, venue, policy, trial, seconds):
    path = []
    record = run_trial(rig, venue, policy, trial, seconds, lambda observation: path.append(observation.arm.measured.position))
    return record, np.array(path)


def report(task, rows, same) -> None:
    here, there = ([pair[place][0] for pair in rows] for place in (0, 1))
    away = [
        np.linalg.norm(one[: len(other)] - other[: len(one)], axis=1) for (_, one), (_, other) in rows
    ]
    speeds = [sum(r.robot_s for r in records) / sum(r.wall_s for r in records) for records in (here, there)]
    print(
        f"{task:40s} lab {sum(r.success for r in here):2d}, arm {sum(r.success for r in there):2d} of {len(rows)}; agree {same}; "
        f"same ticks {sum(a.ticks == b.ticks for a, b in zip(here, there))}; path largest {1e3 * max(map(np.max, away)):.2f} mm, "
        f"median {1e3 * np.median(np.concatenate(away)):.3f} mm; robot s per s: lab {speeds[0]:.1f}, arm {speeds[1]:.2f}",
        flush=True,
    )
    for (one, _), (other, _) in rows:
        if one.success != other.success:
            print(f"    seed {one.trial.seed}: lab {one.failure or one.failure_class or 'success'}, arm {other.failure or other.failure_class or 'success'}")


if __name__ == "__main__":
    main()
