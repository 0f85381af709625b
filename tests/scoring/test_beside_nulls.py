import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.metrics.estimates import MISSING, Estimate
from autointerp.scoring.beside_nulls import Found, beside_nulls, with_q_values
from autointerp.scoring.scorer import Score


def found(value, density=0.1, parse_rate=1.0):
    estimate = MISSING if value is None else Estimate(value, value, value, 20)
    return Found(estimate, parse_rate, density)


def scored(p_value):
    return Score(0, "detection", "balanced_accuracy", MISSING, None, 1.0, p_value)


@given(st.lists(st.none() | st.floats(0, 1), max_size=30))
def test_q_is_the_lowest_rate_at_which_benjamini_and_hochberg_accept(p_values):
    found = [score.q_value for score in with_q_values([scored(p) for p in p_values])]
    known = sorted(p for p in p_values if p is not None)
    for p_value, q_value in zip(p_values, found, strict=True):
        if p_value is None:
            assert q_value is None
            continue
        # Accepted with k others at the rate m p / k: the least of those at which it would be.
        rates = [len(known) * p / k for k, p in enumerate(known, 1) if p >= p_value]
        assert q_value == pytest.approx(min(1.0, *rates))


def test_lift_is_from_the_middle_of_nulls_of_like_density():
    """F1 of a useless label rises with density: one middle for all would make rare ones useless."""
    densities = np.geomspace(1e-4, 0.5, 200)
    nulls = {i: found(float(q), float(q)) for i, q in enumerate(densities)}
    own = {i: found(0.6, float(q)) for i, q in enumerate(densities)}
    scores = {s.feature: s for s in beside_nulls("detection", "population_f1", own, nulls)}
    for place in (5, 100, 190):
        middle = densities[place]
        assert scores[place].lift == pytest.approx((0.6 - middle) / (1 - middle), abs=0.03)
    assert scores[5].p_value < 0.02


def test_the_null_of_chance_is_chance():
    nulls = {i: found(0.3) for i in range(10)}
    (score,) = beside_nulls("discrimination", "accuracy", {0: found(0.7)}, nulls)
    assert score.null_value == 0.25
    assert score.lift == pytest.approx((0.7 - 0.25) / 0.75)
    assert score.p_value == pytest.approx(1 / 11)


def p_values(metric, own, nulls):
    scores = beside_nulls("simulation", metric, own, nulls)
    return {s.feature: s.p_value for s in scores}


@pytest.mark.parametrize("metric", ["correlation_among_active", "spearman"])
def test_a_label_that_predicts_the_same_everywhere_counts_as_nothing_found(metric):
    """Most useless rules predict nothing; those that have a value are not all there are."""
    nulls = {i: found(None) for i in range(30)} | {30 + i: found(0.2) for i in range(3)}
    own = {i: found(0.1) for i in range(33)}
    found_p = list(p_values(metric, own, nulls).values())
    assert found_p == pytest.approx([4 / 34] * 33)
    # No better than nothing is not good, nor is nothing.
    for bad in (found(0.0), found(-0.3), found(None)):
        assert p_values(metric, {50: bad}, nulls)[50] == 1
    scores = beside_nulls("simulation", metric, {50: found(None)}, nulls)
    assert np.isnan(scores[0].estimate.value)
    assert scores[0].lift is None


def test_windows_that_leave_a_metric_open_count_for_nothing():
    """Where neither label nor null has a value, it may be the windows that have none."""
    nulls = {i: found(None) for i in range(10)} | {i: found(0.2) for i in range(10, 15)}
    own = {i: found(None) for i in range(10)} | {i: found(0.5) for i in range(10, 15)}
    p_value = p_values("spearman", own, nulls)
    assert [p_value[i] for i in range(10)] == [None] * 10
    assert p_value[12] == pytest.approx(1 / 6)


def test_what_could_not_be_read_is_not_nothing_found():
    nulls = {i: found(None, parse_rate=0.0) for i in range(10)} | {10: found(0.2)}
    p_value = p_values("spearman", {0: found(0.5), 1: found(None, parse_rate=0.0)}, nulls)
    assert p_value == {0: pytest.approx(1 / 2), 1: None}


def test_a_metric_without_such_a_rule_is_compared_where_it_is_known():
    nulls = {i: found(None) for i in range(9)} | {9: found(0.6)}
    (score,) = beside_nulls("detection", "balanced_accuracy", {0: found(0.7)}, nulls)
    assert score.p_value == pytest.approx(1 / 2)


def test_useless_rules_are_told_from_nothing_at_the_rate_that_p_says():
    """Over useless labels that have a p-value, with a value or without, it is uniform."""
    rng = np.random.default_rng(0)

    def useless(n):
        has = rng.random(n) < 0.15
        return {
            i: found(float(rng.normal(0, 0.3)) if h else None, float(q))
            for i, (h, q) in enumerate(zip(has, rng.uniform(0.01, 0.3, n), strict=True))
        }

    low = []
    for _ in range(20):
        p_value = p_values("spearman", useless(300), useless(300))
        low += [p <= 0.05 for p in p_value.values() if p is not None]
    assert 0.03 < np.mean(low) < 0.07
