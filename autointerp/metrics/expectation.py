"""What to expect of items that were not measured, from those that were: a value and an interval.

The value is that of a small additive model, monotone in one covariate. The interval is conformal:
quantiles of the residuals that the measured items have where they are left out, each divided by the
size that residuals have near it (jackknife over folds: Barber et al. 2021, "Predictive inference
with the jackknife+", section 1.2; divided residuals: Lei et al. 2018, section 5.2). So it holds
whatever the covariates are worth, as far as the measured items are a random sample of all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MIN_MEASURED = 40  # 2.5 % of fewer residuals are less than one
_TAIL = 0.025
_FOLDS = 10
_ROUNDS = 4  # of fitting one part to what the other leaves
_BIN = 8  # items whose mean is a point of the monotone curve
_CURVE_PENALTY = 0.5  # items' worth of the overall mean in each point
_PENALTY = 6.0  # of standardized coefficients, in items
_SCALE_PENALTY = 20.0
_SCALE_RANGE = (1 / 3, 3.0)  # of the mean size of residuals

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Expected:
    """A value and its 95 % interval for every item, within 0 and 1: float64 [items]."""

    value: Array
    ci_low: Array
    ci_high: Array


def expected(measured: Array, monotone: Array, others: Array) -> Expected | None:
    """What to expect of each item; of a measured one, as if it were not.

    measured: from 0 to 1, NaN where it was not measured: [items]. monotone: a covariate with which
    the value does not fall, NaN where it is not known: [items]. others: further ones, NaN where
    they are not known: [items, covariates]. None where fewer than MIN_MEASURED were measured.
    """
    known = np.flatnonzero(~np.isnan(measured))
    if len(known) < MIN_MEASURED:
        return None
    y, columns = measured[known], _standardized(others)
    c, x = monotone[known], columns[known]
    fold = np.random.default_rng(0).permutation(len(known)) % _FOLDS
    left_out = np.empty(len(known))
    for k in range(_FOLDS):
        out = fold == k
        left_out[out] = _fitted(c[~out], x[~out], y[~out])(c[out], x[out])
    residual = y - left_out
    scale = np.empty(len(known))
    for k in range(_FOLDS):
        out = fold == k
        scale[out] = _scale(left_out[~out], x[~out], residual[~out])(left_out[out], x[out])
    value = _fitted(c, x, y)(monotone, columns)
    size = _scale(left_out, x, residual)(value, columns)
    value[known], size[known] = left_out, scale
    low, high = _tails(residual / scale)
    ends = np.clip([value + size * low, value, value + size * high], 0.0, 1.0)
    return Expected(ends[1], ends[0], ends[2])


def _tails(residuals: Array) -> tuple[float, float]:
    """Their quantiles at either end, as conformal prediction counts them, 0 between them."""
    n = len(residuals)
    ordered = np.sort(residuals)
    place = int((n + 1) * _TAIL)
    return min(0.0, float(ordered[place - 1])), max(0.0, float(ordered[n - place]))


def _standardized(columns: Array) -> Array:
    """Mean 0 and variance 1, with a column more for each that has gaps: [items, columns]."""
    unknown = np.isnan(columns)
    held = [column[~gaps] for column, gaps in zip(columns.T, unknown.T, strict=True)]
    means = np.array([column.mean() if len(column) else 0.0 for column in held])
    filled = np.concatenate([np.where(unknown, means, columns), unknown], axis=1)
    spread = filled.std(axis=0)
    varied = spread > 0
    found: Array = (filled[:, varied] - filled[:, varied].mean(axis=0)) / spread[varied]
    return found


def _fitted(c: Array, x: Array, y: Array) -> Callable[[Array, Array], Array]:
    """y ≈ mean + a rising curve of c + a linear function of x, fitted to each other's rest."""
    mean = y.mean()
    rest, line = y - mean, np.zeros(x.shape[1])
    for _ in range(_ROUNDS):
        curve = _rising(c, rest - x @ line)
        line = _ridge(x, rest - curve(c), _PENALTY)
    return lambda of_c, of_x: mean + curve(of_c) + of_x @ line


def _rising(c: Array, y: Array) -> Callable[[Array], Array]:
    """Isotonic regression over the means of some items each; 0 where c is not known."""
    from scipy.optimize import isotonic_regression  # slow to import

    has = ~np.isnan(c)
    if len(np.unique(c[has])) < 2:
        return lambda of: np.zeros(len(of))
    edges = np.unique(np.quantile(c[has], np.linspace(0, 1, max(2, has.sum() // _BIN + 1))))
    place = np.searchsorted(edges[1:-1], c[has], side="right")
    _, place = np.unique(place, return_inverse=True)
    n = np.bincount(place)
    knots = np.bincount(place, c[has]) / n
    heights = np.bincount(place, y[has]) / (n + _CURVE_PENALTY)
    heights = isotonic_regression(heights, weights=n).x
    return lambda of: np.where(np.isnan(of), 0.0, np.interp(of, knots, heights))


def _ridge(x: Array, y: Array, penalty: float) -> Array:
    """Coefficients [columns]."""
    return np.asarray(np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y))


def _scale(value: Array, x: Array, residual: Array) -> Callable[[Array, Array], Array]:
    """The size that residuals have, by the predicted value and the covariates."""
    size = np.abs(residual)
    mean = max(float(size.mean()), 1e-9)

    def columns(value: Array, x: Array) -> Array:
        centered = np.clip(value, 0, 1) - 0.5
        return np.column_stack([4 * centered, 12 * centered**2 - 1, x])

    line = _ridge(columns(value, x), size - mean, _SCALE_PENALTY)
    low, high = _SCALE_RANGE
    return lambda of, of_x: np.clip(mean + columns(of, of_x) @ line, low * mean, high * mean)
