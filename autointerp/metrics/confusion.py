"""Confusion counts of binary predictions and their metrics; what all metrics ask of arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Weighted counts of binary predictions, each [...]; its metrics have the same shape.

    Counts may be shares as well: precision from rates and a density is `Confusion(recall * density,
    alarm_rate * (1 - density), …).precision`.
    """

    true_positives: Array
    false_positives: Array
    false_negatives: Array
    true_negatives: Array

    @property
    def positives(self) -> Array:
        return self.true_positives + self.false_negatives

    @property
    def negatives(self) -> Array:
        return self.true_negatives + self.false_positives

    @property
    def accuracy(self) -> Array:
        """Share of rows predicted right; missing without rows."""
        right = self.true_positives + self.true_negatives
        return ratio(right, self.positives + self.negatives)

    @property
    def recall(self) -> Array:
        """Share of positives found (true positive rate, sensitivity); missing without positives."""
        return ratio(self.true_positives, self.positives)

    @property
    def specificity(self) -> Array:
        """Share of negatives rejected (true negative rate); missing without negatives."""
        return ratio(self.true_negatives, self.negatives)

    @property
    def precision(self) -> Array:
        """Share of positive predictions that are right; missing where none is made."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def balanced_accuracy(self) -> Array:
        """Mean of recall and specificity; missing where either class has no row."""
        return (self.recall + self.specificity) / 2

    @property
    def f1(self) -> Array:
        """Harmonic mean of precision and recall (Dice).

        0 where there are positives and none is predicted; missing where there is neither a
        positive nor a positive prediction.
        """
        found = 2 * self.true_positives
        return ratio(found, found + self.false_positives + self.false_negatives)

    @property
    def iou(self) -> Array:
        """Intersection over union (Jaccard); missing where F1 is."""
        union = self.true_positives + self.false_positives + self.false_negatives
        return ratio(self.true_positives, union)

    @property
    def mcc(self) -> Array:
        """Matthews correlation (φ), the Pearson correlation of two binary vectors.

        Missing where truth or prediction is the same everywhere.
        """
        # Rates rather than counts: no overflow for large weights, and NaN by itself.
        negative_predictions = self.true_negatives + self.false_negatives
        npv = ratio(self.true_negatives, negative_predictions)
        agreement = self.precision * self.recall * self.specificity * npv
        disagreement = (1 - self.precision) * (1 - self.recall) * (1 - self.specificity) * (1 - npv)
        # Shares may come out beyond 0 by the last digit.
        return np.sqrt(np.maximum(agreement, 0)) - np.sqrt(np.maximum(disagreement, 0))


def confusion(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None
) -> Confusion:
    """Confusion counts, each [...]; truth, prediction: bool [n], weights: [..., n].

    Raises ValueError where one is not bool: NaN cast to bool would be a positive.
    """
    for name, values in (("truth", truth), ("prediction", prediction)):
        if np.asarray(values).dtype != np.bool_:
            raise ValueError(f"{name} must be bool")
    truth, prediction, w = checked_rows(truth, prediction, weights)
    return Confusion(
        total(w, truth * prediction),
        total(w, (1 - truth) * prediction),
        total(w, truth * (1 - prediction)),
        total(w, (1 - truth) * (1 - prediction)),
    )


def checked_rows(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None
) -> tuple[Array, Array, Array]:
    """Float64 truth [n], prediction [n] and weights [..., n]; ValueError where they do not fit."""
    truth, prediction = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    weights = np.ones(truth.shape) if weights is None else np.asarray(weights, np.float64)
    if truth.ndim != 1 or prediction.shape != truth.shape or weights.shape[-1:] != truth.shape:
        shapes = f"{truth.shape}, {prediction.shape} and {weights.shape}"
        raise ValueError(f"truth and prediction [n] and weights [..., n] have shapes {shapes}")
    if not (np.isfinite(truth).all() and np.isfinite(prediction).all()):
        raise ValueError("truth and prediction must be finite: leave out what could not be read")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and not negative")
    return truth, prediction, weights


def ratio(part: Array, whole: Array) -> Array:
    """part / whole, and NaN where whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    missing: Array = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    return np.divide(part, whole, out=missing, where=whole != 0)


def total(weights: Array, values: Array) -> Array:
    """Σ weights · values, [...]; weights: [..., n], values: [n].

    Not a matrix product: on a busy machine its threads wait for one another far longer than one
    needs for the whole of it.
    """
    return np.asarray(np.einsum("...i,i->...", weights, values))
