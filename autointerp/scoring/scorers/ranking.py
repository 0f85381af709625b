"""How well graded judgments rank the windows in which a feature fires above silent ones.

Silent windows are weighed by their strata's shares, so that AUROC is of silent windows as the
corpus has them, and average precision of the corpus itself, at the feature's density.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from autointerp.metrics.estimates import MISSING, Estimate
from autointerp.metrics.precision_draws import average_precision
from autointerp.scoring.scorer import FIRES, Item, Judged, Judgment, Plan

AUROC, AVERAGE_PRECISION = "auroc", "average_precision"
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
_STEPS = 40
_KNOWN = 0.9  # of the readable judgments


def ranking(plan: Plan, graded: Sequence[tuple[Item, float]], seed: int) -> dict[str, Estimate]:
    """AUROC and average precision from a score for each item, higher for a likelier match.

    Silent windows weigh as much as their stratum has of the corpus's. AUROC does not depend on the
    density; its interval is Newcombe's (2006, part 2, method 5) with the effective number of silent
    windows. Average precision is the median over draws of where the corpus's windows rank between
    and beyond the judged ones (see `precision_draws`): no alarm among a few dozen does not mean
    none in the corpus. At a density far below 1 / the number of silent windows that is all that can
    be said, and the interval is most of 0 to 1. Both are missing where a side was not judged,
    average precision also without a density.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for item, score in graded:
        scores[item.stratum if item.stratum in plan.shares else FIRES].append(score)
    silent = {s: plan.shares[s] for s in plan.shares if s in scores}
    if FIRES not in scores or not silent:
        return {AUROC: MISSING, AVERAGE_PRECISION: MISSING}
    total = sum(silent.values())
    sides = [(share / total, np.array(scores[s])) for s, share in silent.items()]
    hits, n = np.array(scores[FIRES]), len(graded)
    area = min(1.0, sum(share * _area(hits, alarms) for share, alarms in sides))
    effective = 1 / sum(share**2 / len(alarms) for share, alarms in sides)
    found = {AUROC: Estimate(area, *newcombe(area, len(hits), effective), n)}
    found[AVERAGE_PRECISION] = MISSING
    if 0 < plan.density < 1:
        found[AVERAGE_PRECISION] = average_precision(hits, sides, plan.density, seed)
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


def _area(hits: np.ndarray, alarms: np.ndarray) -> float:
    """AUROC of scores [n] against [m], a tie counting half."""
    mine = hits[:, None]
    return float(((mine > alarms) + (mine == alarms) / 2).mean())
