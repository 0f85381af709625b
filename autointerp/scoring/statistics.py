"""Scores with intervals: numbers from truths and predictions, nothing else."""

from dataclasses import dataclass

import numpy as np

_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; NaN where it cannot be computed. `n` is what it rests on."""

    value: float
    ci_low: float
    ci_high: float
    n: int


MISSING = Estimate(float("nan"), float("nan"), float("nan"), 0)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927); the whole range for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def balanced_accuracy(truth: np.ndarray, prediction: np.ndarray) -> Estimate:
    """Mean of the true positive and true negative rates; truth, prediction: bool [windows].

    The interval combines the two rates' Wilson intervals (MOVER: Zou and Donner 2008, section 2).
    Missing where either class has no window.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return MISSING
    hits = int((truth & prediction).sum())
    rejections = int((~truth & ~prediction).sum())
    rates = hits / positives, rejections / negatives
    low_1, high_1 = wilson(hits, positives)
    low_2, high_2 = wilson(rejections, negatives)
    value = (rates[0] + rates[1]) / 2
    below = np.hypot(rates[0] - low_1, rates[1] - low_2) / 2
    above = np.hypot(high_1 - rates[0], high_2 - rates[1]) / 2
    return Estimate(value, float(value - below), float(value + above), len(truth))


def population(
    truth: np.ndarray, prediction: np.ndarray, window_density: float, seed: int
) -> dict[str, Estimate]:
    """Precision, recall and F1 over the corpus's windows; truth, prediction: bool [windows].

    The judged windows are half activating, the corpus is not: rates within each class are weighted
    by the share of windows in which the feature fires. Values are medians and intervals quantiles
    over draws of the two rates from their Jeffreys posteriors, because no false positive among a
    few dozen silent windows does not mean none in the corpus.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    names = ("population_precision", "population_recall", "population_f1")
    if positives == 0 or negatives == 0 or not 0 < window_density < 1:
        return dict.fromkeys(names, MISSING)
    rng = np.random.default_rng(seed)
    hits = int((truth & prediction).sum())
    alarms = int((~truth & prediction).sum())
    recall = rng.beta(hits + 0.5, positives - hits + 0.5, _DRAWS)
    alarm_rate = rng.beta(alarms + 0.5, negatives - alarms + 0.5, _DRAWS)
    found = recall * window_density
    precision = found / (found + alarm_rate * (1 - window_density))
    f1 = 2 * precision * recall / (precision + recall)
    estimates = {}
    for name, draws in zip(names, (precision, recall, f1), strict=True):
        median, low, high = np.quantile(draws, (0.5, 0.025, 0.975)).tolist()
        estimates[name] = Estimate(median, low, high, len(truth))
    return estimates


def _moments(truth: np.ndarray, prediction: np.ndarray) -> list[float]:
    t, p = truth.astype(np.float64), prediction.astype(np.float64)
    return [len(t), t.sum(), p.sum(), (t * t).sum(), (p * p).sum(), (t * p).sum()]


def _correlations(moments: np.ndarray) -> np.ndarray:
    """Pearson correlations from moments [draws, 6]; NaN where a side does not vary."""
    n, t, p, tt, pp, tp = moments.T
    spread_t, spread_p = n * tt - t * t, n * pp - p * p
    varies = (spread_t > 1e-9 * n * tt) & (spread_p > 1e-9 * n * pp)
    scale = np.sqrt(np.where(varies, spread_t * spread_p, 1.0))
    return np.where(varies, (n * tp - t * p) / scale, np.nan)


def correlation(truths: list[np.ndarray], predictions: list[np.ndarray], seed: int) -> Estimate:
    """Pearson correlation over all tokens of all windows (Bills et al. 2023).

    truths, predictions: one array [length] a window. Predicting the same value everywhere says
    nothing of where the feature fires and scores 0. The interval is a percentile bootstrap over
    windows, since tokens of one window are not independent. Missing where the truth is constant.
    """
    if not truths:
        return MISSING
    moments = np.array([_moments(t, p) for t, p in zip(truths, predictions, strict=True)])
    total = moments.sum(0, keepdims=True)
    n, t, tt = total[0, 0], total[0, 1], total[0, 3]
    if n * tt - t * t <= 1e-9 * n * tt:
        return MISSING
    value = float(np.nan_to_num(_correlations(total), nan=0.0)[0])
    rng = np.random.default_rng(seed)
    windows = len(truths)
    weights = rng.multinomial(windows, np.full(windows, 1 / windows), size=_DRAWS)
    draws = np.nan_to_num(_correlations(weights @ moments), nan=0.0)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Estimate(value, min(float(low), value), max(float(high), value), windows)
