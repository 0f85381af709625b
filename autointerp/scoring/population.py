"""What yes-or-no judgments of some windows say of the whole corpus: precision, recall, F1, MCC.

The judged windows are half activating, the corpus is not: at a density of one in a thousand a label
with a balanced accuracy of .95 has an F1 of .04. Rates within strata are weighted by the strata's
shares of the corpus's windows.
"""

from collections.abc import Sequence

import numpy as np
import torch

from autointerp.scoring.confusion import Confusion
from autointerp.scoring.statistics import MISSING, Counts, Estimate

METRICS = ("precision", "recall", "f1", "mcc")
_DRAWS = 1000
_FEATURES_AT_ONCE = 2000
_JEFFREYS = (0.5, 0.5)
_FEWEST = 50  # features from which on their rates say how rates are spread
_MEANS = np.concatenate([np.geomspace(1e-4, 0.1, 40), np.linspace(0.12, 0.88, 39)])
_STRENGTHS = np.geomspace(0.05, 200, 40)
_WEAKEST_PRIOR = 1e-6


def population(counts: Sequence[Counts], seed: int) -> list[dict[str, Estimate]]:
    """METRICS of each feature over the corpus's windows, from its counts.

    Values are medians and intervals quantiles over draws of all rates from their posteriors, since
    no false alarm among a few dozen silent windows does not mean none in the corpus. How rates are
    spread among features is learned from the features themselves: a beta prior of greatest
    likelihood for each stratum (empirical Bayes: Robbins 1956; Jeffreys' prior where there are
    fewer than 50 features). Missing where a side was not judged, or all windows are of one.
    """
    strata = sorted({s for c in counts for s in c.shares})
    firing = np.array([c.firing() for c in counts], dtype=float).reshape(-1, 2)
    silent = np.array(
        [[c.silent().get(s, (0, 0)) for s in strata] for c in counts], dtype=float
    ).reshape(len(counts), len(strata), 2)
    shares = np.array([[c.shares.get(s, 0.0) for s in strata] for c in counts]).reshape(
        len(counts), len(strata)
    )
    density = np.array([c.density for c in counts])
    known = (firing[:, 1] > 0) & (silent[..., 1].sum(1) > 0) & (density > 0) & (density < 1)
    hit_prior = beta_prior(firing[known])
    alarm_priors = [beta_prior(silent[known, i]) for i in range(len(strata))]
    found: list[dict[str, Estimate]] = [dict.fromkeys(METRICS, MISSING) for _ in counts]
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(known)
    for begin in range(0, len(rows), _FEATURES_AT_ONCE):
        part = rows[begin : begin + _FEATURES_AT_ONCE]
        recall = _posterior(rng, firing[part], hit_prior)
        alarms = np.zeros_like(recall)
        for i, prior in enumerate(alarm_priors):
            weight = shares[part, i] / shares[part].sum(1)
            alarms += weight * _posterior(rng, silent[part, i], prior)
        draws = _metrics(recall, alarms, density[part])
        low, value, high = (np.quantile(draws, q, axis=1) for q in (0.025, 0.5, 0.975))
        judged = (firing[part, 1] + silent[part, :, 1].sum(1)).astype(int)
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


def _posterior(
    rng: np.random.Generator, counts: np.ndarray, prior: tuple[float, float]
) -> np.ndarray:
    """Draws of rates [draws, features], from counts [features, (yes, of how many)]."""
    yes, n = counts.T
    size = (_DRAWS, len(counts))
    return rng.beta(yes + prior[0], n - yes + prior[1], size)


def _metrics(recall: np.ndarray, alarms: np.ndarray, density: np.ndarray) -> np.ndarray:
    """METRICS [metrics, draws, features] from rates [draws, features] and density [features]."""
    rest = 1 - density
    found = Confusion(recall * density, alarms * rest, (1 - recall) * density, (1 - alarms) * rest)
    # Where nothing is said to match, nothing is found.
    metrics = np.stack([found.precision, found.recall, found.f1, found.mcc])
    return np.nan_to_num(metrics, nan=0.0)


def beta_prior(counts: np.ndarray) -> tuple[float, float]:
    """The beta distribution of rates under which the counts [features, 2] are likeliest."""
    judged = counts[counts[:, 1] > 0]
    if len(judged) < _FEWEST:
        return _JEFFREYS
    pairs, times = np.unique(judged, axis=0, return_counts=True)
    yes, n = (torch.from_numpy(column)[:, None] for column in pairs.T)
    mean, strength = (torch.from_numpy(g.ravel()) for g in np.meshgrid(_MEANS, _STRENGTHS))
    a, b = mean * strength, (1 - mean) * strength
    likelihood = (
        torch.lgamma(yes + a)
        + torch.lgamma(n - yes + b)
        - torch.lgamma(n + a + b)
        + torch.lgamma(a + b)
        - torch.lgamma(a)
        - torch.lgamma(b)
    )
    best = int((torch.from_numpy(times).double() @ likelihood).argmax())
    return max(float(a[best]), _WEAKEST_PRIOR), max(float(b[best]), _WEAKEST_PRIOR)
