"""What judgments of some windows say of the whole corpus: coverage, bias, and what is unknown."""

import numpy as np
import pytest
from scipy.stats import binom

from autointerp.metrics.estimates import Counts
from autointerp.metrics.population import MAX_WIDTH, METRICS, population
from autointerp.metrics.rate_priors import alarm_rates, hit_rates

SHARES = {"similar": 0.08, "same_token": 0.1, "other": 0.82}
QUOTAS = {"similar": 6, "same_token": 6, "other": 18}


def counts(density=0.1, shares=None, **answers):
    """answers: stratum → (said yes, of how many)."""
    yes = {name: k for name, (k, _) in answers.items()}
    return Counts(density, shares or {"other": 1.0}, yes, {s: n for s, (_, n) in answers.items()})


def answered(rng, hit_rate, alarm_rates, density):
    """What a judge of known rates says of 20 activating and 30 other windows."""
    strata = {s: (int(rng.binomial(n, alarm_rates[s])), n) for s, n in QUOTAS.items()}
    return counts(density, SHARES, fires=(int(rng.binomial(20, hit_rate)), 20), **strata)


def metrics_of(hit_rate, alarm_rate, density):
    """Precision, recall, F1 and MCC of a judge with these rates, by the definitions."""
    tp, fn = hit_rate * density, (1 - hit_rate) * density
    fp, tn = alarm_rate * (1 - density), (1 - alarm_rate) * (1 - density)
    return {
        "precision": tp / (tp + fp),
        "recall": hit_rate,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "mcc": (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
    }


def test_all_is_missing_where_a_side_was_not_judged_or_there_is_only_one():
    for only in (counts(fires=(5, 5)), counts(other=(0, 5)), counts()):
        assert all(np.isnan(population([only], 0)[0][name].ci_low) for name in METRICS)
    for density in (0.0, 1.0):
        whole = counts(density, fires=(5, 5), other=(1, 5))
        assert np.isnan(population([whole], 0)[0]["f1"].ci_low)
    assert population([], 0) == []


def test_population_metrics_fall_with_density():
    for density, f1 in ((0.5, 0.95), (1e-2, 0.275), (1e-3, 0.037)):
        expected = metrics_of(0.95, 0.05, density)
        assert expected["f1"] == pytest.approx(f1, abs=0.001)
        found = population([counts(density, fires=(9500, 10000), other=(500, 10000))], 0)[0]
        for name, value in expected.items():
            assert found[name].value == pytest.approx(value, rel=0.05)


def test_no_alarm_among_few_windows_of_a_rare_feature_says_nothing_of_its_precision():
    found = population([counts(1e-3, fires=(20, 20), other=(0, 20))], 0)[0]
    for name in ("precision", "f1", "mcc"):
        assert np.isnan(found[name].value), name
        assert found[name].ci_low < 0.2, name
        assert found[name].ci_high > 0.9, name
    assert found["recall"].value > 0.9
    # The middle of what is possible, for those who must have a number.
    assert population([counts(1e-3, fires=(20, 20), other=(0, 20))], 0, 1.0)[0]["f1"].value > 0.1


def test_a_value_is_there_if_and_only_if_its_interval_is_narrow():
    rng = np.random.default_rng(5)
    found, _ = spread_judges(rng, 200)
    shown, all_of_them = population(found, 0), population(found, 0, max_width=1.0)
    for few, every in zip(shown, all_of_them, strict=True):
        for name in METRICS:
            width = few[name].ci_high - few[name].ci_low
            assert np.isnan(few[name].value) == (width > MAX_WIDTH)
            assert (few[name].ci_low, few[name].ci_high) == (
                every[name].ci_low,
                every[name].ci_high,
            )
            assert every[name].ci_low <= every[name].value <= every[name].ci_high


def spread_judges(rng, features):
    """Judges whose rates differ from feature to feature, and what holds for each of them."""
    density = rng.choice([0.003, 0.02, 0.1, 0.4], features)
    hit_rates = rng.beta(6, 2, features)
    alarm_rates = {
        "similar": rng.beta(1, 4, features),
        "same_token": rng.beta(1, 5, features),
        "other": rng.beta(0.3, 15, features),
    }
    found, truths = [], []
    for i in range(features):
        rates = {s: float(r[i]) for s, r in alarm_rates.items()}
        found.append(answered(rng, hit_rates[i], rates, float(density[i])))
        total = sum(SHARES[s] * rates[s] for s in SHARES)
        truths.append(metrics_of(float(hit_rates[i]), total, float(density[i])))
    return found, truths


def precise_judges(rng, features):
    """Judges as precise for rare features as for frequent ones: no alarm is seen of rare ones."""
    found, truths = [], []
    for _ in range(features):
        density = 10 ** rng.uniform(-5, -0.5)
        hit, precision = rng.beta(6, 2), rng.uniform(0.4, 0.95)
        total = hit * density / (1 - density) * (1 - precision) / precision
        # Half of the alarms in the hard strata, which have less than a fifth of the windows.
        rates = {s: min(total * part / SHARES[s], 0.95) for s, part in PARTS.items()}
        found.append(answered(rng, hit, rates, density))
        total = sum(SHARES[s] * rates[s] for s in SHARES)
        truths.append(metrics_of(hit, total, density))
    return found, truths


PARTS = {"similar": 0.3, "same_token": 0.2, "other": 0.5}


@pytest.mark.parametrize("judges", [spread_judges, precise_judges])
@pytest.mark.parametrize("size", [5, 40, 600])
def test_population_intervals_cover_the_truth(judges, size):
    """Whatever the number of features, and whether or not precision depends on the density."""
    found, truths = judges(np.random.default_rng(9), 600)
    parts = [found[i : i + size] for i in range(0, 600, size)]
    estimates = [e for part in parts for e in population(part, 0)]
    for name in METRICS:
        inside = [
            e[name].ci_low <= t[name] <= e[name].ci_high
            for e, t in zip(estimates, truths, strict=True)
        ]
        # Two standard errors of so many, .011 each, below 92 %.
        assert np.mean(inside) > 0.898, name


def test_many_features_tell_more_of_each_than_it_tells_alone():
    found, truths = spread_judges(np.random.default_rng(2), 500)
    together = population(found, 0, max_width=1.0)
    alone = [population([c], 0, max_width=1.0)[0] for c in found[:100]]
    error = [abs(e["f1"].value - t["f1"]) for e, t in zip(together, truths, strict=True)]
    before = [abs(e["f1"].value - t["f1"]) for e, t in zip(alone, truths, strict=False)]
    assert np.mean(error[:100]) < 0.95 * np.mean(before)


def test_nothing_jumps_where_a_feature_is_added():
    found, _ = spread_judges(np.random.default_rng(7), 60)
    for size in (5, 20, 49):
        fewer, more = population(found[:size], 0, 1.0), population(found[: size + 1], 0, 1.0)
        moved = [abs(a["f1"].value - b["f1"].value) for a, b in zip(fewer, more, strict=False)]
        assert np.median(moved) < 0.02, size


def test_frequent_features_show_that_rare_ones_are_precise():
    """Where alarms fall with density, rare features without any are believed to be precise."""
    rng = np.random.default_rng(1)
    falling, _ = precise_judges(rng, 400)
    level = [answered(rng, 0.8, dict.fromkeys(SHARES, 0.05), c.density) for c in falling]
    rare = counts(3e-4, SHARES, fires=(16, 20), **{s: (0, n) for s, n in QUOTAS.items()})
    of_falling = population([*falling, rare], 0, 1.0)[-1]["f1"].value
    of_level = population([*level, rare], 0, 1.0)[-1]["f1"].value
    assert of_falling > 0.5
    assert of_level < 0.05


def test_the_prior_of_hits_is_that_of_the_rates():
    rng = np.random.default_rng(3)
    rates = rng.beta(2, 8, 3000)
    pairs = np.stack([rng.binomial(20, rates), np.full(3000, 20)], axis=1).astype(float)
    found = hit_rates(pairs, 1000, 0)
    mean = found.a / (found.a + found.b)
    assert found.weights.sum() == pytest.approx(1)
    assert found.weights @ mean == pytest.approx(0.2, abs=0.02)
    variance = found.weights @ (mean * (1 - mean) / (found.a + found.b + 1) + mean**2)
    variance -= (found.weights @ mean) ** 2
    assert np.sqrt(variance) == pytest.approx(np.sqrt(0.2 * 0.8 / 11), rel=0.1)


def test_draws_of_alarm_rates_are_of_their_posterior():
    """Against importance sampling: rates drawn with nothing judged, weighed by their likelihood."""
    hard = np.array([True, False])
    density = np.array([0.01])
    learned = alarm_rates(np.zeros((0, 2, 2)), np.zeros(0), hard, 400_000, 0)
    rng = np.random.default_rng(0)
    prior = learned.draw(np.zeros((1, 2, 2)), density, rng)[..., 0]
    for alarms in ((0, 0), (2, 1), (6, 18)):
        answers = np.array([[(alarms[0], 6), (alarms[1], 18)]], dtype=float)
        drawn = np.log(learned.draw(answers, density, rng)[..., 0])
        weights = binom.pmf(alarms[0], 6, prior[0]) * binom.pmf(alarms[1], 18, prior[1])
        for stratum in range(2):
            # Logarithms, since rates lie decades apart.
            expected = np.average(np.log(np.maximum(prior[stratum], 1e-300)), weights=weights)
            assert drawn[stratum].mean() == pytest.approx(expected, abs=0.05), alarms


def test_intervals_hold_where_no_beta_fits_the_rates():
    """A single beta of greatest likelihood as the prior holds 92.6 % of these."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.6, 1, 2000)
    found = [counts(0.05, fires=(int(rng.binomial(20, rate)), 20), other=(1, 20)) for rate in rates]
    estimates = [e["recall"] for e in population(found, 0)]
    held = [e.ci_low <= rate <= e.ci_high for e, rate in zip(estimates, rates, strict=True)]
    assert np.mean(held) > 0.93


def test_a_prior_learned_from_some_of_many_features_is_that_of_all():
    rng = np.random.default_rng(4)
    rates = rng.beta(2, 8, 60_000)
    pairs = np.stack([rng.binomial(20, rates), np.full(60_000, 20)], axis=1).astype(float)
    few, many = hit_rates(pairs[:15_000], 10, 0), hit_rates(pairs, 10, 0)
    mean = few.a / (few.a + few.b)
    assert few.weights @ mean == pytest.approx(many.weights @ mean, abs=0.005)
