"""What yes-or-no judgments of some windows say of the whole corpus: precision, recall, F1, MCC.

The judged windows are half activating, the corpus is not: at a density of one in a thousand a label
with a balanced accuracy of .95 has an F1 of .04. Rates within strata are weighted by the strata's
shares of the corpus's windows.
"""

from collections.abc import Sequence

import numpy as np

from autointerp.metrics.confusion import Confusion
from autointerp.metrics.estimates import MISSING, Counts, Estimate
from autointerp.metrics.rate_priors import Array, alarm_rates, hit_rates

METRICS = ("precision", "recall", "f1", "mcc")
MAX_WIDTH = 0.6  # of an interval, beyond which there is no value
_DRAWS = 1000
_FEATURES_AT_ONCE = 2000


def population(
    counts: Sequence[Counts], seed: int, max_width: float = MAX_WIDTH
) -> list[dict[str, Estimate]]:
    """METRICS of each feature over the corpus's windows, from its counts.

    Values are medians and intervals quantiles over draws of all rates from their posteriors, since
    no false alarm among a few dozen non-activating windows does not mean none in the corpus. How
    rates are spread among features is learned from the features themselves (see `rate_priors`).
    Where an interval is wider than `max_width` the value is NaN, unknown: the windows do not say,
    and a number would be the prior's. All is missing where a side was not judged, or all windows
    are of one.
    """
    strata = sorted({s for c in counts for s in c.shares})
    activating = np.array([c.firing_windows() for c in counts], dtype=float).reshape(-1, 2)
    others = np.array(
        [[c.silent().get(s, (0, 0)) for s in strata] for c in counts], dtype=float
    ).reshape(len(counts), len(strata), 2)
    times = np.array([c.firing()[1] for c in counts])
    shares = np.array([[c.shares.get(s, 0.0) for s in strata] for c in counts]).reshape(
        len(counts), len(strata)
    )
    density = np.array([c.density for c in counts], dtype=float)
    known = (activating[:, 1] > 0) & (others[..., 1].sum(1) > 0) & (density > 0) & (density < 1)
    found: list[dict[str, Estimate]] = [dict.fromkeys(METRICS, MISSING) for _ in counts]
    rows = np.flatnonzero(known)
    if not len(rows):
        return found
    # What is left when windows in which an alarm is likely were taken out is the largest.
    hard = np.arange(len(strata)) != shares[known].sum(0).argmax()
    hits = hit_rates(activating[known], _DRAWS, seed)
    alarms = alarm_rates(others[known], density[known], hard, _DRAWS, seed)
    rng = np.random.default_rng(seed)
    for begin in range(0, len(rows), _FEATURES_AT_ONCE):
        part = rows[begin : begin + _FEATURES_AT_ONCE]
        recall = hits.draw(activating[part], rng)
        weights = shares[part] / shares[part].sum(1, keepdims=True)
        alarm = np.einsum("fs,sdf->df", weights, alarms.draw(others[part], density[part], rng))
        draws = _metrics(recall, alarm, density[part])
        low, value, high = (np.quantile(draws, q, axis=1) for q in (0.025, 0.5, 0.975))
        value[high - low > max_width] = np.nan
        judged = (times[part] + others[part, :, 1].sum(1)).astype(int)
        for place, row in enumerate(part):
            found[row] = {
                name: Estimate(
                    float(value[m, place]),
                    float(low[m, place]),
                    float(high[m, place]),
                    int(judged[place]),
                )
                for m, name in enumerate(METRICS)
            }
    return found


def _metrics(recall: Array, alarms: Array, density: Array) -> Array:
    """METRICS [metrics, draws, features] from rates [draws, features] and density [features]."""
    rest = 1 - density
    found = Confusion(recall * density, alarms * rest, (1 - recall) * density, (1 - alarms) * rest)
    # Where nothing is said to match, nothing is found.
    metrics = np.stack([found.precision, found.recall, found.f1, found.mcc])
    return np.nan_to_num(metrics, nan=0.0)
