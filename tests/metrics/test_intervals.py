import numpy as np
import pytest
import scipy.stats

from autointerp.metrics.confusion import Confusion
from autointerp.metrics.estimates import jeffreys, wilson
from autointerp.metrics.intervals import bootstrap
from autointerp.metrics.metrics import BINARY, auroc, pearson


def test_jeffreys_is_the_middle_of_the_posterior():
    for successes, n in ((1, 10), (5, 10), (9, 10), (3, 200)):
        expected = scipy.stats.beta(successes + 0.5, n - successes + 0.5).ppf((0.025, 0.975))
        assert jeffreys(successes, n) == pytest.approx(expected)
    assert jeffreys(0, 20)[0] == 0
    assert jeffreys(20, 20)[1] == 1
    assert jeffreys(0, 0) == (0, 1)
    # Nothing found is not nothing there.
    assert jeffreys(0, 20)[1] == pytest.approx(0.1166, abs=1e-4)
    with pytest.raises(ValueError, match="3 successes of 2"):
        jeffreys(3, 2)


@pytest.mark.parametrize("interval", [wilson, jeffreys])
@pytest.mark.parametrize("n", [10, 20, 50, 100])
def test_intervals_of_a_proportion_cover_it(interval, n):
    # Exact: every number of successes by its chance. Both are made to cover 95 % on average over
    # the rates, not at each one: counts are whole, so that coverage jumps from rate to rate. The
    # average must be within one point of 95 %. At single rates between .05 and .95 Brown, Cai and
    # DasGupta 2001 (figures 5 and 11) show dips to about .86 to .90 at these n; .85 is asked for.
    rates = np.linspace(0.05, 0.95, 181)
    low, high = np.array([interval(k, n) for k in range(n + 1)]).T
    chances = scipy.stats.binom.pmf(np.arange(n + 1), n, rates[:, None])
    covers = (low <= rates[:, None]) & (rates[:, None] <= high)
    coverage = (chances * covers).sum(1)
    assert abs(coverage.mean() - 0.95) < 0.01
    assert coverage.min() > 0.85


@pytest.mark.parametrize("interval", [wilson, jeffreys])
def test_coverage_by_simulation(interval):
    # 2,000 draws know a coverage of 95 % to ±1 point (two standard errors).
    rng = np.random.default_rng(0)
    rates = rng.random(2000)
    draws = rng.binomial(30, rates)
    intervals = [interval(int(k), 30) for k in draws]
    covered = [low <= rate <= high for (low, high), rate in zip(intervals, rates, strict=True)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)


LENGTH = 8


def simulated(rng, windows, overlooked=0.0):
    """Truths and predictions [windows, LENGTH], as a simulation of a feature gives them.

    Every second window fires, as strongly as the window goes, on a quarter of its tokens; some
    windows are overlooked as a whole, some silent tokens are marked, and a window's predictions
    share an offset: tokens of one window are far from independent.
    """
    shape = windows, LENGTH
    fires = np.arange(windows)[:, None] % 2 == 0
    level = rng.uniform(2, 10, (windows, 1))
    truths = fires * (rng.random(shape) < 0.25) * level * rng.uniform(0.5, 1.5, shape)
    noticed = rng.random((windows, 1)) >= overlooked
    predictions = truths * noticed * rng.uniform(0.5, 1.5, shape)
    predictions += 3 * (rng.random(shape) < 0.05) + rng.normal(0, 0.5, (windows, 1))
    return truths, predictions


@pytest.mark.parametrize(
    ("windows", "overlooked", "asked"),
    [(10, 0, 0.91), (20, 0, 0.91), (50, 0, 0.91), (20, 0.2, 0.85), (50, 0.2, 0.85)],
)
def test_the_bootstrap_covers_a_correlation(windows, overlooked, asked):
    # Nominal is 95 %, and 300 runs know a coverage to ±2.5 points (two standard errors): 91 % is
    # asked for where predictions err alike in all windows. Where one window in five is overlooked
    # as a whole, ten firing windows may hold none of these, and no resampling knows what it has
    # not seen: the lower end is too high, and what is asked for says so.
    rng = np.random.default_rng(0)
    corpus = simulated(rng, 100_000, overlooked)
    expected = float(pearson(*(side.ravel() for side in corpus)))
    runs, covered = 300, 0
    for run in range(runs):
        truths, predictions = simulated(rng, windows, overlooked)
        estimate = bootstrap(pearson, list(truths), list(predictions), seed=run)
        covered += estimate.ci_low <= expected <= estimate.ci_high
    print(windows, overlooked, covered / runs)
    assert asked < covered / runs < 0.99


def test_resampling_tokens_instead_of_windows_would_not_cover():
    rng = np.random.default_rng(1)
    windows = 20
    truths, predictions = simulated(rng, windows)
    by_window = bootstrap(pearson, list(truths), list(predictions), seed=0)
    by_token = bootstrap(pearson, truths.reshape(-1, 1), predictions.reshape(-1, 1), seed=0)
    assert by_token.value == by_window.value
    assert by_token.n == windows * LENGTH
    width = by_window.ci_high - by_window.ci_low
    assert by_token.ci_high - by_token.ci_low < width


def rows(truths, predictions):
    return [np.array([t]) for t in truths], [np.array([p]) for p in predictions]


def test_the_bootstrap_draws_whole_windows():
    # A brute-force oracle: repeat the windows of every draw and ask the metric anew.
    rng = np.random.default_rng(2)
    lengths = (3, 1, 5, 2, 4, 6, 2, 3)
    truths = [rng.random(n) < 0.5 for n in lengths]
    scores = [rng.random(n) for n in lengths]
    weights = [rng.random(n) for n in lengths]
    counts = np.random.default_rng(7).multinomial(8, np.full(8, 1 / 8), size=1000)
    draws = []
    for count in counts:
        chosen = np.repeat(np.arange(8), count)
        sides = [np.concatenate([side[i] for i in chosen]) for side in (truths, scores, weights)]
        draws.append(float(auroc(*sides)))
    estimate = bootstrap(auroc, truths, scores, seed=7, weights=weights)
    t = scipy.stats.t.ppf(0.025, 7) * np.sqrt(8 / 7)
    tails = scipy.stats.norm.cdf([t, -t])
    low, high = np.nanquantile(draws, tails)
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx((low, high))
    assert estimate.n == 8


def test_a_seed_gives_the_same_interval_and_long_windows_the_same_as_short():
    rng = np.random.default_rng(3)
    truths, predictions = simulated(rng, 20)
    first = bootstrap(pearson, list(truths), list(predictions), seed=5)
    assert bootstrap(pearson, list(truths), list(predictions), seed=5) == first
    # Long enough that the draws are made in several parts.
    longer = [np.tile(side, 20) for side in truths], [np.tile(side, 20) for side in predictions]
    estimate = bootstrap(pearson, *longer, seed=5)
    assert estimate.ci_low == pytest.approx(first.ci_low)
    assert estimate.ci_high == pytest.approx(first.ci_high)


def test_what_windows_cannot_say_is_missing():
    empty = bootstrap(pearson, [], [], seed=0)
    assert np.isnan(empty.value)
    assert empty.n == 0
    # A constant truth has no correlation, and one window no interval.
    constant = bootstrap(pearson, [np.ones(4)] * 3, [np.arange(4.0)] * 3, seed=0)
    assert np.isnan(constant.value)
    one = bootstrap(pearson, [np.arange(4.0)], [np.arange(4.0) ** 2], seed=0)
    assert one.value > 0.9
    assert np.isnan([one.ci_low, one.ci_high]).all()
    # The one positive window is absent from every third draw.
    truths, predictions = rows([True] + [False] * 9, [True, True] + [False] * 8)
    rare = bootstrap(BINARY["recall"], truths, predictions, seed=0)
    assert rare.value == 1
    assert np.isnan([rare.ci_low, rare.ci_high]).all()


def test_metrics_of_draws_of_rates():
    # How precision in the corpus follows from rates and a density, one value a draw.
    recall, alarms, density = np.array([0.9, 0.8]), np.array([0.1, 0.0]), 0.01
    draws = Confusion(
        recall * density, alarms * (1 - density), (1 - recall) * density, (1 - alarms) * 0.99
    )
    assert draws.precision == pytest.approx([0.009 / (0.009 + 0.099), 1])
    assert draws.recall == pytest.approx(recall)
