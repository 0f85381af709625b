"""Intervals that hold whenever one looks, so that asking may stop when one is narrow enough.

A mixture over beta-binomials is a martingale in the answers to come (Robbins 1970; Howard et al.
2021), and so is the product over strata that are sampled independently. All rates under which the
product stays below 1 / .05 form a region that covers the true rates at every moment at once with
95 %; the interval is what the balanced accuracy takes in it.
"""

import math

import numpy as np

from autointerp.metrics.estimates import MISSING, Counts, Estimate, judged_windows, rates_of

_PRIOR = 0.5
_LOG_LIMIT = math.log(20)
_STEPS = 60


def anytime_balanced_accuracy(counts: Counts) -> Estimate:
    """As `balanced_accuracy`, with an interval that is valid under peeking."""
    parts = rates_of(counts)
    if not parts:
        return MISSING
    weight, right, n = np.array(parts, dtype=float).T
    value = float(weight @ (right / n))
    low = _least(weight, right, n)
    high = 1 - _least(weight, n - right, n)
    return Estimate(
        value, max(0.0, min(low, value)), min(1.0, max(high, value)), judged_windows(counts)
    )


def _least(weight: np.ndarray, k: np.ndarray, n: np.ndarray) -> float:
    """The smallest weighted sum of rates in the region, for `k` of `n` in each stratum.

    For a multiplier of the constraint each rate is the root of a quadratic; the multiplier is found
    by bisection, since the martingale falls in it.
    """
    below, above = -30.0, 30.0
    for _ in range(_STEPS):
        middle = (below + above) / 2
        rates = _rates(weight, k, n, math.exp(middle))
        if _log_martingale(rates, k, n) > _LOG_LIMIT:
            below = middle
        else:
            above = middle
    return float(weight @ _rates(weight, k, n, math.exp(above)))


def _rates(weight: np.ndarray, k: np.ndarray, n: np.ndarray, multiplier: float) -> np.ndarray:
    middle = weight + multiplier * n
    root = np.sqrt(np.maximum(middle**2 - 4 * weight * multiplier * k, 0.0))
    # The smaller root, written so that nothing cancels.
    rates: np.ndarray = 2 * multiplier * k / (middle + root)
    return rates


def _log_martingale(rates: np.ndarray, k: np.ndarray, n: np.ndarray) -> float:
    total = 0.0
    for p, yes, count in zip(rates, k, n, strict=True):
        total += _log_beta(_PRIOR + yes, _PRIOR + count - yes) - _log_beta(_PRIOR, _PRIOR)
        total -= yes * math.log(p) if yes else 0.0
        total -= (count - yes) * math.log1p(-p) if count > yes else 0.0
    return total


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
