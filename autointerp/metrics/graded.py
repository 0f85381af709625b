"""Scores of predicted activations, all from one bootstrap over windows.

The same numbers as `intervals.bootstrap` gives for the metrics of `metrics`, from sums over each
window's tokens instead of over all tokens for each draw, which takes a hundredth of the time.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from autointerp.metrics.estimates import MISSING, Estimate
from autointerp.metrics.intervals import interval
from autointerp.metrics.metrics import middle_ranks

_DRAWS = 1000
_FLAT = 1e-9  # a spread below this share of the mean square is rounding


def graded(
    truths: Sequence[np.ndarray], predictions: Sequence[np.ndarray], seed: int
) -> dict[str, Estimate]:
    """Metric name → estimate over all tokens of all windows (Bills et al. 2023).

    truths, predictions: one array [length] a window, activations on one scale; nothing is NaN.

    - correlation: Pearson's. Predicting the same value everywhere says nothing of where the feature
      fires and scores 0.
    - correlation_among_active: Pearson's among the tokens on which the feature fires: whether
      stronger is predicted as stronger.
    - spearman: of ranks, which are those among all tokens; they are not ranked anew in each draw.
    - explained_variance: 1 − Var(truth − prediction) / Var(truth).

    Intervals are of a bootstrap over windows, since tokens of one window are not independent; from
    one window there is none. Missing where the truth is constant.
    """
    names = ("correlation", "correlation_among_active", "spearman", "explained_variance")
    if not truths:
        return dict.fromkeys(names, MISSING)
    truth = np.concatenate(list(truths)).astype(np.float64)
    prediction = np.concatenate(list(predictions)).astype(np.float64)
    begins = np.cumsum([0, *(len(t) for t in truths[:-1])])
    active = (truth > 0).astype(np.float64)
    every = np.ones_like(truth)
    parts = {
        "correlation": (every, truth, prediction),
        "correlation_among_active": (active, truth, prediction),
        "spearman": (every, middle_ranks(truth, every), middle_ranks(prediction, every)),
    }
    weights = _draws(len(truths), seed)
    found = {}
    for name, (weight, t, p) in parts.items():
        rows = np.stack([every, t, p, t * t, p * p, t * p]) * weight
        moments = weights @ np.add.reduceat(rows, begins, axis=1).T
        values = _correlations(moments)
        if name == "correlation":
            found["explained_variance"] = interval(*_split(_explained(moments)), len(truths))
            # Only a constant truth leaves it open.
            values[1:] = np.nan_to_num(values[1:])
            values[0] = np.nan_to_num(values[0]) if _varies(moments[:, [0, 1, 3]])[0] else np.nan
        found[name] = interval(*_split(values), len(truths))
    return {name: found[name] for name in names}


@lru_cache(maxsize=64)
def _draws(windows: int, seed: int) -> np.ndarray:
    """How often each window is in each draw, [1 + draws, windows]: first all of them once.

    They are the same for all features with so many windows.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(windows, np.full(windows, 1 / windows), size=_DRAWS)
    return np.concatenate([np.ones((1, windows)), drawn])


def _split(values: np.ndarray) -> tuple[float, np.ndarray]:
    return float(values[0]), values[1:]


def _varies(moments: np.ndarray) -> np.ndarray:
    """Whether a side varies, from its count, sum and sum of squares [draws, 3]."""
    n, x, xx = moments.T
    varies: np.ndarray = n * xx - x * x > _FLAT * n * xx
    return varies


def _correlations(moments: np.ndarray) -> np.ndarray:
    """Pearson correlations from moments [draws, 6]; NaN where a side does not vary."""
    n, t, p, tt, pp, tp = moments.T
    varies = _varies(moments[:, [0, 1, 3]]) & _varies(moments[:, [0, 2, 4]])
    scale = np.sqrt(np.where(varies, (n * tt - t * t) * (n * pp - p * p), 1.0))
    return np.where(varies, (n * tp - t * p) / scale, np.nan)


def _explained(moments: np.ndarray) -> np.ndarray:
    """Explained variance from moments [draws, 6]; NaN where the truth does not vary."""
    n, t, p, tt, pp, tp = moments.T
    varies = _varies(moments[:, [0, 1, 3]])
    left = n * (tt - 2 * tp + pp) - (t - p) ** 2
    return np.where(varies, 1 - left / np.where(varies, n * tt - t * t, 1.0), np.nan)
