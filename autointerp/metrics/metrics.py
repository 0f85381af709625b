"""The field's metrics of how well predictions match the truth: numbers from arrays, nothing else.

Every metric is a function `(truth, prediction, weights=None)`. `truth` and `prediction` have shape
[n]; `weights` [..., n] are importance weights (an integer weight is so many equal rows), and the
result has shape [...]: without weights, or with one weight a row, it is a single number, and with
[draws, n] it is one number a draw, which is how `intervals.bootstrap` asks.

A metric is NaN where it is not defined, never 0: each docstring says when. All of them are NaN
where the weights sum to 0. What could not be read must be left out before: bool arrays are asked
for where a class is meant, and a value that is not finite is an error.
"""

from operator import attrgetter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autointerp.metrics.confusion import Array, checked_rows, confusion, ratio, total


class Metric(Protocol):
    """truth, prediction [n] and weights [..., n] → [...]; see the module."""

    def __call__(
        self, truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None
    ) -> Array: ...


# A variance below this share of the mean square is rounding: float32 resolves no more.
_FLAT = 1e-14


def pearson(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None) -> Array:
    """Pearson correlation; missing where truth or prediction is constant.

    Over the tokens of all windows at once it is the score of Bills et al. 2023.
    """
    truth, prediction, weights = checked_rows(truth, prediction, weights)
    return _correlation(truth, prediction, weights)


def pearson_among_active(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None
) -> Array:
    """Pearson correlation among the rows where the feature fires (truth > 0).

    Most of a simulation's correlation is telling silent tokens from active ones; this is the rest:
    whether stronger is predicted as stronger. Missing where either is constant there.
    """
    truth, prediction, weights = checked_rows(truth, prediction, weights)
    active = truth > 0
    return _correlation(truth[active], prediction[active], weights[..., active])


def spearman(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None) -> Array:
    """Spearman rank correlation; missing where truth or prediction is constant.

    Equal values share the middle of their ranks, so that on binary data it equals Pearson; ties
    broken at random would make it lower by chance.
    """
    truth, prediction, weights = checked_rows(truth, prediction, weights)
    a, b = middle_ranks(truth, weights), middle_ranks(prediction, weights)
    spreads = (weights * a**2).sum(-1), (weights * b**2).sum(-1)
    flat = np.minimum(*spreads) <= _FLAT * weights.sum(-1) ** 3
    norms = np.sqrt(spreads[0]) * np.sqrt(spreads[1])
    return ratio((weights * a * b).sum(-1), np.where(flat, 0, norms))


def cosine(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None) -> Array:
    """Cosine similarity (not centered); missing where truth or prediction is 0 everywhere."""
    truth, prediction, weights = checked_rows(truth, prediction, weights)
    truth, prediction = _scaled(truth), _scaled(prediction)
    norms = np.sqrt(total(weights, truth**2) * total(weights, prediction**2))
    return ratio(total(weights, truth * prediction), norms)


def average_precision(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None
) -> Array:
    """Mean over positives of the precision at their score (AP, the step-wise AUPRC).

    truth: bool [n], prediction: the higher the likelier [n]. Rows of equal score enter together.
    Missing without positives.
    """
    positive, negative = _by_score(truth, prediction, weights)
    # From the highest score down: what a threshold at each score would predict positive.
    hits = np.cumsum(positive[..., ::-1], axis=-1)
    alarms = np.cumsum(negative[..., ::-1], axis=-1)
    predicted = hits + alarms
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    return ratio((positive[..., ::-1] * precision).sum(-1), positive.sum(-1))


def auroc(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None) -> Array:
    """Chance that a positive has a higher score than a negative, a tie counting half (AUROC).

    truth: bool [n], prediction: the higher the likelier [n]. Missing without either class.
    """
    positive, negative = _by_score(truth, prediction, weights)
    below = np.cumsum(negative, axis=-1) - negative
    won = (positive * (below + negative / 2)).sum(-1)
    return ratio(won, positive.sum(-1) * negative.sum(-1))


def explained_variance(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None
) -> Array:
    """1 − Var(truth − prediction) / Var(truth): at most 1, below 0 where worse than a constant.

    Unlike correlation it asks for the scale of the truth, not for its zero. Missing where the truth
    is constant.
    """
    truth, prediction, weights = checked_rows(truth, prediction, weights)
    return 1 - ratio(_spread(truth - prediction, weights), _spread(truth, weights))


def uncentred_r_squared(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None
) -> Array:
    """1 − Σ(truth − prediction)² / Σtruth², the `rsquared_score` of Bills et al. 2023.

    Not about the mean: predicting 0 scores 0. Missing where the truth is 0 everywhere.
    """
    truth, prediction, weights = checked_rows(truth, prediction, weights)
    return 1 - ratio(total(weights, (truth - prediction) ** 2), total(weights, truth**2))


def absolute_deviation_explained(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None
) -> Array:
    """1 − Σ|truth − prediction| / Σ|truth|, the `absolute_dev_explained_score` of Bills et al.

    Predicting 0 scores 0. Missing where the truth is 0 everywhere.
    """
    truth, prediction, weights = checked_rows(truth, prediction, weights)
    return 1 - ratio(total(weights, np.abs(truth - prediction)), total(weights, np.abs(truth)))


def _of_confusion(name: str) -> Metric:
    def metric(
        truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None
    ) -> Array:
        return np.asarray(attrgetter(name)(confusion(truth, prediction, weights)))

    return metric


# Of bool truths and bool predictions.
BINARY: dict[str, Metric] = {
    name: _of_confusion(name)
    for name in (
        "accuracy",
        "balanced_accuracy",
        "precision",
        "recall",
        "specificity",
        "f1",
        "iou",
        "mcc",
    )
}
# Of bool truths and graded predictions.
RANKING: dict[str, Metric] = {"average_precision": average_precision, "auroc": auroc}
# Of activations and predicted activations; binary ones may be given too.
GRADED: dict[str, Metric] = {
    "pearson": pearson,
    "pearson_among_active": pearson_among_active,
    "spearman": spearman,
    "cosine": cosine,
    "explained_variance": explained_variance,
    "uncentred_r_squared": uncentred_r_squared,
    "absolute_deviation_explained": absolute_deviation_explained,
}


def _scaled(values: Array) -> Array:
    """Values with a largest magnitude of 1, so that squares neither overflow nor vanish."""
    largest = np.max(np.abs(values), initial=0)
    return values / largest if largest > 0 else values


def _centered(values: Array, weights: Array) -> Array:
    """Values [n] less their mean (the plain one where there are several weights)."""
    mean = ratio(total(weights, values), weights.sum()) if weights.ndim == 1 else values.mean()
    return values - np.nan_to_num(mean)


def _comoment(a: Array, b: Array, weights: Array) -> Array:
    """Weighted Σ(a − mean a)(b − mean b), [...]; a, b: [n], centered before: little cancels."""
    shift = ratio(total(weights, a) * total(weights, b), weights.sum(-1))
    return np.asarray(total(weights, a * b) - shift)


def _spread(values: Array, weights: Array) -> Array:
    """Weighted sum of squares of values [n] about their weighted mean, [...]; 0 where constant."""
    centered = _centered(values, weights)
    spread = _comoment(centered, centered, weights)
    flat = spread <= _FLAT * (total(weights, values**2 + centered**2))
    return np.where(flat, 0.0, spread)


def _correlation(a: Array, b: Array, weights: Array) -> Array:
    """Weighted Pearson correlation, [...]; a, b: [n]."""
    a, b = _scaled(a), _scaled(b)
    norms = np.sqrt(_spread(a, weights)) * np.sqrt(_spread(b, weights))
    return ratio(_comoment(_centered(a, weights), _centered(b, weights), weights), norms)


def _ties(values: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order that sorts values [n], and where each run of equal ones starts in it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(values)])


def _by_score(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None
) -> tuple[Array, Array]:
    """Weight of the positives and of the negatives at each score, lowest first, [..., scores]."""
    if np.asarray(truth).dtype != np.bool_:
        raise ValueError("truth must be bool")
    truth, prediction, weights = checked_rows(truth, prediction, weights)
    order, starts = _ties(prediction)
    weights, truth = weights[..., order], truth[order]
    positive = np.add.reduceat(weights * truth, starts, axis=-1)
    return positive, np.add.reduceat(weights * (1 - truth), starts, axis=-1)


def middle_ranks(values: Array, weights: Array) -> Array:
    """Middle ranks of values [n] about their mean, by weights [..., n]: [..., n].

    A rank is the weight below plus half the weight equal; their weighted mean is half of it all.
    """
    order, starts = _ties(values)
    tied = np.add.reduceat(weights[..., order], starts, axis=-1)
    middles = np.cumsum(tied, axis=-1) - tied / 2 - tied.sum(-1, keepdims=True) / 2
    group = np.empty(len(values), np.intp)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))
    return np.asarray(middles[..., group])
