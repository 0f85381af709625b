"""Other tools' metrics of yes-or-no answers, each window counting the same.

Where theirs puts 0 for what is not defined, as for a feature without a silent window, it is missing
here (docs/protocols.md).
"""

import numpy as np

from autointerp.metrics.estimates import (
    MISSING,
    Counts,
    Estimate,
    balanced_accuracy,
    jeffreys,
    wilson,
)
from autointerp.scoring.scorer import Judged

BALANCED_ACCURACY, ACCURACY = "balanced_accuracy", "accuracy"
_NO = "no"


def answers(judged: Judged) -> tuple[np.ndarray, np.ndarray]:
    """Truths and predictions that could be read: bool [n] each."""
    read = [
        (j.item.truth[0] > 0, j.prediction[0] > 0)
        for j in judged.judgments
        if j.prediction is not None
    ]
    truth, said = np.array(read, dtype=bool).reshape(-1, 2).T
    return truth, said


def balanced(truth: np.ndarray, said: np.ndarray) -> Estimate:
    """What Delphi calls accuracy, and Neuronpedia's score: the mean of both classes' shares."""
    counts = Counts(float("nan"), {_NO: 1.0})
    for fires, yes in zip(truth.tolist(), said.tolist(), strict=True):
        counts.add("yes" if fires else _NO, yes)
    return balanced_accuracy(counts)


def f1(truth: np.ndarray, said: np.ndarray) -> Estimate:
    """Harmonic mean of precision and recall, with the interval of what it follows from.

    F1 = 2J / (1 + J), where J is the share of hits among all that fires or is said to: Jeffreys's
    interval is of J. 0 where nothing is said to fire; missing where nothing fires either.
    """
    hits, n = int((truth & said).sum()), int((truth | said).sum())
    if n == 0:
        return MISSING
    low, high = jeffreys(hits, n)
    return Estimate(_dice(hits / n), _dice(low), _dice(high), len(truth))


def share(right: np.ndarray) -> Estimate:
    """The share of answers, bool [n], that are right, with Wilson's interval; missing for n = 0."""
    n = len(right)
    if n == 0:
        return MISSING
    return Estimate(float(right.mean()), *wilson(int(right.sum()), n), n)


def of_classifier(judged: Judged, scorer: str) -> dict[str, Estimate]:
    """Balanced accuracy and, under names with the scorer's before them, F1, precision and recall.

    Precision is the share of what is said to fire that does, recall the reverse; each is missing
    where there is none of that.
    """
    truth, said = answers(judged)
    return {
        BALANCED_ACCURACY: balanced(truth, said),
        f"{scorer}_f1": f1(truth, said),
        f"{scorer}_precision": share(truth[said]),
        f"{scorer}_recall": share(said[truth]),
    }


def _dice(jaccard: float) -> float:
    return 2 * jaccard / (1 + jaccard)
