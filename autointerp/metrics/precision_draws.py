"""Average precision in the corpus from a few judged windows of each kind.

A window drawn at random ranks anywhere between those that were judged, and above or below them all:
as many gaps as windows, and one more. Precision at a low density hangs on one of them, the gap
above the highest non-activating window, in which no false alarm was seen.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from autointerp.metrics.estimates import Estimate, expanded_tail

_DRAWS = 1000
# Of gaps at either end, where 1 is as much as of a gap between two windows. Chosen by the bias over
# judges of several kinds (scripts/audit/average_precision.py).
_ENDS_OF_HITS = 0.35
_FIRST_OF_ALARMS = 0.7
_STEEPEST = 1e4
_NEARLY_ALL, _NOTHING = 1 - 1e-6, 1e-30

Strata = Sequence[tuple[float, np.ndarray]]  # non-activating windows: share of all, scores [n]


def average_precision(hits: np.ndarray, strata: Strata, density: float, seed: int) -> Estimate:
    """Median and 95 % interval over draws of where all windows of the corpus rank.

    hits: scores of activating windows, strata: of non-activating ones; density: the share of the
    corpus's windows that are activating, more than 0 and less than 1. `n` counts all of them.
    """
    drawn = draws(hits, strata, density, seed)
    alarms = sum(len(scores) for _, scores in strata)
    tail = expanded_tail(max(min(len(hits), alarms), 2))
    low, value, high = np.quantile(drawn, (tail, 0.5, 1 - tail)).tolist()
    return Estimate(value, low, high, len(hits) + alarms)


def draws(hits: np.ndarray, strata: Strata, density: float, seed: int) -> np.ndarray:
    """Average precision of each draw: [draws].

    Each side has a Bayesian bootstrap with weight between and beyond its windows (Banks 1988), and
    of a gap's weight so much comes before a level as of the other side's windows that are in the
    gap. In the first gap of non-activating windows it is less: their rate there is a power of the
    activating ones', with an exponent drawn, evenly by its logarithm, between 1 (no better than
    chance) and that of the ROC curve of this form through the gap's end (Lehmann 1953). What one
    judge ranks alike comes in together.
    """
    alarms = np.concatenate([scores for _, scores in strata])
    levels, sizes = np.unique(np.concatenate([hits, alarms]), return_counts=True)
    levels, sizes = levels[::-1], sizes[::-1]

    gap, part = _places(hits, alarms, levels)
    weights, before = _gaps(len(hits), 0, seed)
    found = before[gap] + part * weights[gap]
    found[-1] = 1
    false = np.zeros_like(found)
    for place, (share, scores) in enumerate(strata, 1):
        gap, part = _places(scores, hits, levels)
        weights, before = _gaps(len(scores), place, seed)
        of_stratum = before[gap] + part * weights[gap]
        if first := int((gap == 0).sum()):
            ends = np.log(np.minimum(found[first - 1], _NEARLY_ALL))
            steepest = np.clip(np.log(weights[0]) / ends, 1, _STEEPEST)
            exponents = np.exp(_evenly(seed) * np.log(steepest))
            parts = np.log(np.maximum(part[:first], _NOTHING))
            of_stratum[:first] = np.exp(parts * exponents) * weights[0]
        of_stratum[-1] = 1
        false += np.float32(share * (1 - density) / density) * of_stratum
    new, new_false = np.diff(found, axis=0, prepend=0), np.diff(false, axis=0, prepend=0)
    # A window that is alone at its level stands for a stretch around it, half of it before.
    half = np.where(sizes == 1, 0.5, 0).astype(np.float32)[:, None]
    true = found - half * new
    total: np.ndarray = (new * true / (true + false - half * new_false)).sum(0)
    return total.astype(np.float64)


def _places(
    mine: np.ndarray, others: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each level, descending: how many of mine reach it [levels], and which part of the gap
    after these comes before it, float32 [levels, 1]."""
    mine, others = np.sort(-mine), np.sort(-others)
    gap = np.searchsorted(mine, -levels, side="right")
    edges = np.concatenate([[-np.inf], mine, [np.inf]])
    first = np.searchsorted(others, edges[gap], side="right")
    last = np.searchsorted(others, edges[gap + 1], side="left")
    passed = np.searchsorted(others, -levels, side="right") - first
    part = np.where(last > first, passed / (last - first + 1), 0)
    return gap, part.astype(np.float32)[:, None]


@lru_cache(maxsize=256)
def _gaps(n: int, place: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the n + 1 gaps, which sum to 1, float32 [n + 1, draws]; and of those before each.

    `place` is that of the stratum, 0 for the activating windows. The same for all features, since
    drawing would take most of the time. The first gaps of all strata are drawn together: a judge
    that is seldom deceived is so by all kinds.
    """
    drawn = np.random.default_rng([seed, place]).standard_exponential((n + 1, _DRAWS))
    ends = np.random.default_rng([seed, place, n])
    if place == 0:
        drawn[[0, -1]] = ends.standard_gamma(_ENDS_OF_HITS, (2, _DRAWS))
    else:
        shared = np.random.default_rng([seed, 0x0F1257])
        drawn[0] = shared.standard_gamma(_FIRST_OF_ALARMS, _DRAWS)
    drawn = np.maximum(drawn, _NOTHING) / drawn.sum(0)
    before = np.cumsum(drawn, axis=0) - drawn
    return drawn.astype(np.float32), before.astype(np.float32)


@lru_cache(maxsize=8)
def _evenly(seed: int) -> np.ndarray:
    """How far from 1 to the steepest exponent each draw's is, by its logarithm: [draws]."""
    return np.random.default_rng([seed, 0x5A4E]).random(_DRAWS, dtype=np.float32)
