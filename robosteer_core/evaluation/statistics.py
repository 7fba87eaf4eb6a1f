"""Success rates from few trials: intervals, and the comparison of two policies on the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt
from statistics import NormalDist

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success rate; (0, 1) without trials.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22: the rates p with
    |p^ - p| <= z sqrt(p (1 - p) / n). Unlike the normal interval it keeps its coverage near 0 and 1 and for n = 20.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie in [0, trials], found {successes} of {trials}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), found {confidence}")
    if trials == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    rate = successes / trials
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = sqrt(z2 * (rate * (1 - rate) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    # At the ends the bound is 0 or 1 exactly; rounding would leave it a hair beside.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == trials else centre + half)


class SuccessRate(BaseModel):
    """Successes of a number of trials, with Wilson's 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    successes: int = Field(ge=0)
    trials: int = Field(ge=1)

    @model_validator(mode="before")
    @classmethod
    def _without_interval(cls, content: object) -> object:
        """A report that is read back carries the interval, which follows from the counts."""
        if isinstance(content, dict):
            return {key: value for key, value in content.items() if key != "wilson_95"}
        return content

    @model_validator(mode="after")
    def _possible(self) -> SuccessRate:
        if self.successes > self.trials:
            raise ValueError(f"{self.successes} successes in {self.trials} trials")
        return self

    @computed_field
    @property
    def wilson_95(self) -> tuple[float, float]:
        return wilson_interval(self.successes, self.trials)

    @property
    def rate(self) -> float:
        return self.successes / self.trials

    @classmethod
    def of(cls, outcomes: Sequence[bool]) -> SuccessRate:
        return cls(successes=sum(outcomes), trials=len(outcomes))


class PairedComparison(BaseModel):
    """Two policies tried on the same seeds: how often only one of them succeeded, and how likely that is by chance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    only_first: int = Field(ge=0)
    only_second: int = Field(ge=0)
    p_value: float = Field(ge=0, le=1)


def compare_paired(first: Sequence[bool], second: Sequence[bool]) -> PairedComparison:
    """McNemar's exact test, two-sided, on outcomes paired by seed.

    McNemar 1947, Psychometrika 12: only pairs that differ count; without a difference between the policies either one
    wins such a pair with probability 1/2, so the p-value is twice the tail of Binomial(n, 1/2), at most 1.
    """
    if len(first) != len(second):
        raise ValueError(f"paired outcomes must be equally many, found {len(first)} and {len(second)}")
    only_first = sum(a and not b for a, b in zip(first, second))
    only_second = sum(b and not a for a, b in zip(first, second))
    differing = only_first + only_second
    tail = sum(comb(differing, wins) for wins in range(min(only_first, only_second) + 1))
    return PairedComparison(only_first=only_first, only_second=only_second, p_value=min(1.0, 2 * tail / 2**differing))


def compare_unpaired(first: SuccessRate, second: SuccessRate) -> float:
    """Barnard's exact test, two-sided: the p-value of two rates whose trials are not paired.

    Barnard 1945, "A new test for 2 x 2 tables", Nature 156; the pooled Wald statistic, maximised over the common rate
    (scipy.stats.barnard_exact).
    """
    from scipy.stats import barnard_exact

    if (first.successes, second.successes) in ((0, 0), (first.trials, second.trials)):
        return 1.0  # the statistic is 0 / 0 there: nothing tells the two apart
    rows = [[first.successes, second.successes], [first.trials - first.successes, second.trials - second.successes]]
    return min(1.0, float(barnard_exact(rows).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several comparisons looked at together, in the same order: at most one false alarm in twenty families.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted
