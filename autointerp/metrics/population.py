"""What yes-or-no judgments of some windows say of the whole corpus: precision, recall, F1, MCC.

The judged windows are half activating, the corpus is not: at a density of one in a thousand a label
with a balanced accuracy of .95 has an F1 of .04. Rates within strata are weighted by the strata's
shares of the corpus's windows.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import betaln

from autointerp.metrics.confusion import Confusion
from autointerp.metrics.estimates import MISSING, Counts, Estimate

METRICS = ("precision", "recall", "f1", "mcc")
_DRAWS = 1000
_FEATURES_AT_ONCE = 2000
_JEFFREYS = np.array([[0.5, 0.5, 1.0]])
MIN_FEATURES = 50  # features from which on their rates say how rates are spread
_RARE = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4)
_MEANS = np.array([*_RARE, 0.5, *(1 - rate for rate in _RARE)])
_STRENGTHS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
_EVENLY = 10  # features' worth of weight that all components share: none is ruled out
_STEPS = 300


def population(counts: Sequence[Counts], seed: int) -> list[dict[str, Estimate]]:
    """METRICS of each feature over the corpus's windows, from its counts.

    Values are medians and intervals quantiles over draws of all rates from their posteriors, since
    no false alarm among a few dozen silent windows does not mean none in the corpus. How rates are
    spread among features is learned from the features themselves, for each stratum (empirical
    Bayes: Robbins 1956; Jeffreys' prior where there are fewer than 50 features). Missing where a
    side was not judged, or all windows are of one.
    """
    strata = sorted({s for c in counts for s in c.shares})
    firing = np.array([c.firing_windows() for c in counts], dtype=float).reshape(-1, 2)
    silent = np.array(
        [[c.silent().get(s, (0, 0)) for s in strata] for c in counts], dtype=float
    ).reshape(len(counts), len(strata), 2)
    times = np.array([c.firing()[1] for c in counts])
    shares = np.array([[c.shares.get(s, 0.0) for s in strata] for c in counts]).reshape(
        len(counts), len(strata)
    )
    density = np.array([c.density for c in counts])
    known = (firing[:, 1] > 0) & (silent[..., 1].sum(1) > 0) & (density > 0) & (density < 1)
    hit_prior = learned_prior(firing[known])
    alarm_priors = [learned_prior(silent[known, i]) for i in range(len(strata))]
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
        judged = (times[part] + silent[part, :, 1].sum(1)).astype(int)
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


def _posterior(rng: np.random.Generator, counts: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Draws of rates [draws, features], from counts [features, (yes, of how many)]."""
    yes, n = counts[:, :1], counts[:, 1:]
    a, b, weight = prior.T
    chances = weight * _likelihood(yes, n, a, b)
    drawn = rng.multinomial(_DRAWS, chances / chances.sum(1, keepdims=True))
    component = np.repeat(np.tile(np.arange(len(a)), len(yes)), drawn.ravel())
    # Shuffled, so that draws of one rate are independent of those of another.
    component = rng.permuted(component.reshape(len(yes), _DRAWS), axis=1)
    rates: np.ndarray = rng.beta(yes + a[component], n - yes + b[component]).T
    return rates


def _metrics(recall: np.ndarray, alarms: np.ndarray, density: np.ndarray) -> np.ndarray:
    """METRICS [metrics, draws, features] from rates [draws, features] and density [features]."""
    rest = 1 - density
    found = Confusion(recall * density, alarms * rest, (1 - recall) * density, (1 - alarms) * rest)
    # Where nothing is said to match, nothing is found.
    metrics = np.stack([found.precision, found.recall, found.f1, found.mcc])
    return np.nan_to_num(metrics, nan=0.0)


def learned_prior(counts: np.ndarray) -> np.ndarray:
    """How rates are spread, from counts [features, 2]: a mixture of betas, [components, (a, b, w)].

    The components are given, and only their weights learned, by EM on the likelihood (Laird 1978).
    A single beta would not do where features are of several kinds: what holds for most of them
    would be taken to hold for all, and intervals be too narrow for the rest.
    """
    judged = counts[counts[:, 1] > 0]
    if len(judged) < MIN_FEATURES:
        return _JEFFREYS
    pairs, times = np.unique(judged, axis=0, return_counts=True)
    mean, strength = (grid.ravel() for grid in np.meshgrid(_MEANS, _STRENGTHS))
    a, b = mean * strength, (1 - mean) * strength
    likelihood = _likelihood(pairs[:, :1], pairs[:, 1:], a, b)
    weight = np.full(len(a), 1 / len(a))
    for _ in range(_STEPS):
        share = likelihood * weight
        weight = times @ (share / share.sum(1, keepdims=True)) + _EVENLY / len(a)
        weight /= weight.sum()
    return np.stack([a, b, weight], axis=1)


def _likelihood(yes: np.ndarray, n: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of counts [features, 1] under each beta [components], the largest of a feature being 1."""
    logarithm = betaln(yes + a, n - yes + b) - betaln(a, b)
    return np.asarray(np.exp(logarithm - logarithm.max(1, keepdims=True)))
