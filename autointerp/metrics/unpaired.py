"""Scores of a run against those of a control, whose features have nothing in common with them."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from autointerp.metrics.clustered import MIN_FEATURES
from autointerp.metrics.metrics import auroc

_Z = 1.959963984540054
_HALVINGS = 60
_DRAWS = 2000
_BUNCHES = 4096


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """A mean over `n` features; the 95 % interval is NaN for fewer than `MIN_FEATURES` of them."""

    value: float
    ci_low: float
    ci_high: float
    n: int


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Scores of real features against a control's; pairs are real, control.

    `difference` is of the means, real − control, and its `n` the fewer of both. `bound` is the
    control's 95 % quantile, `above` the share of real features whose score is over it. `auroc` is
    the chance that a real feature scores higher than one of the control (equal scores count half).
    Everything but `n` is NaN where either has no score, intervals where either has fewer than
    `MIN_FEATURES`.
    """

    n: tuple[int, int]
    medians: tuple[float, float]
    difference: MeanDifference
    bound: float
    above: float
    auroc: float
    auroc_ci: tuple[float, float]


def compare_unpaired(real: np.ndarray, control: np.ndarray, seed: int = 0) -> Unpaired:
    """Compare scores, float [features] and float [features of the control], which are finite.

    The interval of the difference is a percentile bootstrap over the features of each, drawn apart.
    It is widened by the little that percentiles are too narrow for few features (Hesterberg 2015,
    the expanded percentile interval).
    """
    n = len(real), len(control)
    if min(n) == 0:
        nan = float("nan")
        missing = MeanDifference(nan, nan, nan, 0)
        return Unpaired(n, (nan, nan), missing, nan, nan, nan, (nan, nan))
    bound = float(np.quantile(control, 0.95))
    truth = np.repeat([True, False], n)
    chance = float(auroc(truth, np.concatenate([real, control]).astype(np.float64)))
    return Unpaired(
        n=n,
        medians=(float(np.median(real)), float(np.median(control))),
        difference=_difference(real, control, seed),
        bound=bound,
        above=float((real > bound).mean()),
        auroc=chance,
        auroc_ci=auroc_interval(chance, *n) if min(n) >= MIN_FEATURES else (np.nan, np.nan),
    )


def _difference(real: np.ndarray, control: np.ndarray, seed: int) -> MeanDifference:
    value, n = float(real.mean() - control.mean()), min(len(real), len(control))
    if n < MIN_FEATURES:
        return MeanDifference(value, np.nan, np.nan, n)
    rng = np.random.default_rng(seed)
    return _widened(value, _resampled_means(real, rng) - _resampled_means(control, rng), n)


def _resampled_means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of values [n], which are drawn again and again with replacement: float [draws].

    Of very many features, bunches drawn at random stand for single ones, which changes nothing but
    the time.
    """
    n = len(values)
    bunches = min(n, _BUNCHES)
    begins = np.arange(bunches) * n // bunches
    sums = np.add.reduceat(rng.permutation(values.astype(np.float64)), begins)
    sizes = np.diff(begins, append=n)
    drawn = rng.integers(0, bunches, (_DRAWS, bunches), dtype=np.int32)
    means: np.ndarray = sums[drawn].sum(1) / sizes[drawn].sum(1)
    return means


def _widened(value: float, draws: np.ndarray, n: int) -> MeanDifference:
    """The value with the expanded percentile interval of what resampling n features gives."""
    low, high = np.quantile(draws, (0.025, 0.975))
    wider = _expansion(n)
    return MeanDifference(
        value, value - wider * (value - float(low)), value + wider * (float(high) - value), n
    )


def _expansion(n: int) -> float:
    """By how much percentiles of `n` resampled values are too narrow: above 1, falling to it."""
    z, nu = 1.959963984540054, n - 1
    # Student's quantile by its expansion in 1 / ν (Fisher and Cornish 1960).
    t = z + (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
    return float(t / z * np.sqrt(n / nu))


def auroc_interval(value: float, n: int, m: int) -> tuple[float, float]:
    """95 % interval of an AUROC between n and m values: those that do not lie too far from it.

    Method 5 of Newcombe 2006 (Statistics in Medicine 25, 559): Hanley and McNeil's variance at the
    bound itself, with n and m in it both at their mean. Unlike the bootstrap's it does not shrink
    to a point where the two do not overlap.
    """

    def reaches(chance: float) -> bool:
        more = (n + m) / 2 - 1
        spread = 1 + more * ((1 - chance) / (2 - chance) + chance / (1 + chance))
        return abs(value - chance) <= _Z * sqrt(chance * (1 - chance) * spread / (n * m))

    ends = []
    for outside in (0.0, 1.0):
        inside, end = value, outside
        for _ in range(_HALVINGS):
            middle = (inside + end) / 2
            inside, end = (middle, end) if reaches(middle) else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]
