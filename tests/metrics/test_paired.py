import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.metrics.paired import MIN_FEATURES, mean_difference, sign_test


def _normal(rng, shape):
    return rng.normal(0.1, 1, shape), 0.1


def _mostly_equal(rng, shape):
    """As scores of forty windows differ: most features not at all, some by a few windows."""
    steps = rng.integers(-4, 9, shape) / 40
    return np.where(rng.random(shape) < 0.6, 0, steps), 0.4 * 2 / 40


@pytest.mark.parametrize("draw", [_normal, _mostly_equal])
@pytest.mark.parametrize("features", [MIN_FEATURES, 60])
def test_intervals_hold_the_true_mean_as_often_as_they_say(draw, features):
    samples, truth = draw(np.random.default_rng(7), (1000, features))
    intervals = [mean_difference(sample) for sample in samples]
    covered = np.mean([found.ci_low <= truth <= found.ci_high for found in intervals])
    # 0.0069 is the standard error of a share of 0.95 among a thousand.
    assert 0.95 - 0.03 <= covered <= 0.95 + 0.02


def test_pairing_takes_out_that_some_features_are_harder():
    rng = np.random.default_rng(3)
    hardness = rng.normal(0, 10, 200)
    a, b = hardness + rng.normal(0, 0.1, 200), hardness + 0.1 + rng.normal(0, 0.1, 200)
    found = mean_difference(b - a)
    assert 0 < found.ci_low < 0.1 < found.ci_high < 0.2


def test_bunches_of_many_features_give_the_interval_of_single_ones():
    sample = np.random.default_rng(5).normal(2, 3, 50_001)
    found = mean_difference(sample)
    half = 1.96 * sample.std() / math.sqrt(len(sample))
    assert found.value == pytest.approx(sample.mean())
    assert found.ci_low == pytest.approx(sample.mean() - half, abs=0.1 * half)
    assert found.ci_high == pytest.approx(sample.mean() + half, abs=0.1 * half)


def test_few_features_have_a_mean_and_no_interval():
    found = mean_difference(np.full(MIN_FEATURES - 1, 0.5))
    assert (found.value, found.n) == (0.5, MIN_FEATURES - 1)
    assert math.isnan(found.ci_low)
    assert math.isnan(found.ci_high)
    assert math.isnan(mean_difference(np.zeros(0)).value)


def test_the_same_differences_have_the_same_interval():
    sample = np.random.default_rng(9).normal(size=100)
    assert mean_difference(sample) == mean_difference(sample)
    assert mean_difference(sample) != mean_difference(sample, seed=1)


@given(st.lists(st.sampled_from([-0.5, -0.1, 0.0, 0.2]), max_size=40))
def test_the_sign_test_is_the_binomial_one(differences):
    higher, lower = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    n = higher + lower
    found = sign_test(np.array(differences))
    if n == 0:
        assert found is None
        return
    tail = sum(math.comb(n, k) for k in range(min(higher, lower) + 1)) / 2**n
    assert found == pytest.approx(min(1.0, 2 * tail))
