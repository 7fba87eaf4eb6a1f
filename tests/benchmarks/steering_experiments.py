"""The experiments of Robotic Steering (arXiv 2511.22697) in the lab: head-sparse finetuning against LoRA on all heads.

    python tests/benchmarks/steering_experiments.py --out FOLDER [--only main|variations|ablations]

Everything lands in FOLDER as it is finished: demonstrations, adapters, and each trial in the log of its experiment and in
`trials.parquet`. Killed and called again the same call goes on. `report.html` stands beside, and what there is so far can be
looked at while the rest runs.

main: five tasks, 20 demonstrations each; the base as it is, LoRA on all heads, on the selected heads and on as many random ones,
at the same rank, modules and steps, over the same seeds, in one process and again through FCI. The unseen task, to pick up the mug,
is tried with the adapters that have learnt to pick up the cube (the paper does not say whose its are).
variations: two of the tasks in other light, with other forms, among distractors.
ablations: on the same two, one thing at a time: heads, demonstrations, steps, feed-forward LoRA, which part's heads are scored and
trained; with the error of the predicted action on demonstrations that nothing was trained on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from rich.progress import Progress, track

from robosteer_core.errors import UserError
from robosteer_core.evaluation.evaluation import Evaluation
from robosteer_core.evaluation.table import write_table
from robosteer_core.evaluation.trial_policy import PolicySpec
from robosteer_core.evaluation.trials import Cell
from robosteer_core.rig import Rig, load_rig
from robosteer_core.vla.checkpoint import load_policy

sys.path.insert(0, str(Path(__file__).parent))
from steering_report import write_report  # noqa: E402
from steering_training import DEMONSTRATION_SEED, HELD_OUT, HELD_OUT_SEED, Recipe, demonstrations, prepare, slug  # noqa: E402

TASKS = (
    "place the marker in the mug", "press the red button hard", "pick up the red cube", "place the green cube in the red bowl",
    "push the red cup to the red bowl",
)  # fmt: skip
UNSEEN, LEARNT = "pick up the mug", "pick up the red cube"
TWO_TASKS = ("pick up the red cube", "press the red button hard")
VARIATIONS = ("lighting", "form", "distractors")
BASE = Path(__file__).parents[2] / "robosteer_sim" / "pretrain" / "base"
#: As in the demo: trials, demonstrations and pretraining never share a scene.
TRIAL_SEED = 700_000


@dataclass(frozen=True)
class Plan:
    """Where, on which policy, and how much of everything."""

    out: Path
    policy: Path
    rig: Rig
    tasks: tuple[str, ...]
    demos: int
    steps: int
    heads: int
    trials: int
    arm_trials: int
    fewer_trials: int
    processes: int

    @cached_property
    def eligible(self) -> int:
        """Heads of the backbone that reach the action."""
        return len(load_policy(self.policy).sites.eligible_heads("vlm"))

    def main_recipes(self, task: str) -> list[Recipe]:
        ours = Recipe("selected heads", task, "selected", self.demos, self.steps, self.heads)
        return [replace(ours, name="all heads", heads="all"), ours, replace(ours, name="random heads", heads="random:1")]

    def ablations(self, task: str) -> dict[str, list[Recipe]]:
        """By what is changed, the recipes in the order in which they are shown; ours is among all of them."""
        ours = self.main_recipes(task)[1]
        counts = sorted(count for count in {4, self.heads, 16, 24} if count < self.eligible)
        demos = sorted({1, self.demos // 4, self.demos // 2, self.demos, 2 * self.demos} - {0})
        steps = sorted({self.steps // 4, self.steps // 2, self.steps, 2 * self.steps} - {0})
        return {
            "heads": [*(replace(ours, count=count) for count in counts), self.main_recipes(task)[0]],
            "demonstrations": [replace(ours, demonstrations=count) for count in demos],
            "steps": [replace(ours, steps=count) for count in steps],
            "modules": [ours, replace(ours, feed_forward=True)],
            "parts": [ours, replace(ours, scored="vlm:last_prefix"), replace(ours, trained="expert")],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", choices=("main", "variations", "ablations"), help="repeatable")
    parser.add_argument("--policy", type=Path, default=BASE)
    parser.add_argument("--task", action="append", help="some of the tasks instead of all; repeatable")
    parser.add_argument("--demos", type=int, default=20)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--heads", type=int, default=8, help="of the 40 that reach the action; the paper takes 20 of 144")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--arm-trials", type=int, default=20, help="the first of the same seeds, again through FCI")
    parser.add_argument("--fewer-trials", type=int, default=20, help="of each cell of variations and ablations")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rig", default="lab")
    given = vars(parser.parse_args())
    only = given.pop("only") or ["main", "variations", "ablations"]
    try:
        unknown = set(given["task"] or ()) - set(TASKS)
        if unknown:
            raise UserError(f"expected tasks of {'; '.join(TASKS)}; found {'; '.join(sorted(unknown))}")
        plan = Plan(rig=load_rig(given.pop("rig")), tasks=tuple(given.pop("task") or TASKS), **given)
        for name in only:
            {"main": run_main, "variations": run_variations, "ablations": run_ablations}[name](plan)
    except UserError as error:
        sys.exit(f"robosteer: {error}")
    print(plan.out / "report.html")


def run_main(plan: Plan) -> None:
    for task in plan.tasks:
        specs = specs_of(plan, plan.main_recipes(task))
        evaluate(plan, "main", task, specs, [task], ["none"], plan.trials)
        if task == LEARNT:
            evaluate(plan, "main", UNSEEN, specs, [UNSEEN], ["none"], plan.trials)
    for task in plan.tasks if plan.arm_trials else ():
        specs = specs_of(plan, plan.main_recipes(task))
        evaluate(plan, "arm", task, specs, [task, *([UNSEEN] if task == LEARNT else [])], ["none"], plan.arm_trials, through="arm")


def run_variations(plan: Plan) -> None:
    for task in [task for task in TWO_TASKS if task in plan.tasks]:
        evaluate(plan, "variations", task, specs_of(plan, plan.main_recipes(task)), [task], list(VARIATIONS), plan.fewer_trials)


def run_ablations(plan: Plan) -> None:
    for task in [task for task in TWO_TASKS if task in plan.tasks]:
        recipes = list(dict.fromkeys(recipe.named_by_key() for of in plan.ablations(task).values() for recipe in of))
        evaluate(plan, "ablations", task, specs_of(plan, recipes)[1:], [task], ["none"], plan.fewer_trials)


def specs_of(plan: Plan, recipes: list[Recipe]) -> list[PolicySpec]:
    """The base, and the base with the adapter of each recipe, made where it is not there yet; several at a time."""
    wanted = {(recipe.demonstrations, DEMONSTRATION_SEED) for recipe in recipes} | {(HELD_OUT, HELD_OUT_SEED)}
    for count, seed in track(sorted(wanted), description=f"demonstrations: {recipes[0].task}"):
        demonstrations(plan.rig, plan.out, recipes[0].task, count, seed)
    todo = [recipe for recipe in recipes if not recipe.record(plan.out).exists()]
    with ExitStack() as open_things:
        progress = open_things.enter_context(Progress())
        bar = progress.add_task(f"adapters: {recipes[0].task}", total=len(recipes), completed=len(recipes) - len(todo))
        call = partial(prepare, plan.rig, plan.policy, plan.out)
        if min(plan.processes, len(todo)) > 1:
            pool = open_things.enter_context(ProcessPoolExecutor(plan.processes, mp_context=multiprocessing.get_context("spawn")))
            made = pool.map(call, todo)
        else:
            made = map(call, todo)
        for _ in made:
            progress.advance(bar)
    base = PolicySpec(name="zero-shot", policy=str(plan.policy))
    return [base, *(base.model_copy(update={"name": r.name, "adapter": r.folder(plan.out)}) for r in recipes)]


def evaluate(
    plan: Plan, experiment: str, about: str, specs: list[PolicySpec], tasks: list[str], variations: list[str], trials: int,
    through: str = "lab",
) -> None:  # fmt: skip
    """Run what is left of one experiment's trials and bring the report up to date."""
    out = plan.out / "trials" / experiment / slug(about)
    cells = [Cell(policy=spec.name, task=task, variation=variation) for spec in specs for task in tasks for variation in variations]
    with (
        Evaluation(
            plan.rig, {spec.name: spec for spec in specs}, cells, trials, TRIAL_SEED, out, through,
            1 if through == "arm" else plan.processes, failures_filmed=0,
        ) as evaluation,
        Progress() as progress,
    ):  # fmt: skip
        bar = progress.add_task(f"{experiment}: {about}", total=len(evaluation.schedule), completed=len(evaluation.records()))

        def keep(record: object) -> None:
            write_table(out / "trials.parquet", evaluation.records())
            progress.advance(bar)

        evaluation.run(keep)
        write_table(out / "trials.parquet", evaluation.records())
    (out / "about.json").write_text(json.dumps({"experiment": experiment, "through": through, "recipes": {s.name: str(s.adapter) for s in specs}}))
    write_report(plan)


if __name__ == "__main__":
    main()
