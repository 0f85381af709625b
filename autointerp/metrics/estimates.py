"""Scores with intervals: numbers from truths and predictions, nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
_TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; NaN where it cannot be computed. `n` is what it rests on."""

    value: float
    ci_low: float
    ci_high: float
    n: int


MISSING = Estimate(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True, slots=True)
class Counts:
    """Answers to yes-or-no questions by stratum: how many said yes, of how many.

    `density` is the share of the corpus's windows in which the feature fires; `shares` that of each
    silent stratum among the windows in which it does not. All others are strata in which it fires.
    """

    density: float
    shares: Mapping[str, float]
    yes: dict[str, int] = field(default_factory=dict)
    n: dict[str, int] = field(default_factory=dict)
    weighted: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # Σw, Σw², Σw of hits

    def add(self, stratum: str, said_yes: bool, firings: int = 1) -> None:
        """One more answer; `firings`: how many there are in the window, where there are any.

        Windows are drawn by their firings, so that one with many is as many times as likely: it
        weighs so much less.
        """
        self.yes[stratum] = self.yes.get(stratum, 0) + said_yes
        self.n[stratum] = self.n.get(stratum, 0) + 1
        if stratum not in self.shares:
            weight = 1 / firings
            for i, value in enumerate((weight, weight**2, weight * said_yes)):
                self.weighted[i] += value

    def firing(self) -> tuple[int, int]:
        """Hits, of how many."""
        names = [s for s in self.n if s not in self.shares]
        return sum(self.yes[s] for s in names), sum(self.n[s] for s in names)

    def weighed_firing(self) -> tuple[float, float]:
        """Hits, of how many, of windows drawn uniformly from all in which the feature fires.

        Equal weights would say as much as so many windows (effective sample size: Kish 1965).
        """
        total, squares, hits = self.weighted
        if total == 0:
            return self.firing()
        n = total**2 / squares
        return min(n * hits / total, n), n

    def firing_windows(self) -> tuple[float, float]:
        """As `weighed_firing`, in quarters, so that few such pairs differ."""
        hits, n = self.weighed_firing()
        quarters = round(4 * n) / 4
        return (round(4 * quarters * hits / n) / 4 if n else 0.0), quarters

    def silent(self) -> dict[str, tuple[int, int]]:
        """Stratum → false alarms, of how many; those of which something was judged."""
        return {s: (self.yes[s], self.n[s]) for s in self.shares if self.n.get(s)}


def wilson(successes: float, n: int, comparisons: int = 1) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927); the whole range for n = 0.

    With several `comparisons` the intervals of that many proportions hold all at once, in 95 % of
    cases at least (Bonferroni), so that one may be picked for its value.
    """
    if n == 0:
        return 0.0, 1.0
    z = _Z if comparisons == 1 else float(-ndtri(_TAIL / comparisons))
    p = successes / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return max(0.0, float(center - half)), min(1.0, float(center + half))


def jeffreys(successes: float, n: float) -> tuple[float, float]:
    """95 % Jeffreys interval of a proportion: posterior quantiles under Beta(½, ½).

    It reaches 0 where nothing succeeded and 1 where nothing failed, and is the whole range for
    n = 0 (Brown, Cai and DasGupta 2001, section 4.1.2). Raises ValueError unless
    0 ≤ successes ≤ n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    a, b = successes + 0.5, n - successes + 0.5
    low = 0.0 if successes == 0 else float(betaincinv(a, b, _TAIL))
    high = 1.0 if successes == n else float(betaincinv(a, b, 1 - _TAIL))
    return low, high


def mean_interval(values: np.ndarray) -> Estimate:
    """The mean of values [n], with Student's interval; that is missing for fewer than two."""
    n = len(values)
    if n == 0:
        return MISSING
    mean = float(values.mean())
    if n == 1:
        return Estimate(mean, float("nan"), float("nan"), 1)
    half = float(stdtrit(n - 1, 1 - _TAIL) * values.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def rates_of(counts: Counts, only: str | None = None) -> list[tuple[float, float, float]]:
    """Weight, right answers and of how many, of each rate that balanced accuracy is the sum of.

    The true positive rate is that of windows drawn from all in which the feature fires
    (`Counts.weighed_firing`), the true negative rate of all in which it is silent: the strata's
    rates weighted by their shares, or that of the stratum `only`. Empty where nothing was judged
    on one side.
    """
    hits, positives = counts.weighed_firing()
    silent = counts.silent()
    if only is not None:
        silent = {only: silent[only]} if only in silent else {}
    if positives == 0 or not silent:
        return []
    total = sum(counts.shares[s] for s in silent)
    rates = [(counts.shares[s] / total / 2, n - k, n) for s, (k, n) in silent.items()]
    return [(0.5, hits, positives), *rates]


def judged_windows(counts: Counts, only: str | None = None) -> int:
    """How many windows balanced accuracy rests on."""
    silent = counts.silent()
    sides = silent.values() if only is None else [silent[only]]
    return counts.firing()[1] + sum(n for _, n in sides)


def balanced_accuracy(counts: Counts, only: str | None = None) -> Estimate:
    """Mean of the true positive and true negative rates, over windows drawn from all.

    The interval combines the Jeffreys intervals of all rates (MOVER: Zou and Donner 2008,
    section 2). Missing where nothing was judged on one side; `only`: see `rates_of`.
    """
    rates = rates_of(counts, only)
    if not rates:
        return MISSING
    value = below = above = 0.0
    for weight, k, n in rates:
        low, high = jeffreys(k, n)
        value += weight * k / n
        below += (weight * (k / n - low)) ** 2
        above += (weight * (high - k / n)) ** 2
    low, high = value - float(np.sqrt(below)), value + float(np.sqrt(above))
    return Estimate(value, low, high, judged_windows(counts, only))


def expanded_tail(windows: int) -> float:
    """The share of bootstrap draws to leave out at either end, of 2 windows or more.

    Less than 2.5 %, because few windows vary less among themselves than the corpus does (the
    expanded percentile interval: Hesterberg 2015, section 5.3).
    """
    return float(ndtr(np.sqrt(windows / (windows - 1)) * stdtrit(windows - 1, _TAIL)))
