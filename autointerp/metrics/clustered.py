"""The mean of paired differences that are not independent: clusters of several kinds at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import stdtr, stdtrit

MIN_FEATURES = 20  # for an interval of a mean: below, skewed differences spoil it
MIN_CLUSTERS = 5  # effective ones; below, hardly anything could be told from noise


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """A mean over `n` features, with its 95 % interval and the p value of its being 0.

    `clusters` is the effective number of independent clusters. The interval is NaN and `p` None for
    fewer than `MIN_FEATURES` features or `MIN_CLUSTERS` clusters; `p` also where all differences
    are 0.
    """

    value: float
    ci_low: float
    ci_high: float
    p: float | None
    n: int
    clusters: float


def clustered_mean(differences: np.ndarray, groups: Sequence[np.ndarray] = ()) -> ClusteredMean:
    """The mean of differences, float [features], which are finite.

    groups: of each relation the group that a feature is in, int [features]. Two features that are
    in one group of any relation may have anything in common; all others are independent. What is
    linked over a third feature alone is independent, so that groups that overlap do not run
    together into one.

    The variance is the sum of all products of residuals of linked features (Cameron, Gelbach and
    Miller 2011, Journal of Business & Economic Statistics 29, 238), and at least that of any one
    relation. Interval and p value are Student's, with a degree of freedom less than the fewest
    clusters that a relation has, where clusters of unlike sizes count for fewer: n² / Σ size² (as
    Kish's design effect; Carter, Schnepel and Steigerwald 2017). Without groups it is the t test.
    """
    n = len(differences)
    if n == 0:
        return ClusteredMean(np.nan, np.nan, np.nan, None, 0, 0.0)
    value = float(differences.mean())
    relations = _distinct(groups, n)
    clusters = min(n**2 / float((np.bincount(g) ** 2).sum()) for g in relations)
    if n < MIN_FEATURES or clusters < MIN_CLUSTERS:
        return ClusteredMean(value, np.nan, np.nan, None, n, clusters)
    variance = _sum_of_linked(differences - value, relations) * clusters / (clusters - 1)
    error = float(np.sqrt(variance)) / n
    half = float(stdtrit(clusters - 1, 0.975)) * error
    return ClusteredMean(
        value, value - half, value + half, _two_sided(value, error, clusters - 1), n, clusters
    )


def _two_sided(value: float, error: float, freedom: float) -> float | None:
    if error == 0:
        return None if value == 0 else 0.0
    return 2 * float(stdtr(freedom, -abs(value / error)))


def _distinct(groups: Sequence[np.ndarray], n: int) -> list[np.ndarray]:
    """Relations numbered from 0, without repetitions and those that link nothing; int [n] each."""
    found: dict[bytes, np.ndarray] = {}
    for group in groups:
        _, first, number = np.unique(group, return_index=True, return_inverse=True)
        if len(first) < n:
            # Two relations are the same where they begin their groups at the same features.
            named = first[number]
            found.setdefault(named.tobytes(), number)
    return list(found.values()) or [np.arange(n)]


def _sum_of_linked(residuals: np.ndarray, relations: Sequence[np.ndarray]) -> float:
    """Σ residual · residual over all pairs of linked features, by inclusion and exclusion."""
    total, alone = 0.0, []
    for size in range(1, len(relations) + 1):
        for chosen in combinations(relations, size):
            squares = _sum_of_squares(residuals, chosen)
            total += (-1) ** (size + 1) * squares
            if size == 1:
                alone.append(squares)
    return max(total, *alone)


def _sum_of_squares(residuals: np.ndarray, relations: Sequence[np.ndarray]) -> float:
    """Σ over groups of features alike in all relations of (Σ residual)²."""
    code = relations[0]
    for other in relations[1:]:
        _, code = np.unique(code * (int(other.max()) + 1) + other, return_inverse=True)
    sums = np.bincount(code, residuals)
    return float((sums**2).sum())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values adjusted for all of them being looked at (Holm 1979); None stays None.

    The chance that any true null hypothesis has an adjusted one of at most .05 is at most .05,
    however they depend on each other.
    """
    known = [place for place, p in enumerate(p_values) if p is not None]
    given = np.array([p_values[place] for place in known], dtype=np.float64)
    order = given.argsort(kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(len(known), 0, -1)).clip(max=1.0)
    found: list[float | None] = [None] * len(p_values)
    for place, p in zip(order, stepped, strict=True):
        found[known[place]] = float(p)
    return found
