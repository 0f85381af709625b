"""Two labels of each feature judged on the same windows: whether they differ, feature by feature.

Rows are windows, `feature` says whose: int [rows], not negative. Results have an entry for each of
`features` features, NaN where nothing can be said.
"""

import numpy as np
from scipy.special import bdtr, stdtr
from scipy.stats import rankdata

_FLAT = 1e-9  # a spread below this share of the mean square is rounding


def mcnemar(
    feature: np.ndarray, right_a: np.ndarray, right_b: np.ndarray, features: int
) -> np.ndarray:
    """Two-sided exact p values that either judge is as likely to be the one who is right.

    right_a, right_b: bool [rows]. Windows on which both are right or both wrong say nothing
    (McNemar 1947), so that p is 1 where there are no others; NaN where there are no windows.
    """
    gained = np.bincount(feature[right_b & ~right_a], minlength=features)
    lost = np.bincount(feature[right_a & ~right_b], minlength=features)
    tail = bdtr(np.minimum(gained, lost), gained + lost, 0.5)
    seen = np.bincount(feature, minlength=features) > 0
    return np.where(seen, np.minimum(1.0, 2 * tail), np.nan)


def token_moments(truth: np.ndarray, prediction: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Of each window its count and sums of t, p, t², p² and t·p: float [windows, 6].

    truth, prediction: [tokens], NaN where nothing was predicted; begins: int [windows], none empty.
    """
    known = ~np.isnan(prediction)
    t, p = np.where(known, truth, 0.0), np.where(known, prediction, 0.0)
    rows = np.stack([known.astype(np.float64), t, p, t * t, p * p, t * p])
    return np.asarray(np.add.reduceat(rows, begins, axis=1).T)


def correlations_apart(
    feature: np.ndarray, moments_a: np.ndarray, moments_b: np.ndarray, features: int
) -> np.ndarray:
    """Two-sided p values that both correlations over all tokens are the same.

    moments: of `token_moments`, float [rows, 6]. The difference by its jackknife standard error
    (Efron and Stein 1981), a window left out at a time, since tokens of a window depend on each
    other; Student's t with windows − 1 degrees of freedom. NaN for fewer than 3 windows, 1 where
    the two are the same whichever is left out.
    """
    whole_a, whole_b = (_sums(feature, m, features) for m in (moments_a, moments_b))
    value = _correlation(whole_a) - _correlation(whole_b)
    left = _correlation(whole_a[feature] - moments_a) - _correlation(whole_b[feature] - moments_b)
    windows = np.bincount(feature, minlength=features)
    counted = np.maximum(windows, 1)
    apart = left - (np.bincount(feature, left, features) / counted)[feature]
    squares = np.bincount(feature, apart**2, features)
    variance = (windows - 1) / counted * squares
    return _by_t(value, variance, windows - 1, windows >= 3)


def aurocs_apart(
    feature: np.ndarray, truth: np.ndarray, a: np.ndarray, b: np.ndarray, features: int
) -> np.ndarray:
    """Two-sided p values that both predictions have the same AUROC.

    truth: bool [rows]; a, b: graded predictions [rows]. By the covariance of DeLong, DeLong and
    Clarke-Pearson 1988 (Biometrics 44, 837), from ranks (Sun and Xu 2014), with Student's t of the
    smaller side's windows − 1. NaN where a side has fewer than 3 windows.
    """
    placements = _placements(feature, truth, a, features) - _placements(feature, truth, b, features)
    sizes = [np.bincount(feature[side], minlength=features) for side in (truth, ~truth)]
    variance = np.zeros(features)
    value = np.zeros(features)
    for side, n in zip((truth, ~truth), sizes, strict=True):
        of, difference = feature[side], placements[side]
        # Either side's mean is the difference of the AUROCs.
        value = np.bincount(of, difference, features) / np.maximum(n, 1)
        squares = np.bincount(of, (difference - value[of]) ** 2, features)
        variance += squares / np.maximum(n * (n - 1), 1)
    fewer = np.minimum(*sizes)
    return _by_t(value, variance, fewer - 1, fewer >= 3)


def _by_t(
    value: np.ndarray, variance: np.ndarray, freedom: np.ndarray, known: np.ndarray
) -> np.ndarray:
    # What is the same whichever window is left out has no spread but rounding.
    spread = variance > _FLAT * _FLAT
    t = np.abs(value) / np.sqrt(np.where(spread, variance, 1.0))
    p = np.where(spread, 2 * stdtr(np.maximum(freedom, 1), -t), 1.0)
    return np.where(known, p, np.nan)


def _sums(feature: np.ndarray, rows: np.ndarray, features: int) -> np.ndarray:
    """Sums over each feature's rows: float [features, columns]."""
    columns = [np.bincount(feature, column, features) for column in rows.T]
    return np.stack(columns, axis=1)


def _correlation(moments: np.ndarray) -> np.ndarray:
    """Pearson correlations from moments [..., 6]; 0 where a side does not vary."""
    n, t, p, tt, pp, tp = np.moveaxis(moments, -1, 0)
    spreads = n * tt - t * t, n * pp - p * p
    varies = (spreads[0] > _FLAT * n * tt) & (spreads[1] > _FLAT * n * pp)
    scale = np.sqrt(np.where(varies, spreads[0] * spreads[1], 1.0))
    return np.where(varies, (n * tp - t * p) / scale, 0.0)


def _placements(
    feature: np.ndarray, truth: np.ndarray, prediction: np.ndarray, features: int
) -> np.ndarray:
    """Of a firing window the share of silent ones that score lower, of a silent one the share of
    firing ones that score higher, ties counting half: float [rows]."""
    among_all = _ranks(feature, prediction, features)
    found = np.zeros(len(feature))
    for side in (truth, ~truth):
        others = np.maximum(np.bincount(feature[~side], minlength=features), 1)
        of = feature[side]
        below = (among_all[side] - _ranks(of, prediction[side], features)) / others[of]
        found[side] = below if side is truth else 1 - below
    return found


def _ranks(feature: np.ndarray, values: np.ndarray, features: int) -> np.ndarray:
    """Middle ranks of values among those of the same feature, from 1: float [rows]."""
    order = np.lexsort((values, feature))
    of, sizes = feature[order], values[order]
    new = np.r_[True, (of[1:] != of[:-1]) | (sizes[1:] != sizes[:-1])][: len(order)]
    code = np.empty(len(order), np.int64)
    code[order] = np.cumsum(new)
    before = np.cumsum(np.bincount(feature, minlength=features)) - np.bincount(
        feature, minlength=features
    )
    return np.asarray(rankdata(code) - before[feature])
