"""The page of the steering experiments: what has been tried so far, beside the published numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from steering_training import HELD_OUT

from robosteer_core.evaluation import plot
from robosteer_core.evaluation.comparison import compare_policies
from robosteer_core.evaluation.cost_plot import Trained, plot_success_by_parameters
from robosteer_core.evaluation.statistics import SuccessRate
from robosteer_core.evaluation.table import write_table
from robosteer_core.evaluation.trials import TrialRecord
from robosteer_core.files import write_text
from robosteer_core.page import data_uri, render
from robosteer_core.vla.checkpoint import fingerprint, load_policy

CONDITIONS = ("zero-shot", "all heads", "selected heads", "random heads")
#: Success in per cent, LoRA and selected heads, of pi0 and of pi0.5 on a real Panda (Mitra et al., arXiv 2511.22697, project page).
PUBLISHED = {
    "place the marker in the mug": ((75, 80), (62.5, 72.5)),
    "press the red button hard": ((45, 75), (90, 85)),
    "pick up the red cube": ((75, 90), (70, 77.5)),
    "place the green cube in the red bowl": ((60, 85), (65, 80)),
    "push the red cup to the red bowl": ((10, 17.5), (20, 27.5)),
}
#: The same of one condition each; of which model and task is not said.
PUBLISHED_ELSEWHERE = {"unseen": (42.5, 65), "lighting": (25, 47.5), "form": (22.5, 37.5), "distractors": (30, 40)}


def write_report(plan) -> None:
    """Bring `report.html` and the tables of all trials in `plan.out` up to date."""
    records = {name: _records(plan.out / "trials" / name) for name in ("main", "arm", "variations", "ablations")}
    for name, found in records.items():
        if found:
            write_table(plan.out / f"{name}.parquet", found)
    recipes = [json.loads(path.read_text()) for path in sorted((plan.out / "adapters").glob("*/*.json")) if ".heads" not in path.name]
    tasks, main = [task for task in PUBLISHED if task in plan.tasks], records["main"]
    seen = [record for record in main if record.trial.task in tasks]
    with TemporaryDirectory() as folder:
        pictures = _pictures(Path(folder), plan, seen, records, recipes)
    page = render(
        Path(__file__).with_name("steering_report.html"),
        plan=plan, conditions=CONDITIONS, tasks=tasks, published=PUBLISHED, elsewhere=PUBLISHED_ELSEWHERE, pictures=pictures,
        main=_rates(main), arm=_rates(records["arm"]), pooled=_rates(seen, task="all"), pooled_arm=_rates(records["arm"], task="all"),
        unseen=[task for task in dict.fromkeys(r.trial.task for r in main) if task not in tasks],
        agreement=_agreement(main, records["arm"]),
        comparisons=_comparisons(seen, tasks), variations=_by_variation(records["variations"]),
        varied_tasks=list(dict.fromkeys(r.trial.task for r in records["variations"])),
        variation_comparisons=_comparisons(records["variations"], []), recipes=recipes, cost=_cost(recipes, plan),
        ablations=_ablations(plan, recipes, _rates(records["ablations"])),
        held_out=HELD_OUT, layers=load_policy(plan.policy).sites.shape("vlm"), fingerprint=fingerprint(plan.policy)[:16],
    )  # fmt: skip
    write_text(plan.out / "report.html", page)


def _records(folder: Path) -> list[TrialRecord]:
    lines = (line for path in sorted(folder.glob("*/trials.jsonl")) for line in path.read_text().splitlines()[1:])
    return [TrialRecord.model_validate_json(line) for line in lines]


def _rates(records: Iterable[TrialRecord], task: str = "") -> dict[tuple[str, str], SuccessRate]:
    """By policy and task, or all tasks together under one name."""
    outcomes: dict[tuple[str, str], list[bool]] = {}
    for record in records:
        outcomes.setdefault((record.trial.policy, task or record.trial.task), []).append(record.success)
    return {key: SuccessRate.of(found) for key, found in outcomes.items()}


def _by_variation(records: Iterable[TrialRecord]) -> dict[str, dict[str, SuccessRate]]:
    outcomes: dict[str, dict[str, list[bool]]] = {}
    for record in records:
        outcomes.setdefault(record.trial.variation, {}).setdefault(record.trial.policy, []).append(record.success)
    return {variation: {name: SuccessRate.of(found) for name, found in of.items()} for variation, of in outcomes.items()}


def _comparisons(records: Sequence[TrialRecord], tasks: Sequence[str]) -> list:
    """Selected heads beside each of the others, over all tasks and task by task."""
    tried = {record.trial.policy for record in records}
    found = []
    for other in CONDITIONS:
        if other != "selected heads" and {other, "selected heads"} <= tried:
            pair = ("selected heads", other)
            found += compare_policies([r for r in records if r.trial.policy in pair], pair, tasks)
    return found


def _agreement(main: Iterable[TrialRecord], arm: Iterable[TrialRecord]) -> tuple[int, int]:
    """Of the trials that were run both in one process and through FCI, how many ended alike, and how many there are."""
    here = {record.trial: record.success for record in main}
    both = [(here[record.trial], record.success) for record in arm if record.trial in here]
    return sum(one == other for one, other in both), len(both)


def _cost(recipes: Sequence[dict], plan) -> dict[str, dict[str, float]]:
    """Of each condition of the main table: trained parameters, and mean seconds of selection and of finetuning."""
    found, known = {}, {(recipe["task"], recipe["key"]): recipe for recipe in recipes}
    for name in CONDITIONS:
        # By what they are, not by their name: an ablation may have made them before.
        keys = [(task, recipe.key) for task in plan.tasks for recipe in plan.main_recipes(task) if recipe.name == name]
        mine = [known[key] for key in keys if key in known]
        if mine:
            found[name] = {
                "parameters": mine[0]["trainable_parameters"], "heads": len(mine[0]["heads"]),
                **{key: sum(recipe[key] for recipe in mine) / len(mine) for key in ("select_s", "finetune_s", "action_error", "action_error_before")},
            }  # fmt: skip
    return found


def _ablations(plan, recipes: Sequence[dict], rates: dict) -> dict[str, dict[str, list[dict]]]:
    """By task and by what is changed: recipes in order with their record and success, as far as there is one."""
    known = {(recipe["task"], recipe["key"]): recipe for recipe in recipes}
    found = {}
    for task in {task: None for _, task in rates}:
        found[task] = {
            what: [
                {"key": recipe.key, "rate": rates.get((recipe.key, task)), "record": known.get((task, recipe.key))} for recipe in of
            ] for what, of in plan.ablations(task).items()
        }  # fmt: skip
    return found


def _pictures(folder: Path, plan, seen: Sequence[TrialRecord], records: dict, recipes: Sequence[dict]) -> dict[str, str]:
    found, rates = {}, _rates(seen)
    if rates:
        tasks = dict.fromkeys(task for _, task in rates)
        plot.forest({t: {c: rates[c, t] for c in CONDITIONS if (c, t) in rates} for t in tasks}, folder / "tasks.png")
        cost, pooled, points = _cost(recipes, plan), _rates(seen, task="all"), []
        for name in CONDITIONS:
            if (name, "all") in pooled:
                rate, parameters = pooled[name, "all"], cost.get(name, {}).get("parameters", 0)
                points.append(Trained(name=name, parameters=parameters, successes=rate.successes, trials=rate.trials, ours=name == "selected heads"))
        plot_success_by_parameters(points, folder / "parameters.png")
    if records["variations"]:
        plot.forest(_by_variation(records["variations"]), folder / "variations.png")
    for number, (task, of) in enumerate(_ablations(plan, recipes, _rates(records["ablations"])).items()):
        ours = plan.main_recipes(task)[1].key
        points = [
            Trained(name=f"{len(row['record']['heads'])} heads", parameters=row["record"]["trainable_parameters"],
                    successes=row["rate"].successes, trials=row["rate"].trials, ours=row["key"] == ours)
            for row in of["heads"] if row["rate"] and row["record"]
        ]  # fmt: skip
        if points:
            plot_success_by_parameters(points, folder / f"heads{number}.png", task)
    for path in folder.glob("*.png"):
        found[path.stem] = data_uri(path)
    return found
