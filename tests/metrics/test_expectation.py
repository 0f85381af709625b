"""What to expect of unmeasured items: intervals that hold, whatever the covariates are worth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.metrics.expectation import MIN_MEASURED, expected

ITEMS = 600


def useless(rng, _confidence, _density):
    return rng.beta(2, 2, ITEMS)


def informative(rng, confidence, _density):
    return confidence - 0.3 + 0.1 * rng.normal(size=ITEMS)


def falling(rng, confidence, _density):
    """The more confident, the worse: no monotone curve fits."""
    return 1.2 - confidence + 0.1 * rng.normal(size=ITEMS)


def by_density(rng, _confidence, density):
    return 0.5 + 0.18 * (density + 3) + 0.1 * rng.normal(size=ITEMS)


def uneven(rng, confidence, density):
    """Where the feature is common, F1 is spread five times as far."""
    spread = 0.05 + 0.05 * (density + 5)
    return 0.4 + 0.5 * (confidence - 0.8) + spread * rng.normal(size=ITEMS)


def of_two_kinds(rng, confidence, _density):
    good = rng.random(ITEMS) < 0.2 + 0.6 * confidence
    return np.where(good, rng.beta(20, 4, ITEMS), rng.beta(1.5, 15, ITEMS))


def world(kind, seed):
    """F1, stated confidence in twentieths with gaps, and other covariates, by a random feature."""
    rng = np.random.default_rng(seed)
    density = rng.uniform(-5, -1, ITEMS)
    confidence = np.round(20 * rng.beta(8, 2, ITEMS)) / 20
    f1 = np.clip(kind(rng, confidence, density), 0, 1)
    confidence[rng.random(ITEMS) < 0.05] = np.nan
    others = [density, np.maximum(density + 3, 0), rng.random(ITEMS) < 0.05, np.ones(ITEMS)]
    return f1, confidence, np.column_stack(others)


def some(f1, n, seed=0):
    measured = np.full(len(f1), np.nan)
    chosen = np.random.default_rng(seed).permutation(len(f1))[:n]
    measured[chosen] = f1[chosen]
    return measured


@pytest.mark.parametrize("n", [MIN_MEASURED, 100])
@pytest.mark.parametrize("kind", [useless, informative, falling, by_density, uneven, of_two_kinds])
def test_intervals_hold_the_truth_of_what_was_not_measured(kind, n):
    held, errors = [], []
    for seed in range(16):
        f1, confidence, others = world(kind, seed)
        found = expected(measured := some(f1, n, seed), confidence, others)
        rest = np.isnan(measured)
        held.append(np.mean(((found.ci_low <= f1) & (f1 <= found.ci_high))[rest]))
        errors.append(np.mean((found.value - f1)[rest]))
        assert ((found.ci_low <= found.value) & (found.value <= found.ci_high)).all()
        assert (found.ci_low >= 0).all()
        assert (found.ci_high <= 1).all()
    assert np.mean(held) > 0.92
    assert abs(np.mean(errors)) < 0.03


def test_what_confidence_says_narrows_intervals_and_orders_items():
    f1, confidence, others = world(informative, 0)
    found = expected(some(f1, 150), confidence, others)
    blind = expected(some(f1, 150), np.full(ITEMS, np.nan), others)
    assert (found.ci_high - found.ci_low).mean() < 0.8 * (blind.ci_high - blind.ci_low).mean()
    assert np.corrcoef(found.value, f1)[0, 1] > 0.65


def test_intervals_are_wide_where_values_are_spread():
    f1, confidence, others = world(uneven, 0)
    found = expected(some(f1, 300), confidence, others)
    width, density = found.ci_high - found.ci_low, others[:, 0]
    assert width[density > -2].mean() > 1.4 * width[density < -4].mean()


def test_a_measured_item_has_no_say_in_what_is_expected_of_it():
    f1, confidence, others = world(informative, 0)
    measured = some(f1, 100)
    before = expected(measured, confidence, others)
    place = int(np.flatnonzero(~np.isnan(measured))[0])
    other = measured.copy()
    other[place] = 1 - measured[place]
    assert expected(other, confidence, others).value[place] == before.value[place]


def test_too_few_measured_items_say_nothing():
    f1, confidence, others = world(informative, 0)
    assert expected(some(f1, MIN_MEASURED - 1), confidence, others) is None
    assert expected(some(f1, MIN_MEASURED), confidence, others) is not None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(MIN_MEASURED, 90), st.sampled_from([0, 0.5, 1]))
def test_more_confidence_never_lowers_what_is_expected(seed, n, gaps):
    rng = np.random.default_rng(seed)
    confidence = np.where(rng.random(n + 50) < gaps, np.nan, rng.integers(0, 4, n + 50) / 3)
    others = np.full((n + 50, 1), np.nan)
    measured = some(np.round(rng.random(n + 50), 1), n, seed)
    found = expected(measured, confidence, others)
    assert not np.isnan([found.value, found.ci_low, found.ci_high]).any()
    rest = np.flatnonzero(np.isnan(measured) & ~np.isnan(confidence))
    ranked = rest[np.argsort(confidence[rest], kind="stable")]
    assert (np.diff(found.value[ranked]) >= -1e-9).all()
