"""Scripted operator: successes of 20 on the demo's task, every pretraining task, and one of each other kind.

    python tests/benchmarks/operator_success.py
"""

from robosteer_core.rig import load_rig
from robosteer_sim.operator import Operator
from robosteer_sim.pretrain import INSTRUCTIONS
from robosteer_sim.rollout import Rollout
from robosteer_sim.world import World

TASKS = ("press the red button", *INSTRUCTIONS, "push the red cube", "pick up the red cube")
TRIALS, TICKS = 20, 180


def main() -> None:
    rig = load_rig("lab")
    world = World(rig)
    for task in TASKS:
        good, failures = 0, []
        for seed in range(800_000, 800_000 + TRIALS):
            world.reset(task, seed)
            rollout, operator = Rollout(world, rig), Operator(task, seed, tremor_m=0.002)
            for _ in range(TICKS):
                if world.success():
                    break
                rollout.apply(operator.act(world.truth()))
            good += world.success()
            if not world.success():
                failures.append((seed, world.truth()["failure"] or "time"))
        print(f"{task:24s} {good} of {TRIALS} {failures or ''}", flush=True)


if __name__ == "__main__":
    main()
