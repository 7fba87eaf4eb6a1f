"""Two policies beside each other on the trials that both have done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from robosteer_core.evaluation.statistics import PairedComparison, SuccessRate, compare_paired, compare_unpaired, holm
from robosteer_core.evaluation.trials import TrialRecord


@dataclass(frozen=True)
class Comparison:
    """`where` is a task, or "all". `paired` is McNemar's test on the seeds that both have, `unpaired` Barnard's p-value on
    all trials, `paired_holm` McNemar's p-value corrected for the tasks of the same pair."""

    first: str
    second: str
    where: str
    rates: tuple[SuccessRate, SuccessRate]
    paired: PairedComparison
    paired_holm: float | None
    unpaired: float


def compare_policies(records: Iterable[TrialRecord], policies: Sequence[str], tasks: Sequence[str]) -> list[Comparison]:
    """Each pair of policies over all trials, then task by task where there are several."""
    outcomes: dict[str, dict[tuple, bool]] = {policy: {} for policy in policies}
    for record in records:
        trial = record.trial
        outcomes[trial.policy][trial.task, trial.variation, trial.seed] = record.success
    found = []
    for first, second in combinations(policies, 2):
        mine = []
        for where in ("all", *tasks) if len(tasks) > 1 else ("all",):
            one, other = (
                {key: success for key, success in outcomes[name].items() if where in ("all", key[0])} for name in (first, second)
            )
            shared = sorted(one.keys() & other.keys())
            if not shared:
                continue
            rates = SuccessRate.of(list(one.values())), SuccessRate.of(list(other.values()))
            paired = compare_paired([one[key] for key in shared], [other[key] for key in shared])
            mine.append(Comparison(first, second, where, rates, paired, None, compare_unpaired(*rates)))
        corrected = holm([comparison.paired.p_value for comparison in mine[1:]])
        found += mine[:1]
        found += [Comparison(**{**vars(one), "paired_holm": p}) for one, p in zip(mine[1:], corrected)]
    return found
