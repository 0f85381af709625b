import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.metrics.clustered import MIN_FEATURES
from autointerp.metrics.unpaired import auroc_interval, compare_unpaired

SCORES = st.lists(st.sampled_from([0.4, 0.5, 0.6, 0.9]), min_size=1, max_size=30)


@given(SCORES, SCORES)
def test_figures_are_those_of_every_pair(real, control):
    found = compare_unpaired(np.array(real), np.array(control))
    wins = [(x > y) + 0.5 * (x == y) for x in real for y in control]
    assert found.auroc == pytest.approx(np.mean(wins))
    assert found.n == (len(real), len(control))
    assert found.difference.value == pytest.approx(np.mean(real) - np.mean(control))
    assert found.above == pytest.approx(np.mean([x > np.quantile(control, 0.95) for x in real]))
    few = min(found.n) < MIN_FEATURES
    assert math.isnan(found.auroc_ci[0]) == few
    assert math.isnan(found.difference.ci_low) == few
    if not few:
        assert 0 <= found.auroc_ci[0] <= found.auroc <= found.auroc_ci[1] <= 1


@pytest.mark.parametrize("steps", [None, 20], ids=["continuous", "with ties"])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_hold_the_truth_as_often_as_they_say(steps, shift):
    rng = np.random.default_rng(0)

    def drawn(n, mean):
        values = 1 / (1 + np.exp(-rng.normal(mean, 1, n)))
        return values if steps is None else np.round(values * steps) / steps

    whole = compare_unpaired(drawn(100_000, shift), drawn(100_000, 0))
    chance = difference = 0
    for _ in range(200):
        found = compare_unpaired(drawn(60, shift), drawn(40, 0))
        chance += found.auroc_ci[0] <= whole.auroc <= found.auroc_ci[1]
        difference += found.difference.ci_low <= whole.difference.value <= found.difference.ci_high
    assert chance >= 0.91 * 200
    assert difference >= 0.91 * 200


def test_the_interval_of_no_overlap_is_no_point():
    low, high = auroc_interval(1.0, 30, 30)
    assert 0.85 < low < 0.99
    assert high == 1.0
    assert auroc_interval(0.0, 30, 30) == pytest.approx((0.0, 1 - low))


def test_without_scores_all_is_missing():
    found = compare_unpaired(np.array([0.5]), np.zeros(0))
    assert found.n == (1, 0)
    assert math.isnan(found.auroc)
    assert math.isnan(found.difference.value)
    assert math.isnan(found.above)
