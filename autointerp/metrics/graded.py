"""Scores of predicted activations, all from one bootstrap over windows.

Every number follows from sums over each window's tokens, so that a draw costs a few products a
window however long it is. `tests/metrics/test_graded.py` holds them against the metrics of
`metrics` over all tokens.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from autointerp.metrics.estimates import MISSING, Estimate, expanded_tail
from autointerp.metrics.intervals import interval
from autointerp.metrics.metrics import middle_ranks

POPULATION = "population_correlation"
METRICS = ("correlation", "correlation_among_active", "spearman", "explained_variance", POPULATION)
_DRAWS = 1000
_FLAT = 1e-9  # a spread below this share of the mean square is rounding
_UNSEEN = 0.5  # windows of either outcome that each side is taken to have besides its own


def graded(
    truths: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    seed: int,
    *,
    firings: Sequence[int] | None = None,
    density: float | None = None,
    units: Sequence[Hashable] | None = None,
) -> dict[str, Estimate]:
    """Metric name → estimate over all tokens of all windows (Bills et al. 2023).

    truths, predictions: one array [length] a window, activations on one scale; nothing is NaN.
    firings: on how many tokens of each window the feature fires, 0 in a non-activating one; those
    of `truths` where None. density: the share of the corpus's windows in which it fires. units:
    windows of one unit, as a document, are resampled together; each by itself where None.

    - correlation: Pearson's.
    - correlation_among_active: Pearson's among the tokens on which the feature fires: whether
      stronger is predicted as stronger.
    - spearman: of ranks, which are those among all tokens; they are not ranked anew in each draw.
    - explained_variance: 1 − Var(truth − prediction) / Var(truth).
    - population_correlation: Pearson's over the tokens of the corpus, in which activating windows
      have the weight `density` together, and one drawn by its firings 1 / firings of what another
      has (Horvitz and Thompson 1952). Its value is the median of the draws: at a low density most
      of the corpus is what non-activating windows were not seen. Missing without a density or
      without windows of both sides.

    A prediction that is the same everywhere says nothing of where the feature fires and correlates
    0; a truth that is the same everywhere leaves all of them missing.

    Intervals are of a Bayesian bootstrap (Rubin 1981) over the units of each side, activating and
    non-activating, since how many there are of each is not by chance. Each side has half a window
    besides, as under Jeffreys' prior: that none of five activating windows was overlooked does not
    mean that none is. For the low end it is predicted as the windows of the other side are, for the
    high end rightly; `population_correlation` has half a window of both.
    Weights are spread as much as the variance of few windows asks for, and tails are those of
    `expanded_tail`. From one window there is no interval.
    """
    if not truths:
        return dict.fromkeys(METRICS, MISSING)
    truth = np.concatenate(list(truths)).astype(np.float64)
    prediction = np.concatenate(list(predictions)).astype(np.float64)
    begins = np.cumsum([0, *(len(t) for t in truths[:-1])])
    every = np.ones_like(truth)
    ranks = middle_ranks(truth, every), middle_ranks(prediction, every)

    def sums(t: np.ndarray, p: np.ndarray, weight: np.ndarray) -> np.ndarray:
        rows = np.stack([every, t, p, t * t, p * p, t * p]) * weight
        return np.add.reduceat(rows, begins, axis=1).T

    plain = sums(truth, prediction, every)
    active = sums(truth, prediction, (truth > 0).astype(np.float64))
    ranked = sums(*ranks, every)

    times = np.array([(t > 0).sum() for t in truths] if firings is None else firings)
    # Activating windows first, so that weights are the same for all features with so many.
    order = np.argsort(times == 0, kind="stable")
    plain, active, ranked, times = plain[order], active[order], ranked[order], times[order]
    activating = int((times > 0).sum())
    names = range(len(times)) if units is None else [units[i] for i in order]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    draws, tail = _weights(activating, tuple(numbers[name] for name in names), seed)

    def estimates(moments: np.ndarray, tokens: np.ndarray, *metrics: _Metric) -> list[Estimate]:
        ends = [_drawn(draws[end], moments, tokens, activating) for end in ("low", "high")]
        found = []
        for metric in metrics:
            low, high = (
                interval(float(values[0]), values[1:], len(times), tail)
                for values in map(metric, ends)
            )
            found.append(replace(low, ci_high=high.ci_high))
        return found

    correlation, explained = estimates(plain, plain, _correlations, _explained)
    found = {
        "correlation": correlation,
        "correlation_among_active": estimates(active, plain, _correlations)[0],
        "spearman": estimates(ranked, ranked, _correlations)[0],
        "explained_variance": explained,
        POPULATION: MISSING,
    }
    if density is not None and 0 < density < 1 and 0 < activating < len(times):
        # Windows were drawn by their firings, those of the corpus are not.
        weight = 1 / np.maximum(times, 1)
        drawn = _drawn(draws["both"], plain, plain, activating, weight, density)
        values = _correlations(drawn)[1:]
        found[POPULATION] = interval(float(np.nanmedian(values)), values, len(times), tail)
    return found


def _drawn(
    draws: np.ndarray,
    moments: np.ndarray,
    tokens: np.ndarray,
    activating: int,
    weight: np.ndarray | None = None,
    density: float | None = None,
) -> np.ndarray:
    """Moments of each draw [1 + draws, 6], first those of the windows as they are.

    draws: from `_weights`. moments: of each window [windows, 6], `activating` ones first; tokens:
    those of all its tokens where `moments` leaves some out. weight: of each window [windows];
    density: what the activating ones weigh together, of 1.
    """
    windows = len(moments)
    weight = np.ones(windows) if weight is None else weight
    sides = [slice(0, activating), slice(activating, windows)]
    rows = np.zeros((windows + 4, 6))
    rows[:windows] = weight[:, None] * moments
    masses = np.append(weight, np.zeros(4))
    for i, (side, other) in enumerate(zip(sides, sides[::-1], strict=True)):
        if side.start == side.stop:
            continue
        said = tokens[other] if other.start < other.stop else tokens
        weights_of = weight[other] if other.start < other.stop else weight
        n, _, p, _, pp, _ = weights_of @ said
        mean, square = p / n, pp / n
        n, t, _, tt, _, _ = rows[side].mean(0)
        place = windows + 2 * i
        rows[place] = n, t, t, tt, tt, tt
        rows[place + 1] = n, t, n * mean, tt, n * square, t * mean
        masses[place : place + 2] = weight[side].mean()
    if density is None:
        return np.asarray(draws @ rows)
    total = np.zeros((len(draws), 6))
    for i, (side, share) in enumerate(zip(sides, (density, 1 - density), strict=True)):
        mine = np.r_[side, windows + 2 * i : windows + 2 * i + 2]
        held = draws[:, mine] @ masses[mine]
        total += (share / held)[:, None] * (draws[:, mine] @ rows[mine])
    return total


@lru_cache(maxsize=64)
def _weights(
    activating: int, units: tuple[int, ...], seed: int
) -> tuple[dict[str, np.ndarray], float]:
    """How much each window weighs in each draw [1 + draws, windows + 4]; the tail of intervals.

    For an interval's low end what was not seen was predicted wrongly, for its high end rightly, and
    for `both` either.

    units: of each window, activating ones first, numbered in this order. In the first row all weigh
    alike. The last four are windows that were not seen: of the activating side one predicted
    rightly and one as the other side's are, then of the non-activating side. Each side sums to its
    windows. The same for all features with so many, since drawing would take most of the time.
    """
    of_window = np.array(units)
    sides = [slice(0, activating), slice(activating, len(units))]
    held = [len(set(units[side])) for side in sides]
    # Shapes for which the variance of a mean is that of the sample over n − 1.
    shapes = [max(1 - 2 / n, 1 / 3) if n else 1.0 for n in held]
    # A unit with windows of both sides is drawn once.
    repeats = held[0], len(set(units)) - held[0]
    rng = np.random.default_rng(seed)
    drawn = rng.standard_gamma(np.repeat(shapes, repeats), (_DRAWS, sum(repeats)))[:, of_window]
    unseen = rng.standard_gamma(_UNSEEN * np.repeat(shapes, 2), (_DRAWS, 4))
    found = {}
    for end, outcomes in (("low", [0, 1]), ("high", [1, 0]), ("both", [1, 1])):
        weights = np.zeros((1 + _DRAWS, len(units) + 4))
        weights[0, : len(units)] = 1
        for side, place, n in zip(sides, (slice(-4, -2), slice(-2, None)), held, strict=True):
            if n:
                windows = side.stop - side.start
                mine, more = drawn[:, side], unseen[:, place] * outcomes * windows / n
                scale = windows / (mine.sum(1) + more.sum(1))[:, None]
                weights[1:, side], weights[1:, place] = mine * scale, more * scale
        found[end] = weights
    return found, expanded_tail(max(sum(repeats), 2))


_Metric = Callable[[np.ndarray], np.ndarray]


def _varies(moments: np.ndarray) -> np.ndarray:
    """Whether a side varies, from its count, sum and sum of squares [draws, 3]."""
    n, x, xx = moments.T
    varies: np.ndarray = n * xx - x * x > _FLAT * n * xx
    return varies


def _correlations(moments: np.ndarray) -> np.ndarray:
    """Pearson correlations from moments [draws, 6]; 0 where only the prediction does not vary."""
    n, t, p, tt, pp, tp = moments.T
    known, varies = _varies(moments[:, [0, 1, 3]]), _varies(moments[:, [0, 2, 4]])
    scale = np.sqrt(np.where(known & varies, (n * tt - t * t) * (n * pp - p * p), 1.0))
    found = np.where(varies, (n * tp - t * p) / scale, 0.0)
    return np.where(known, found, np.nan)


def _explained(moments: np.ndarray) -> np.ndarray:
    """Explained variance from moments [draws, 6]; NaN where the truth does not vary."""
    n, t, p, tt, pp, tp = moments.T
    varies = _varies(moments[:, [0, 1, 3]])
    left = n * (tt - 2 * tp + pp) - (t - p) ** 2
    return np.where(varies, 1 - left / np.where(varies, n * tt - t * t, 1.0), np.nan)
