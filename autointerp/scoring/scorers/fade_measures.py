"""FADE's measures, from the feature's activations and from ratings of texts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autointerp.metrics.confusion import Array, checked_rows, ratio, total
from autointerp.metrics.estimates import MISSING, Estimate
from autointerp.metrics.intervals import bootstrap
from autointerp.metrics.metrics import Metric, auroc
from autointerp.scoring.scorer import Judgment

NAME = "fade"
CLARITY = "fade_clarity"
FAITHFULNESS = "fade_faithfulness"
SHOWN, ABSENT = 2, 0  # ratings: the concept is there, and it is not


def separation(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None
) -> Array:
    """How far positives lie above negatives: 2 · AUROC − 1, below 0 where they lie lower."""
    return np.asarray(2 * auroc(truth, prediction, weights) - 1)


def either_way(found: Estimate) -> Estimate:
    """|2 · AUROC − 1|, whichever lie higher: an interval on both sides of 0 begins at 0.

    Folded before it is made into an interval, it would never reach down to no separation at all.
    """
    ends = sorted((abs(found.ci_low), abs(found.ci_high)))
    low = 0.0 if found.ci_low < 0 < found.ci_high else ends[0]
    return replace(found, value=abs(found.value), ci_low=low, ci_high=ends[1])


def raised_share(
    truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None
) -> Array:
    """max(max_m p_m − p₀, 0) / (1 − p₀): FADE's faithfulness.

    truth: bool [n], whether a generated text shows the concept; prediction: the factor m by which
    the feature was turned up for it [n]; p_m is the share of those of one factor that show it.
    Missing without texts of factor 0 or of any other, and where all of factor 0 show it.
    """
    truth, prediction, weights = checked_rows(truth, prediction, weights)

    def share(factor: float) -> Array:
        of_it = prediction == factor
        return ratio(total(weights[..., of_it], truth[of_it]), weights[..., of_it].sum(-1))

    plain = share(0.0)
    steered = np.full_like(plain, np.nan)
    for factor in np.unique(prediction[prediction != 0]):
        steered = np.fmax(steered, share(float(factor)))
    return ratio(np.maximum(steered - plain, 0), 1 - plain)


def clarity(concept: np.ndarray, natural: np.ndarray, seed: int) -> Estimate:
    """From the feature's largest activation on texts of the concept and on natural ones.

    concept: float [texts], natural: float [others], a uniform sample of the corpus. `n` counts the
    texts of the concept. Missing without texts of either.
    """
    truth = np.r_[np.ones(len(concept), bool), np.zeros(len(natural), bool)]
    found = _over_texts(separation, truth, np.r_[concept, natural], seed)
    return found if found is MISSING else replace(either_way(found), n=len(concept))


def faithfulness(judgments: Sequence[Judgment], seed: int) -> Estimate:
    """From ratings of generated texts: an item's truth is [factor], its window's rank its start.

    The interval is a bootstrap over starts, since texts from one start are not independent. `n`
    counts the rated texts.
    """
    by_start: dict[int, list[tuple[bool, float]]] = {}
    for j in judgments:
        if j.prediction is not None:
            row = (bool(j.prediction[0] == SHOWN), float(j.item.truth[0]))
            by_start.setdefault(j.item.window.rank, []).append(row)
    rows = [by_start[start] for start in sorted(by_start)]
    shows = [np.array([s for s, _ in of_start], dtype=bool) for of_start in rows]
    factors = [np.array([m for _, m in of_start]) for of_start in rows]
    found = bootstrap(raised_share, shows, factors, seed)
    return found if found is MISSING else replace(found, n=sum(map(len, rows)))


def _over_texts(
    metric: Metric,
    truth: np.ndarray,
    activation: np.ndarray,
    seed: int,
) -> Estimate:
    """The metric with its interval; truth and activation: [texts]."""
    texts = range(len(truth))
    parts = [[column[i : i + 1] for i in texts] for column in (truth, activation)]
    return bootstrap(metric, parts[0], parts[1], seed)
