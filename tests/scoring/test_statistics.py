import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autointerp.scoring.statistics import balanced_accuracy, correlation, population, wilson


def test_wilson_matches_published_values():
    # Newcombe 1998, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_covers_the_truth():
    rng = np.random.default_rng(0)
    for rate in (0.1, 0.5, 0.9):
        draws = rng.binomial(20, rate, 2000)
        intervals = [wilson(int(k), 20) for k in draws]
        covered = np.mean([low <= rate <= high for low, high in intervals])
        assert covered > 0.92


def test_balanced_accuracy_is_the_mean_of_the_rates():
    truth = np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    prediction = np.array([1, 1, 1, 0, 1, 0], dtype=bool)
    estimate = balanced_accuracy(truth, prediction)
    assert estimate.value == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert estimate.n == 6
    assert 0 <= estimate.ci_low < estimate.value < estimate.ci_high <= 1


def test_balanced_accuracy_interval_covers_the_truth():
    rng = np.random.default_rng(1)
    truth = np.repeat([True, False], 20)
    for hit_rate, alarm_rate in ((0.9, 0.1), (0.75, 0.4), (0.5, 0.5)):
        true_value = (hit_rate + 1 - alarm_rate) / 2
        covered = 0
        for _ in range(1000):
            prediction = rng.random(40) < np.where(truth, hit_rate, alarm_rate)
            estimate = balanced_accuracy(truth, prediction)
            covered += estimate.ci_low <= true_value <= estimate.ci_high
        assert covered / 1000 > 0.93


def test_a_class_without_windows_is_missing_and_not_zero():
    only = np.ones(5, dtype=bool)
    assert np.isnan(balanced_accuracy(only, only).value)
    assert balanced_accuracy(only, only).n == 0
    assert np.isnan(population(only, only, 0.01, 0)["population_f1"].value)


def test_population_f1_falls_with_density():
    truth = np.repeat([True, False], 100)
    prediction = truth.copy()
    prediction[:5] = False
    prediction[-5:] = True
    values = [
        population(truth, prediction, density, 0)["population_f1"].value
        for density in (0.5, 1e-2, 1e-3)
    ]
    # At 95 % true positive and 95 % true negative rate: .95, .27 and .04 in the long run.
    assert values[0] == pytest.approx(0.95, abs=0.03)
    assert values[1] == pytest.approx(0.27, abs=0.07)
    assert values[2] == pytest.approx(0.037, abs=0.015)


def test_no_false_alarm_among_few_windows_does_not_mean_precision_one():
    truth = np.repeat([True, False], 20)
    precision = population(truth, truth, 1e-3, 0)["population_precision"]
    assert precision.ci_low < 0.1
    assert precision.value < 0.5


floats = st.floats(0, 10, width=32)
windows = st.lists(
    st.tuples(
        hnp.arrays(np.float32, 8, elements=floats), hnp.arrays(np.float32, 8, elements=floats)
    ),
    min_size=1,
    max_size=6,
)


@given(windows)
def test_correlation_equals_numpy_over_all_tokens(pairs):
    truths, predictions = [list(side) for side in zip(*pairs, strict=True)]
    estimate = correlation(truths, predictions, 0)
    t, p = np.concatenate(truths).astype(float), np.concatenate(predictions).astype(float)
    if t.std() < 1e-3:
        return
    if p.std() < 1e-3:
        assert abs(estimate.value) <= 1
        return
    assert estimate.value == pytest.approx(np.corrcoef(t, p)[0, 1], abs=1e-6)
    assert estimate.ci_low <= estimate.value <= estimate.ci_high
    assert estimate.n == len(pairs)


def test_a_constant_prediction_scores_zero_and_a_constant_truth_is_missing():
    varied = [np.arange(4, dtype=np.float32)]
    constant = [np.full(4, 3, dtype=np.float32)]
    assert correlation(varied, constant, 0).value == 0
    assert np.isnan(correlation(constant, varied, 0).value)
    assert np.isnan(correlation([], [], 0).value)
