import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autointerp.metrics.null_distribution import among_nulls

scores = st.floats(-1, 1, allow_nan=False, width=16)


@given(
    hnp.arrays(np.float64, st.integers(1, 8), elements=scores),
    hnp.arrays(np.float64, st.integers(1, 39), elements=scores),
)
def test_of_few_nulls_p_is_the_plain_share(values, nulls):
    found = among_nulls(values, np.full(len(values), 0.3), nulls, np.linspace(0, 1, len(nulls)))
    expected = [(1 + sum(null >= value for null in nulls)) / (1 + len(nulls)) for value in values]
    assert found.p_value == pytest.approx(expected)
    assert found.middle == pytest.approx(np.full(len(values), np.median(nulls)), abs=1e-8)


def test_what_is_missing_has_no_p_value():
    density = np.array([0.1, 0.2])
    for nulls in (np.zeros(5), np.linspace(0, 1, 60)):
        found = among_nulls(np.array([np.nan, 0.5]), density, nulls, np.linspace(0, 1, len(nulls)))
        assert np.isnan(found.p_value).tolist() == [True, False]
        assert not np.isnan(found.middle).any()
    none = among_nulls(np.array([0.5]), density[:1], np.empty(0), np.empty(0))
    assert np.isnan([none.p_value, none.middle]).all()


def useless(kind, rng, n):
    """Density and value of labels that say nothing, for metrics of several kinds."""
    place = rng.random(n)  # of the density among all, on a scale of logarithms
    density, noise = 10 ** (3.5 * place - 4), rng.standard_normal(n)
    values = {
        "level": 0.5 + 0.08 * noise,
        "wider where dense": 0.5 + (0.02 + 0.12 * place) * noise,
        "in proportion": np.minimum(1.5 * density**0.8 * np.exp(0.7 * noise), 1),
        "heavy tails": 0.5 + (0.02 + 0.05 * place) * rng.standard_t(3, n),
        "some nearly right": np.where(rng.random(n) < 0.03 + 0.07 * place, 0.8, 0.5) + 0.05 * noise,
        "in steps": (rng.binomial(20, 0.4, n) / 20 + 1 - rng.binomial(30, 0.4, n) / 30) / 2,
    }
    return density, values[kind]


KINDS = (
    *("level", "wider where dense", "in proportion", "heavy tails", "some nearly right"),
    "in steps",
)


def shares_by_fifth(kind, nulls, times, alpha=0.05):
    """P(p ≤ alpha) of useless labels, in fifths of their density: [5]."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(times):
        null_density, null_values = useless(kind, rng, nulls)
        density, values = useless(kind, rng, 500)
        p_value = among_nulls(values, density, null_values, null_density).p_value
        found.append(p_value[np.argsort(density)].reshape(5, -1) <= alpha)
    return np.mean(found, axis=(0, 2))


@pytest.mark.parametrize(("nulls", "times"), [(100, 40), (500, 20)])
@pytest.mark.parametrize("kind", KINDS)
def test_p_of_a_useless_label_is_uniform_at_every_density(kind, nulls, times):
    """Against all nulls, F1 gets .00 in the rarest fifth and .2 in the densest."""
    shares = shares_by_fifth(kind, nulls, times)
    assert shares.min() > 0.025
    assert shares.max() < 0.075


def test_p_goes_down_to_about_one_in_so_many_nulls():
    rng = np.random.default_rng(1)
    for nulls in (100, 400, 2000, 5000):
        density, values = useless("wider where dense", rng, nulls)
        best = among_nulls(np.full(50, 9.0), np.geomspace(2e-4, 0.2, 50), values, density).p_value
        assert np.median(best) < 1.1 / nulls
        assert best.min() > 0.7 / nulls


def test_a_part_of_very_many_nulls_stands_for_all():
    rng = np.random.default_rng(7)
    null_density, nulls = useless("wider where dense", rng, 40_000)
    density, values = useless("wider where dense", rng, 5000)
    p_value = among_nulls(values, density, nulls, null_density).p_value
    shares = (p_value[np.argsort(density)].reshape(5, -1) <= 0.05).mean(1)
    assert shares == pytest.approx(np.full(5, 0.05), abs=0.02)


def test_p_falls_as_the_score_rises():
    rng = np.random.default_rng(2)
    density, values = useless("wider where dense", rng, 300)
    for at in (1e-4, 3e-3, 0.2):
        rising = np.linspace(0, 2, 400)
        p_value = among_nulls(rising, np.full(400, at), values, density).p_value
        assert (np.diff(p_value) <= 0).all()
        assert p_value[0] > 0.9


def test_only_ranks_count():
    rng = np.random.default_rng(3)
    density, values = useless("some nearly right", rng, 200)
    null_density, nulls = useless("some nearly right", rng, 200)
    first = among_nulls(values, density, nulls, null_density)
    second = among_nulls(np.exp(3 * values), density**2, np.exp(3 * nulls), null_density**2)
    assert second.p_value == pytest.approx(first.p_value)


def test_a_score_that_most_nulls_have_is_nothing_special():
    """A rule that never fires has the same score whatever the density."""
    rng = np.random.default_rng(4)
    place = rng.random(400)
    nulls = np.where(rng.random(400) < 0.1 * place, 0.5 + 0.2 * rng.random(400), 0.5)
    density = np.geomspace(1e-4, 0.3, 30)
    same = among_nulls(np.full(30, 0.5), density, nulls, 10 ** (3.5 * place - 4)).p_value
    assert same.min() > 0.75
    better = among_nulls(np.full(30, 0.95), density, nulls, 10 ** (3.5 * place - 4)).p_value
    assert better.max() < 0.03


def test_the_middle_is_that_of_like_density():
    rng = np.random.default_rng(5)
    density, nulls = useless("in proportion", rng, 500)
    at = np.array([3e-4, 3e-3, 3e-2])
    middle = among_nulls(np.zeros(3), at, nulls, density).middle
    assert middle == pytest.approx(1.5 * at**0.8, rel=0.25)
    assert np.median(nulls) > 4 * middle[0]


def test_nulls_of_one_density_are_ranked_as_they_are():
    rng = np.random.default_rng(6)
    nulls, values = rng.normal(size=60), np.array([-1.0, 0.0, 1.0])
    found = among_nulls(values, np.full(3, 0.1), nulls, np.full(60, 0.1))
    plain = (1 + (nulls[:, None] >= values).sum(0)) / 61
    assert found.p_value == pytest.approx(plain, abs=0.04)
    assert found.middle == pytest.approx(np.full(3, np.median(nulls)), abs=0.05)
