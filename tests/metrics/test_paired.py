import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autointerp.metrics.metrics import auroc, pearson
from autointerp.metrics.paired import aurocs_apart, correlations_apart, mcnemar, token_moments

ANSWERS = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=80)


@given(ANSWERS)
def test_mcnemar_is_the_binomial_test_of_the_windows_that_differ(rows):
    feature, a, b = (
        np.array([row[i] for row in rows], dtype) for i, dtype in enumerate((int, bool, bool))
    )
    found = mcnemar(feature, a, b, 4)
    for f in range(4):
        gained = sum(g == f and y and not x for g, x, y in rows)
        lost = sum(g == f and x and not y for g, x, y in rows)
        if f not in feature:
            assert math.isnan(found[f])
        elif gained + lost == 0:
            assert found[f] == 1
        else:
            expected = stats.binomtest(gained, gained + lost, 0.5).pvalue
            assert found[f] == pytest.approx(expected)


def _windows(rng, windows, length, found_by):
    """Truth and what judges of these hit rates predict, [windows, length] each."""
    truth = np.zeros((windows, length))
    for w in range(windows // 2):
        places = rng.integers(0, length, rng.integers(1, 4))
        truth[w, places] = rng.uniform(2, 10, len(places))
    predicted = [
        np.where(rng.random((windows, 1)) < rate, truth * rng.uniform(0.5, 1.3, truth.shape), 0)
        + (rng.random(truth.shape) < 0.03) * rng.uniform(2, 10, truth.shape)
        for rate in found_by
    ]
    return truth, predicted


def _moments(truth, prediction):
    windows, length = truth.shape
    return token_moments(truth.ravel(), prediction.ravel(), np.arange(windows) * length)


@pytest.mark.parametrize("windows", [10, 40])
def test_equal_simulations_are_told_apart_as_seldom_as_it_says(windows):
    rng = np.random.default_rng(2)
    features = 1500
    moments = {"a": [], "b": []}
    for _ in range(features):
        truth, predicted = _windows(rng, windows, 16, (0.7, 0.7))
        for name, prediction in zip("ab", predicted, strict=True):
            moments[name].append(_moments(truth, prediction))
    feature = np.repeat(np.arange(features), windows)
    a, b = (np.concatenate(moments[name]) for name in "ab")
    p = correlations_apart(feature, a, b, features)
    assert 0.03 <= (p <= 0.05).mean() <= 0.075
    assert (p <= 0.005).mean() <= 0.015
    assert correlations_apart(feature, a, a, features).tolist() == [1.0] * features


def test_correlations_are_told_apart_by_their_jackknife():
    rng = np.random.default_rng(4)
    truth, (a, b) = _windows(rng, 30, 12, (0.95, 0.4))
    value = float(pearson(truth.ravel(), a.ravel()) - pearson(truth.ravel(), b.ravel()))
    left = [
        float(
            pearson(np.delete(truth, w, 0).ravel(), np.delete(a, w, 0).ravel())
            - pearson(np.delete(truth, w, 0).ravel(), np.delete(b, w, 0).ravel())
        )
        for w in range(30)
    ]
    error = math.sqrt(29 / 30 * sum((one - np.mean(left)) ** 2 for one in left))
    expected = 2 * stats.t.sf(abs(value / error), 29)
    # The feature is the second of two, of which the first has too few windows.
    feature = np.r_[0, 0, np.ones(30, int)]
    of_a, of_b = (np.r_[_moments(truth, p)[:2], _moments(truth, p)] for p in (a, b))
    found = correlations_apart(feature, of_a, of_b, 2)
    assert math.isnan(found[0])
    assert found[1] == pytest.approx(expected)


def test_tokens_without_a_prediction_are_left_out():
    truth, prediction = np.array([1.0, 2, 0, 5, 1]), np.array([3.0, np.nan, 1, np.nan, np.nan])
    found = token_moments(truth, prediction, np.array([0, 3]))
    assert found.tolist() == [[2, 1, 4, 1, 10, 3], [0, 0, 0, 0, 0, 0]]


def _scores(rng, firing, silent, apart):
    base = rng.normal(0, 0.5, firing + silent)
    truth = np.arange(firing + silent) < firing
    return truth, [d * truth + base + rng.normal(0, 0.85, len(truth)) for d in apart]


def test_equal_rankings_are_told_apart_as_seldom_as_it_says():
    rng = np.random.default_rng(6)
    features = 1500
    rows = [_scores(rng, 20, 30, (1.2, 1.2)) for _ in range(features)]
    truth = np.concatenate([truth for truth, _ in rows])
    a, b = (np.concatenate([scores[i] for _, scores in rows]) for i in (0, 1))
    feature = np.repeat(np.arange(features), 50)
    p = aurocs_apart(feature, truth, a, np.exp(b / 2), features)  # only the order counts
    assert 0.03 <= (p <= 0.05).mean() <= 0.07
    assert aurocs_apart(feature, truth, a, 3 * a, features).tolist() == [1.0] * features


def test_aurocs_are_told_apart_by_delong():
    rng = np.random.default_rng(8)
    truth, (a, b) = _scores(rng, 12, 18, (2, 0.3))
    a, b = np.round(a, 1), np.round(b, 1)  # with ties

    def share(x, y):
        return np.mean([[(p > q) + (p == q) / 2 for q in y] for p in x], axis=1)

    ten = share(a[truth], a[~truth]) - share(b[truth], b[~truth])
    one = share(-a[~truth], -a[truth]) - share(-b[~truth], -b[truth])
    value = float(auroc(truth, a) - auroc(truth, b))
    assert ten.mean() == pytest.approx(value)
    error = math.sqrt(ten.var(ddof=1) / 12 + one.var(ddof=1) / 18)
    feature = np.r_[np.zeros(4, int), np.ones(30, int)]
    found = aurocs_apart(feature, np.r_[truth[-4:], truth], np.r_[a[-4:], a], np.r_[b[-4:], b], 2)
    assert math.isnan(found[0])
    assert found[1] == pytest.approx(2 * stats.t.sf(abs(value / error), 11))


@pytest.mark.parametrize("test", ["answers", "tokens", "ranks"])
def test_nothing_judged_gives_nothing(test):
    none = np.zeros(0, int)
    found = {
        "answers": lambda: mcnemar(none, none > 0, none > 0, 2),
        "tokens": lambda: correlations_apart(none, np.zeros((0, 6)), np.zeros((0, 6)), 2),
        "ranks": lambda: aurocs_apart(none, none > 0, none + 0.0, none + 0.0, 2),
    }[test]()
    assert np.isnan(found).tolist() == [True, True]
