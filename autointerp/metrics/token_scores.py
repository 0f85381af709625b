"""What predicted activations say of single tokens of the corpus, not of windows.

Of recall alone: firing windows are drawn by firing, so that the tokens on which the feature fires
are in them as often as each other. Precision and F1 would need the rate of false alarms on the
silent tokens of the corpus, which a few silent windows do not have: where one window in a hundred
fires, an F1 made of 5 to 25 of them is too high by .03 to .43 (`scripts/audit/compare.py` has the
experiment).
"""

from collections.abc import Sequence

import numpy as np

from autointerp.metrics.estimates import MISSING, Estimate, jeffreys


def token_recall(
    truths: Sequence[np.ndarray], predictions: Sequence[np.ndarray], threshold: float
) -> Estimate:
    """The share of firing tokens whose predicted activation reaches the threshold.

    truths, predictions: one array [length] a window, nothing is NaN; silent windows say nothing.
    The mean over firing windows of the share found in each: since a window is drawn as often as it
    has firings, that is the share among all firing tokens of the corpus. The interval is Jeffreys's
    of as many windows, which a share that is neither 0 nor 1 makes wider than it need be. Missing
    without a firing token.
    """
    shares = [
        float((prediction[truth > 0] >= threshold).mean())
        for truth, prediction in zip(truths, predictions, strict=True)
        if (truth > 0).any()
    ]
    if not shares:
        return MISSING
    found, n = sum(shares), len(shares)
    return Estimate(found / n, *jeffreys(min(found, n), n), n)
