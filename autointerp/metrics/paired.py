"""Two runs' scores of the same features, compared: numbers from differences, nothing else."""

from dataclasses import dataclass

import numpy as np

MIN_FEATURES = 20  # features, for an interval: below, it would hold the truth too seldom
_DRAWS = 2000
_BUNCHES = 4096


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """A mean over `n` features; the 95 % interval is NaN for fewer than `MIN_FEATURES` of them."""

    value: float
    ci_low: float
    ci_high: float
    n: int


def mean_difference(differences: np.ndarray, seed: int = 0) -> MeanDifference:
    """The mean of paired differences, float [features], which are finite.

    The interval is a percentile bootstrap over features: they are what another sample would have
    others of, and pairing takes out that some are harder than others. It is widened by the little
    that percentiles are too narrow for few features (Hesterberg 2015, the expanded percentile
    interval). Of very many features, bunches drawn at random stand for single ones, which changes
    nothing but the time.
    """
    n = len(differences)
    if n == 0:
        return MeanDifference(np.nan, np.nan, np.nan, 0)
    value = float(differences.mean())
    if n < MIN_FEATURES:
        return MeanDifference(value, np.nan, np.nan, n)
    return widened(value, resampled_means(differences, np.random.default_rng(seed)), n)


def resampled_means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of values [n], which are drawn again and again with replacement: float [draws]."""
    n = len(values)
    bunches = min(n, _BUNCHES)
    begins = np.arange(bunches) * n // bunches
    sums = np.add.reduceat(rng.permutation(values.astype(np.float64)), begins)
    sizes = np.diff(begins, append=n)
    drawn = rng.integers(0, bunches, (_DRAWS, bunches), dtype=np.int32)
    means: np.ndarray = sums[drawn].sum(1) / sizes[drawn].sum(1)
    return means


def widened(value: float, draws: np.ndarray, n: int) -> MeanDifference:
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


def sign_test(differences: np.ndarray) -> float | None:
    """Two-sided p value that higher and lower are as likely; differences: float [features].

    Exact, from the binomial distribution (Arbuthnott 1710; equal values are left out, Dixon and
    Mood 1946), and so right for any number of features and any distribution. None where all are
    equal.
    """
    higher, lower = int((differences > 0).sum()), int((differences < 0).sum())
    n = higher + lower
    if n == 0:
        return None
    log_factorial = np.concatenate([[0.0], np.log(np.arange(1, n + 1)).cumsum()])
    k = np.arange(min(higher, lower) + 1)
    log_chances = log_factorial[n] - log_factorial[k] - log_factorial[n - k] - n * np.log(2)
    return min(1.0, 2 * float(np.exp(log_chances).sum()))
