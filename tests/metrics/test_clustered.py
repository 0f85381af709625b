import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autointerp.metrics.clustered import MIN_CLUSTERS, MIN_FEATURES, clustered_mean, holm


def _normal(rng, shape):
    return rng.normal(0.1, 1, shape), 0.1


def _mostly_equal(rng, shape):
    """As scores of forty windows differ: most features not at all, some by a few windows."""
    steps = rng.integers(-4, 9, shape) / 40
    return np.where(rng.random(shape) < 0.6, 0, steps), 0.4 * 2 / 40


def _heavy(rng, shape):
    return rng.standard_t(3, shape), 0.0


@pytest.mark.parametrize("draw", [_normal, _mostly_equal, _heavy])
@pytest.mark.parametrize("features", [MIN_FEATURES, 60])
def test_intervals_of_independent_features_hold_the_mean_as_often_as_they_say(draw, features):
    samples, truth = draw(np.random.default_rng(7), (1000, features))
    found = [clustered_mean(sample) for sample in samples]
    covered = np.mean([one.ci_low <= truth <= one.ci_high for one in found])
    # 0.0069 is the standard error of a share of 0.95 among a thousand.
    assert 0.95 - 0.03 <= covered <= 0.95 + 0.02


@pytest.mark.parametrize("size", [5, 10])
@pytest.mark.parametrize("clusters", [20, 40])
@pytest.mark.parametrize("crossed", [False, True], ids=["same requests", "other requests"])
def test_a_shift_that_clusters_share_is_not_taken_for_a_difference(size, clusters, crossed):
    rng = np.random.default_rng(11)
    n, wrong, naive = size * clusters, 0, 0
    repeats = 500
    for _ in range(repeats):
        first = np.arange(n) // size
        second = rng.permutation(n) // size if crossed else first
        shift = rng.normal(0, 0.03, (2, clusters))
        differences = shift[0, first] + shift[1, second] + rng.normal(0, 0.1, n)
        wrong += clustered_mean(differences, [first, second]).p <= 0.05
        naive += clustered_mean(differences).p <= 0.05
    assert 0.03 - 0.01 <= wrong / repeats <= 0.07 + 0.01
    assert naive / repeats > 0.075


@given(
    st.lists(
        st.tuples(st.floats(-1, 1), st.integers(0, 9), st.integers(0, 9), st.integers(0, 30)),
        min_size=MIN_FEATURES,
        max_size=60,
    )
)
def test_the_variance_is_that_of_all_linked_pairs(rows):
    differences, *groups = (np.array(column) for column in zip(*rows, strict=True))
    found = clustered_mean(differences, groups)
    n = len(differences)
    effective = [n**2 / sum(np.bincount(g) ** 2) for g in groups]
    clusters = min(e for g, e in zip(groups, effective, strict=True) if len(set(g)) < n)
    assert found.clusters == pytest.approx(clusters)
    if clusters < MIN_CLUSTERS:
        assert math.isnan(found.ci_low)
        assert found.p is None
        return
    e = differences - differences.mean()
    linked = [
        e[i] * e[j] for i, j in product(range(n), repeat=2) if any(g[i] == g[j] for g in groups)
    ]
    alone = [
        sum(e[i] * e[j] for i, j in product(range(n), repeat=2) if g[i] == g[j]) for g in groups
    ]
    variance = max(sum(linked), *alone) / n**2 * clusters / (clusters - 1)
    half = stats.t.ppf(0.975, clusters - 1) * math.sqrt(max(variance, 0))
    assert found.ci_high - found.value == pytest.approx(half, abs=1e-7)


def test_equal_clusters_are_compared_by_their_means():
    rng = np.random.default_rng(3)
    request = np.repeat(np.arange(25), 4)
    differences = rng.normal(0.02, 0.1, 100)
    found = clustered_mean(differences, [request, request, np.arange(100)])
    expected = stats.ttest_1samp(differences.reshape(25, 4).mean(1), 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.ci_low, found.ci_high) == pytest.approx(expected.confidence_interval(0.95))
    assert found.clusters == 25


def test_interval_and_p_value_agree():
    rng = np.random.default_rng(5)
    for shift in np.linspace(-0.1, 0.1, 41):
        found = clustered_mean(shift + rng.normal(0, 0.1, 60), [np.arange(60) // 3])
        assert (found.p <= 0.05) == (not found.ci_low <= 0 <= found.ci_high)


def test_groups_that_overlap_do_not_run_together_into_one():
    """Requests of ten features in one run, of seven in the other: a chain over all features."""
    n = 210
    found = clustered_mean(
        np.random.default_rng(1).normal(size=n), [np.arange(n) // 10, np.arange(n) // 7]
    )
    assert found.clusters == 21
    assert found.p is not None


@pytest.mark.parametrize("features", [0, 1, MIN_FEATURES - 1])
def test_few_features_have_a_mean_and_no_interval(features):
    found = clustered_mean(np.full(features, 0.5))
    assert found.n == features
    assert math.isnan(found.ci_low)
    assert math.isnan(found.ci_high)
    assert found.p is None


def test_few_clusters_have_a_mean_and_no_interval():
    request = np.arange(100) // 25
    found = clustered_mean(np.linspace(0, 1, 100), [request])
    assert found.value == pytest.approx(0.5)
    assert found.clusters == 4
    assert found.p is None
    assert math.isnan(found.ci_low)


def test_no_difference_has_no_p_value():
    found = clustered_mean(np.zeros(50))
    assert (found.ci_low, found.ci_high, found.p) == (0, 0, None)


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([None]) == [None]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_by_its_definition(p):
    found = holm(p)
    order = sorted(range(len(p)), key=lambda i: p[i])
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        assert found[i] == pytest.approx(largest)
