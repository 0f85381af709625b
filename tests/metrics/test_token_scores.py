import math

import numpy as np
import pytest

from autointerp.metrics.token_scores import token_recall


def test_recall_by_hand():
    truths = [np.array([0, 2.0, 5]), np.array([0.5, 0, 0]), np.zeros(3)]
    predictions = [np.array([9, 0.4, 3]), np.array([1.0, 0, 7]), np.full(3, 9.0)]
    assert token_recall(truths, predictions, 0.5).value == pytest.approx((0.5 + 1) / 2)
    assert token_recall(truths, predictions, 0.4).value == 1
    assert token_recall(truths, predictions, 0.5).n == 2
    assert math.isnan(token_recall([np.zeros(3)], [np.ones(3)], 0.5).value)
    assert math.isnan(token_recall([], [], 0.5).value)


def _by_token(rng, firings, rate):
    return rng.random(firings) < rate


def _by_window(rng, firings, rate):
    """A judge that knows a window or does not."""
    return np.full(firings, rng.random() < rate)


def _by_number(rng, firings, rate):
    """One that finds tokens that come together more seldom; right on average."""
    return rng.random(firings) < rate * (1.15 - 0.1 * (firings - 1))


@pytest.mark.parametrize("judge", [_by_token, _by_window, _by_number])
@pytest.mark.parametrize("windows", [5, 20])
def test_recall_is_that_of_the_corpus_and_its_interval_holds_it(judge, windows):
    rng = np.random.default_rng(3)
    # Windows of the corpus have 1 to 4 firings; they are drawn by firing.
    corpus = np.array([0.55, 0.25, 0.15, 0.05])
    firings = np.arange(1, 5)
    drawn = corpus * firings / (corpus * firings).sum()
    rate = 0.8
    expected = {_by_number: rate * (1.15 - 0.1 * (firings - 1)) @ drawn}.get(judge, rate)
    found = []
    for _ in range(1500):
        counts = rng.choice(firings, windows, p=drawn)
        truths = [np.ones(n) for n in counts]
        hits = [judge(rng, n, rate).astype(float) for n in counts]
        found.append(token_recall(truths, hits, 0.5))
    assert np.mean([one.value for one in found]) == pytest.approx(expected, abs=0.01)
    covered = np.mean([one.ci_low <= expected <= one.ci_high for one in found])
    assert covered >= 0.92
