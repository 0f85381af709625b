"""Metrics against scikit-learn, SciPy and brute force, with ties, weights and few rows."""

import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.metrics import metrics
from autointerp.metrics.confusion import confusion
from autointerp.metrics.metrics import BINARY, GRADED, RANKING

ALL = BINARY | RANKING | GRADED


@st.composite
def rows(draw, kind="graded"):
    """Truth, prediction and integer weights of a few rows; few values, so that many are tied."""
    n = draw(st.integers(1, 12))
    bools = st.lists(st.booleans(), min_size=n, max_size=n)
    values = st.one_of(st.integers(0, 3).map(float), st.floats(-10, 10, width=16))
    graded = st.lists(values, min_size=n, max_size=n)
    truth = np.array(draw(graded if kind == "graded" else bools))
    prediction = np.array(draw(bools if kind == "binary" else graded))
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    return truth, prediction, weights


def of_kind(name, truth, prediction):
    """The rows as the metric wants them: bool where it asks for classes."""
    if name in BINARY:
        return truth > 1, prediction > 1
    return (truth > 1, prediction) if name in RANKING else (truth, prediction)


def same(value, expected, tolerance=1e-9):
    assert float(value) == pytest.approx(float(expected), abs=tolerance, nan_ok=True)


def test_confusion_counts_rows_and_weights():
    truth = np.array([1, 1, 1, 0, 0, 0, 0], dtype=bool)
    prediction = np.array([1, 1, 0, 1, 0, 0, 0], dtype=bool)
    c = confusion(truth, prediction)
    assert (c.true_positives, c.false_positives, c.false_negatives, c.true_negatives) == (
        2,
        1,
        1,
        3,
    )
    assert c.precision == c.recall == pytest.approx(2 / 3)
    assert c.specificity == 3 / 4
    c = confusion(truth, prediction, np.array([1, 2, 4, 8, 16, 32, 64]))
    assert (c.true_positives, c.false_positives, c.false_negatives, c.true_negatives) == (
        3,
        8,
        4,
        112,
    )


@settings(deadline=None)
@given(rows("binary"))
def test_binary_metrics_equal_scikit_learn_where_it_has_an_answer(sample):
    truth, prediction, weights = sample
    if weights.sum() == 0:
        return
    has_truth = (weights * truth).sum() > 0, (weights * ~truth).sum() > 0
    has_prediction = (weights * prediction).sum() > 0, (weights * ~prediction).sum() > 0
    by, missing = {"sample_weight": weights}, {"zero_division": np.nan}
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(truth, prediction, **by),
        "precision": sklearn.metrics.precision_score(truth, prediction, **by, **missing),
        "recall": sklearn.metrics.recall_score(truth, prediction, **by, **missing),
        "specificity": sklearn.metrics.recall_score(~truth, ~prediction, **by, **missing),
        "f1": sklearn.metrics.f1_score(truth, prediction, **by, **missing),
        # It has no answer of NaN here, nor below, where it gives 0 or what is left.
        "iou": sklearn.metrics.jaccard_score(truth, prediction, **by, zero_division=0)
        if has_truth[0] or has_prediction[0]
        else np.nan,
        "mcc": sklearn.metrics.matthews_corrcoef(truth, prediction, **by)
        if all(has_truth) and all(has_prediction)
        else np.nan,
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(truth, prediction, **by)
        if all(has_truth)
        else np.nan,
    }
    assert expected.keys() == BINARY.keys()
    for name, value in expected.items():
        same(BINARY[name](truth, prediction, weights), value, 1e-7)


@settings(deadline=None)
@given(rows("ranking"))
def test_ranking_metrics_equal_scikit_learn_and_brute_force(sample):
    truth, score, weights = sample
    positives, negatives = (weights * truth).sum(), (weights * ~truth).sum()
    if positives == 0:
        assert np.isnan(metrics.average_precision(truth, score, weights))
    else:
        expected = sklearn.metrics.average_precision_score(truth, score, sample_weight=weights)
        same(metrics.average_precision(truth, score, weights), expected)
    if positives == 0 or negatives == 0:
        assert np.isnan(metrics.auroc(truth, score, weights))
        return
    wins = np.sign(score[:, None] - score[None, :]) / 2 + 0.5
    pairs = (weights * truth)[:, None] * (weights * ~truth)[None, :]
    same(metrics.auroc(truth, score, weights), (wins * pairs).sum() / pairs.sum())
    expected = sklearn.metrics.roc_auc_score(truth, score, sample_weight=weights)
    same(metrics.auroc(truth, score, weights), expected)


@settings(deadline=None)
@given(rows())
def test_correlations_equal_scipy(sample):
    truth, prediction, _ = sample
    if len(truth) < 2 or min(np.ptp(truth), np.ptp(prediction)) == 0:
        assert np.isnan(metrics.pearson(truth, prediction))
        assert np.isnan(metrics.spearman(truth, prediction))
        return
    same(metrics.spearman(truth, prediction), scipy.stats.spearmanr(truth, prediction).statistic)
    if min(np.ptp(truth), np.ptp(prediction)) > 1e-4:
        same(metrics.pearson(truth, prediction), scipy.stats.pearsonr(truth, prediction).statistic)


@settings(deadline=None)
@given(rows())
def test_explained_variance_and_cosine_equal_scikit_learn(sample):
    truth, prediction, weights = sample
    kept = truth[weights > 0]
    if len(kept) == 0 or np.ptp(kept) == 0:
        assert np.isnan(metrics.explained_variance(truth, prediction, weights))
    elif np.ptp(kept) > 1e-4:
        expected = sklearn.metrics.explained_variance_score(
            truth, prediction, sample_weight=weights
        )
        value = float(metrics.explained_variance(truth, prediction, weights))
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-9)
    if np.abs(truth).max() > 1e-4 and np.abs(prediction).max() > 1e-4:
        expected = sklearn.metrics.pairwise.cosine_similarity([truth], [prediction])[0, 0]
        same(metrics.cosine(truth, prediction), expected)


@settings(deadline=None)
@given(rows())
def test_explained_shares_equal_their_definition(sample):
    truth, prediction, weights = sample
    t, p = np.repeat(truth, weights), np.repeat(prediction, weights)
    if not t.any():
        assert np.isnan(metrics.uncentred_r_squared(truth, prediction, weights))
        assert np.isnan(metrics.absolute_deviation_explained(truth, prediction, weights))
        return
    squares = 1 - ((t - p) ** 2).sum() / (t**2).sum()
    value = float(metrics.uncentred_r_squared(truth, prediction, weights))
    assert value == pytest.approx(squares, rel=1e-9)
    deviations = 1 - np.abs(t - p).sum() / np.abs(t).sum()
    value = float(metrics.absolute_deviation_explained(truth, prediction, weights))
    assert value == pytest.approx(deviations, rel=1e-9)


@settings(deadline=None)
@given(rows())
def test_correlation_among_active_rows_is_that_of_those_rows(sample):
    truth, prediction, _ = sample
    active = truth > 0
    expected = metrics.pearson(truth[active], prediction[active])
    same(metrics.pearson_among_active(truth, prediction), expected, 1e-6)


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None)
@given(sample=rows())
def test_an_integer_weight_is_so_many_equal_rows(name, sample):
    truth, prediction, weights = sample
    truth, prediction = of_kind(name, truth, prediction)
    repeated = ALL[name](np.repeat(truth, weights), np.repeat(prediction, weights))
    value = ALL[name](truth, prediction, weights)
    assert float(value) == pytest.approx(float(repeated), rel=1e-6, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", ALL)
def test_a_row_of_weights_a_draw_gives_a_value_a_draw(name):
    rng = np.random.default_rng(0)
    truth, prediction = of_kind(name, *rng.integers(0, 4, (2, 30)).astype(float))
    draws = rng.integers(0, 3, (2, 5, 30)) * rng.random(30)
    together = ALL[name](truth, prediction, draws)
    assert together.shape == (2, 5)
    for i in np.ndindex(2, 5):
        same(together[i], ALL[name](truth, prediction, draws[i]), 1e-12)


@pytest.mark.parametrize("name", ALL)
def test_the_scale_of_the_weights_does_not_matter(name):
    rng = np.random.default_rng(1)
    truth, prediction = of_kind(name, *rng.integers(0, 4, (2, 30)).astype(float))
    weights = rng.random(30)
    expected = ALL[name](truth, prediction, weights)
    same(ALL[name](truth, prediction, weights * 1e9), expected)
    same(ALL[name](truth, prediction, weights * 1e-9), expected)


YES, NO = np.ones(4, bool), np.zeros(4, bool)
MIXED = np.array([True, True, False, False])
UNDEFINED = {
    "accuracy": [],
    "balanced_accuracy": [(YES, MIXED), (NO, MIXED)],
    "precision": [(MIXED, NO), (YES, NO)],
    "recall": [(NO, MIXED)],
    "specificity": [(YES, MIXED)],
    "f1": [(NO, NO)],
    "iou": [(NO, NO)],
    "mcc": [(YES, MIXED), (NO, MIXED), (MIXED, YES), (MIXED, NO)],
    "average_precision": [(NO, MIXED)],
    "auroc": [(YES, MIXED), (NO, MIXED)],
    "pearson": [(YES, MIXED), (MIXED, NO), (0.1 * YES, MIXED)],
    "pearson_among_active": [(NO, MIXED), (MIXED, MIXED)],
    "spearman": [(YES, MIXED), (MIXED, NO)],
    "cosine": [(NO, MIXED), (MIXED, NO)],
    "explained_variance": [(YES, MIXED), (0.1 * YES, MIXED)],
    "uncentred_r_squared": [(NO, MIXED)],
    "absolute_deviation_explained": [(NO, MIXED)],
}


@pytest.mark.parametrize("name", ALL)
def test_what_is_not_defined_is_missing_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for truth, prediction in UNDEFINED[name]:
            assert np.isnan(ALL[name](truth, prediction))
        nothing = of_kind(name, np.array([]), np.array([]))
        assert np.isnan(ALL[name](*nothing))
        assert np.isnan(ALL[name](MIXED, MIXED, np.zeros(4)))


def test_what_is_defined_at_the_edge_is_not_missing():
    # A label that finds nothing has F1 0 although its precision is not defined.
    assert metrics.BINARY["f1"](MIXED, NO) == 0
    # No preference is chance, not missing.
    assert metrics.auroc(MIXED, np.zeros(4)) == 0.5
    assert metrics.average_precision(MIXED, np.zeros(4)) == 0.5


def test_what_could_not_be_read_is_refused():
    unreadable = np.array([1, 0, np.nan, 0])
    with pytest.raises(ValueError, match="finite"):
        metrics.pearson(MIXED, unreadable)
    with pytest.raises(ValueError, match="finite"):
        metrics.auroc(MIXED, unreadable)
    with pytest.raises(ValueError, match="prediction must be bool"):
        confusion(MIXED, unreadable)
    with pytest.raises(ValueError, match="truth must be bool"):
        metrics.average_precision(unreadable, MIXED)
    with pytest.raises(ValueError, match="shapes"):
        metrics.pearson(MIXED, MIXED[:3])
    with pytest.raises(ValueError, match="weights"):
        metrics.pearson(MIXED, MIXED, np.array([1, 1, -1, 1]))


@settings(deadline=None)
@given(rows("binary"))
def test_binary_data_has_one_correlation(sample):
    truth, prediction, weights = sample
    phi = metrics.BINARY["mcc"](truth, prediction, weights)
    same(metrics.pearson(truth, prediction, weights), phi, 1e-7)
    same(metrics.spearman(truth, prediction, weights), phi, 1e-7)


def test_a_small_spread_about_a_large_mean_is_still_one():
    rng = np.random.default_rng(0)
    truth, prediction = rng.normal(size=(2, 50))
    moved = metrics.pearson(truth + 1e6, prediction - 1e6)
    same(moved, metrics.pearson(truth, prediction), 1e-8)


@pytest.mark.parametrize(
    ("density", "f1", "mcc"), [(1e-2, 0.275, 0.38), (1e-3, 0.037, 0.13), (1e-4, 0.004, 0.04)]
)
def test_importance_weights_give_the_metrics_of_the_corpus(density, f1, mcc):
    # True positive and true negative rates of .95 on half and half, weighted to the density.
    truth = np.repeat([True, False], 100)
    prediction = truth.copy()
    prediction[:5], prediction[-5:] = False, True
    weights = np.where(truth, density, 1 - density)
    same(BINARY["balanced_accuracy"](truth, prediction, weights), 0.95)
    same(BINARY["f1"](truth, prediction, weights), f1, 5e-4)
    same(BINARY["mcc"](truth, prediction, weights), mcc, 5e-3)
