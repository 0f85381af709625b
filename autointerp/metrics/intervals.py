"""95 % intervals of any metric, by resampling windows."""

from collections.abc import Sequence

import numpy as np

from autointerp.metrics.estimates import MISSING, Estimate, expanded_tail
from autointerp.metrics.metrics import Metric

_DRAWS = 1000
_CELLS = 2**20  # weights held at a time, so that long windows do not fill the memory


def bootstrap(
    metric: Metric,
    truths: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    seed: int,
    weights: Sequence[np.ndarray] | None = None,
) -> Estimate:
    """A metric over the rows of all windows, with a bootstrap interval over windows.

    truths, predictions and importance weights: one array [length] a window. Windows are drawn, not
    rows, since the tokens of one window are not independent. The interval is the expanded
    percentile interval of `expanded_tail`. `n` is the number of windows.

    Missing where the metric is. The interval alone is missing for one window, and where more than
    one draw in twenty leaves the metric undefined: what the rest say is then no 95 % interval.
    """
    windows = len(truths)
    if windows == 0:
        return MISSING
    lengths = [len(truth) for truth in truths]
    truth, prediction = np.concatenate(list(truths)), np.concatenate(list(predictions))
    weight = np.ones(len(truth)) if weights is None else np.concatenate(list(weights))
    value = float(metric(truth, prediction, weight))
    if np.isnan(value):
        return MISSING
    if windows == 1:
        return Estimate(value, np.nan, np.nan, windows)

    rng = np.random.default_rng(seed)
    counts = rng.multinomial(windows, np.full(windows, 1 / windows), size=_DRAWS).astype(np.float64)
    window = np.repeat(np.arange(windows), lengths)
    step = max(1, _CELLS // len(truth))
    draws = np.concatenate(
        [
            metric(truth, prediction, counts[start : start + step, window] * weight)
            for start in range(0, _DRAWS, step)
        ]
    )
    return interval(value, draws, windows)


def interval(value: float, draws: np.ndarray, windows: int, tail: float | None = None) -> Estimate:
    """A value with its interval from draws of windows [draws], as `bootstrap` has it.

    tail: the share of draws to leave out at either end; that of so many windows where None.
    """
    if np.isnan(value):
        return MISSING
    defined = draws[~np.isnan(draws)]
    if windows < 2 or len(defined) < 0.95 * len(draws):
        return Estimate(value, np.nan, np.nan, windows)
    tail = expanded_tail(windows) if tail is None else tail
    low, high = np.quantile(defined, (tail, 1 - tail)).tolist()
    return Estimate(value, min(low, value), max(high, value), windows)
