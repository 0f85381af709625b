import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autointerp.metrics.estimates import Counts, balanced_accuracy, wilson
from autointerp.metrics.graded import graded
from autointerp.metrics.sequential import anytime_balanced_accuracy


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


def counts(density=0.1, shares=None, **answers):
    """answers: stratum → (said yes, of how many)."""
    yes = {name: k for name, (k, _) in answers.items()}
    return Counts(density, shares or {"other": 1.0}, yes, {s: n for s, (_, n) in answers.items()})


def test_balanced_accuracy_is_the_mean_of_the_rates():
    estimate = balanced_accuracy(counts(fires=(3, 4), other=(1, 2)))
    assert estimate.value == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert estimate.n == 6
    assert 0 <= estimate.ci_low < estimate.value < estimate.ci_high <= 1


def test_silent_strata_count_by_their_share_of_the_corpus():
    shares = {"similar": 0.1, "other": 0.9}
    found = counts(shares=shares, fires=(4, 4), similar=(5, 5), other=(0, 5))
    assert balanced_accuracy(found).value == pytest.approx((1 + 0.9) / 2)
    assert balanced_accuracy(found, only="similar").value == pytest.approx(0.5)
    # A stratum of which nothing was judged leaves its share to the others.
    found = counts(shares={"similar": 0.5, "other": 0.5}, fires=(4, 4), other=(1, 4))
    assert balanced_accuracy(found).value == pytest.approx((1 + 3 / 4) / 2)


SHARES = {"similar": 0.08, "same_token": 0.1, "other": 0.82}
QUOTAS = {"similar": 9, "same_token": 9, "other": 12}


def answered(rng, hit_rate, alarm_rates, density=0.05):
    """What a judge of known rates says of 20 activating and 30 silent windows."""
    strata = {s: (int(rng.binomial(n, alarm_rates[s])), n) for s, n in QUOTAS.items()}
    return counts(density, SHARES, fires=(int(rng.binomial(20, hit_rate)), 20), **strata)


JUDGES = [
    (0.95, {"similar": 0.3, "same_token": 0.2, "other": 0.02}),
    (0.7, {"similar": 0.5, "same_token": 0.6, "other": 0.1}),
    (0.5, {"similar": 0.5, "same_token": 0.5, "other": 0.5}),
]


@pytest.mark.parametrize(("hit_rate", "alarm_rates"), JUDGES)
def test_balanced_accuracy_interval_covers_the_truth(hit_rate, alarm_rates):
    rng = np.random.default_rng(1)
    truth = (hit_rate + 1 - sum(SHARES[s] * alarm_rates[s] for s in SHARES)) / 2
    found = [balanced_accuracy(answered(rng, hit_rate, alarm_rates)) for _ in range(1500)]
    # Rates of few windows move in steps: coverage is 95 % on average, not at every rate.
    assert np.mean([e.ci_low <= truth <= e.ci_high for e in found]) > 0.93
    assert np.mean([e.value for e in found]) == pytest.approx(truth, abs=0.01)


def test_a_class_without_windows_is_missing_and_not_zero():
    for only in (counts(fires=(5, 5)), counts(other=(0, 5)), counts()):
        assert np.isnan(balanced_accuracy(only).value)
        assert balanced_accuracy(only).n == 0


def test_windows_with_many_firings_weigh_less_for_all_windows():
    found = Counts(0.1, {"other": 1.0})
    for firings, hit in ((1, False), (1, True), (4, True), (4, True)):
        found.add("fires", hit, firings)
    found.add("other", False)
    hits, n = found.firing_windows()
    assert n == 3.0  # 2.5² / 2.125 = 2.94
    assert hits == 1.75  # 1.5 / 2.5 of them, in quarters
    assert found.firing() == (3, 4)
    assert counts(fires=(3, 4)).firing_windows() == (3, 4)


@pytest.mark.parametrize(("hit_rate", "alarm_rates"), JUDGES)
def test_anytime_intervals_cover_at_every_look(hit_rate, alarm_rates):
    rng = np.random.default_rng(4)
    truth = (hit_rate + 1 - sum(SHARES[s] * alarm_rates[s] for s in SHARES)) / 2
    missed = fixed_missed = 0
    runs = 60
    for _ in range(runs):
        growing = counts(0.05, SHARES)
        outside = fixed_outside = False
        for look in range(40):
            for s, rate in [("fires", hit_rate), *alarm_rates.items()]:
                growing.add(s, bool(rng.random() < rate))
            if look % 2:
                found = anytime_balanced_accuracy(growing)
                outside |= not found.ci_low <= truth <= found.ci_high
                fixed = balanced_accuracy(growing)
                fixed_outside |= not fixed.ci_low <= truth <= fixed.ci_high
        missed += outside
        fixed_missed += fixed_outside
    assert missed / runs <= 0.05
    # Looking at a fixed interval again and again is what must not be done.
    assert fixed_missed / runs > 0.1


def test_an_anytime_interval_narrows_and_holds_the_value():
    widths = []
    for n in (2, 10, 50, 250):
        found = anytime_balanced_accuracy(counts(fires=(n, n), other=(0, n)))
        assert found.ci_low < found.value == found.ci_high == 1
        widths.append(found.ci_high - found.ci_low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.03
    assert np.isnan(anytime_balanced_accuracy(counts(fires=(3, 3))).value)


def dense_judge(rng, hit_of_one, hit_of_many):
    """Answers by a judge that finds windows with many firings more, or less, often than others.

    Of windows that fire, drawn by firing; with the balanced accuracy over all windows.
    """
    firings = np.array([1, 2, 4, 8, 16, 30])
    among_windows = np.array([0.3, 0.2, 0.2, 0.15, 0.1, 0.05])
    hit = np.linspace(hit_of_one, hit_of_many, len(firings))
    truth = (among_windows @ hit + 0.9) / 2
    by_firing = among_windows * firings / (among_windows @ firings)

    def answers(found, windows):
        for i in rng.choice(len(firings), windows, p=by_firing):
            found.add("fires", bool(rng.random() < hit[i]), int(firings[i]))
        for _ in range(windows * 3 // 2):
            found.add("other", bool(rng.random() < 0.1))

    return answers, truth


@pytest.mark.parametrize("rates", [(0.3, 0.95), (0.6, 0.6), (0.9, 0.4), (0.95, 0.99)])
def test_balanced_accuracy_is_over_windows_not_over_firings(rates):
    """Of firings, balanced accuracy would be up to .16 too high, its interval too narrow for it."""
    rng = np.random.default_rng(5)
    answers, truth = dense_judge(rng, *rates)
    estimates, alike = [], []
    for _ in range(600):
        found = counts(0.3)
        answers(found, 20)
        estimates.append(balanced_accuracy(found))
        hits, n = found.firing()
        alike.append((hits / n + 0.9) / 2)
    assert np.mean([e.value for e in estimates]) == pytest.approx(truth, abs=0.02)
    assert np.mean([e.ci_low <= truth <= e.ci_high for e in estimates]) > 0.93
    assert {e.n for e in estimates} == {50}
    if abs(rates[0] - rates[1]) > 0.3:
        assert abs(np.mean(alike) - truth) > 0.08


@pytest.mark.parametrize("rates", [(0.3, 0.95), (0.9, 0.4)])
def test_anytime_intervals_are_of_windows_too(rates):
    rng = np.random.default_rng(6)
    answers, truth = dense_judge(rng, *rates)
    missed = 0
    for _ in range(40):
        growing, outside = counts(0.3), False
        for _ in range(10):
            answers(growing, 8)
            found = anytime_balanced_accuracy(growing)
            assert found.value == pytest.approx(balanced_accuracy(growing).value)
            outside |= not found.ci_low <= truth <= found.ci_high
        missed += outside
    assert missed / 40 <= 0.05


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
    estimate = graded(truths, predictions, 0)["correlation"]
    t, p = np.concatenate(truths).astype(float), np.concatenate(predictions).astype(float)
    if t.std() < 1e-3:
        return
    if p.std() < 1e-3:
        assert abs(estimate.value) <= 1
        return
    assert estimate.value == pytest.approx(np.corrcoef(t, p)[0, 1], abs=1e-6)
    assert len(pairs) == 1 or estimate.ci_low <= estimate.value <= estimate.ci_high
    assert estimate.n == len(pairs)


def test_a_constant_prediction_scores_zero_and_a_constant_truth_is_missing():
    varied = [np.arange(4, dtype=np.float32)]
    constant = [np.full(4, 3, dtype=np.float32)]
    assert graded(varied, constant, 0)["correlation"].value == 0
    assert np.isnan(graded(constant, varied, 0)["correlation"].value)
    assert np.isnan(graded([], [], 0)["correlation"].value)
