"""How well graded judgments rank the windows in which a feature fires above silent ones.

Silent windows are weighed by their strata's shares, so that AUROC is of silent windows as the
corpus has them, and average precision of the corpus itself, at the feature's density.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from autointerp.metrics.estimates import MISSING, Estimate
from autointerp.scoring.scorer import FIRES, Item, Judged, Judgment, Plan

AUROC, AVERAGE_PRECISION = "auroc", "average_precision"
_DRAWS = 1000
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
_STEPS = 40
_TAIL = 0.025
_KNOWN = 0.9  # of the readable judgments


def ranking(plan: Plan, graded: Sequence[tuple[Item, float]], seed: int) -> dict[str, Estimate]:
    """AUROC and average precision from a score for each item, higher for a likelier match.

    A window weighs density / n among those that fire, (1 − density) · share / n in a silent stratum
    of n. AUROC does not depend on the density; its interval is Newcombe's (2006, part 2, method 5)
    with the effective number of silent windows. That of average precision is a Bayesian bootstrap
    in which the weight of silent windows lies between and beyond them (Rubin 1981; Banks 1988): no
    alarm among a few dozen of them does not mean none in the corpus. At a low density the value
    itself says little more than that none was seen: read the lower end. Both are missing where a
    side was not judged, average precision also without a density.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for item, score in graded:
        scores[item.stratum if item.stratum in plan.shares else FIRES].append(score)
    silent = {s: plan.shares[s] for s in plan.shares if s in scores}
    if FIRES not in scores or not silent:
        return {AUROC: MISSING, AVERAGE_PRECISION: MISSING}
    total = sum(silent.values())
    sides = [(share / total, _descending(scores[s])) for s, share in silent.items()]
    hits, n = _descending(scores[FIRES]), len(graded)
    area = min(1.0, sum(share * _area(hits, alarms) for share, alarms in sides))
    effective = 1 / sum(share**2 / len(alarms) for share, alarms in sides)
    found = {AUROC: Estimate(area, *newcombe(area, len(hits), effective), n)}
    found[AVERAGE_PRECISION] = MISSING
    if 0 < plan.density < 1:
        value = _average_precision(hits, sides, plan.density)
        drawn = _draw_average_precision(hits, sides, plan.density, seed)
        low, high = np.quantile(drawn, (_TAIL, 1 - _TAIL)).tolist()
        found[AVERAGE_PRECISION] = Estimate(value, min(low, value), max(high, value), n)
    return found


def ranking_by_chances(judged: Judged, plan: Plan, seed: int) -> dict[str, Estimate]:
    """The same from the probabilities of readable judgments; nothing where too many have none."""
    readable = judged.readable()
    graded = [(j.item, j.probability) for j in readable if j.probability is not None]
    return ranking(plan, graded, seed) if graded and len(graded) >= _KNOWN * len(readable) else {}


def graded_judgment(item: Item, score: float) -> Judgment:
    """A score as the prediction; missing where it is no number."""
    return Judgment(item, np.array([score], dtype=np.float32) if math.isfinite(score) else None)


def reduce_graded(judged: Judged, seed: int) -> dict[str, Estimate]:
    """How well the predictions rank the windows, those that could be read."""
    readable = ((j.item, j.prediction) for j in judged.judgments)
    graded = [(item, float(p[0])) for item, p in readable if p is not None]
    return ranking(judged.plan, graded, seed)


def newcombe(area: float, positives: float, negatives: float) -> tuple[float, float]:
    """95 % interval of an AUROC: all areas whose own standard error reaches the one observed.

    The variance is Hanley and McNeil's (1982) with the mean of both sizes, less one, in place of
    each (Newcombe 2006, part 2, method 5).
    """
    return _least(area, positives, negatives), 1 - _least(1 - area, positives, negatives)


def _least(area: float, m: float, n: float) -> float:
    mean = max((m + n) / 2 - 1, 0.0)
    below, above = 0.0, area
    for _ in range(_STEPS):
        x = (below + above) / 2
        spread = x * (1 - x) * (1 + mean * ((1 - x) / (2 - x) + x / (1 + x))) / (m * n)
        if area - x > _Z * math.sqrt(spread):
            below = x
        else:
            above = x
    return below


def _descending(scores: Sequence[float]) -> np.ndarray:
    return -np.sort(-np.array(scores))


def _area(hits: np.ndarray, alarms: np.ndarray) -> float:
    """AUROC of scores [n] against [m], a tie counting half."""
    mine = hits[:, None]
    return float(((mine > alarms) + (mine == alarms) / 2).mean())


_Sides = Sequence[tuple[float, np.ndarray]]  # silent strata: share, scores [n] descending


def _among(scores: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """For each hit how many scores, descending, are at least as high: windows enter in ties."""
    return np.searchsorted(-scores, -hits, side="right")


def _average_precision(hits: np.ndarray, sides: _Sides, density: float) -> float:
    """Average precision where a share `density` fires; hits: scores [n], descending."""
    true = density * _among(hits, hits) / len(hits)
    false = sum(share * _among(alarms, hits) / len(alarms) for share, alarms in sides)
    return float((true / (true + (1 - density) * false)).mean())


def _draw_average_precision(
    hits: np.ndarray, sides: _Sides, density: float, seed: int
) -> np.ndarray:
    """Average precision of each draw: [draws]."""
    weights, below = _weights(len(hits), 0, seed)
    true = below[_among(hits, hits)]
    false = np.zeros_like(true)
    for place, (share, alarms) in enumerate(sides, 1):
        # A stratum's weight lies in the gaps before, between and after its windows: of the gap that
        # a hit is in, so much comes before it as of the hits that are in the same gap.
        gap = _among(alarms, hits)
        first = np.searchsorted(gap, gap)
        passed = np.arange(1, len(hits) + 1) - first
        part = passed / (np.searchsorted(gap, gap, side="right") - first + 1)
        in_gap, before = _weights(len(alarms) + 1, place, seed)
        factor = share * (1 - density) / density
        false += np.float32(factor) * before[gap]
        false += (factor * part).astype(np.float32)[:, None] * in_gap[gap]
    found: np.ndarray = (weights * (true / (true + false))).sum(0)
    return found


@lru_cache(maxsize=128)
def _weights(n: int, place: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights that sum to 1, uniform among all such: float32 [n, draws]; and the sums of those
    before each, [n + 1, draws].

    The same for all features, since drawing would take most of the time.
    """
    drawn = np.random.default_rng([seed, place]).standard_exponential((n, _DRAWS))
    drawn /= drawn.sum(0)
    sums = np.concatenate([np.zeros((1, _DRAWS)), np.cumsum(drawn, axis=0)])
    return drawn.astype(np.float32), sums.astype(np.float32)
