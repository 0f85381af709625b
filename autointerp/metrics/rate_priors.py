"""How the rates of yes-or-no judges are spread among features, learned from the features.

Empirical Bayes (Robbins 1956): the components of a mixture are given, and only their weights are
learned, by EM on the likelihood (Laird 1978), with some pseudo-features spread over all components,
so that none is ruled out and nothing jumps where a feature is added. A single beta would not do
where features are of several kinds: what holds for most would be taken to hold for all.

What matters of a false alarm rate is its ratio to the feature's density, and a few dozen windows
say nothing of rates below 1 %. A prior that is vague about a rate is far from vague about that
ratio: Jeffreys' expects 2.6 % after no alarm in 18, which at a density of 1e-3 is a precision of
.03, whatever the label. So the components reach down to `MIN_RATE` on a logarithmic scale, and some
of them scale with the density: where labels are as precise for rare features as for frequent ones,
the frequent ones show it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

Array = NDArray[np.float64]

MIN_RATE = 1e-5
_FINEST = 1e-7  # the mean of a component that scales with the density
_LARGEST = 0.9
_THIRDS = 1 / 3  # of a decade between one component and the next
_STEPS = 200
_LEARNED_FROM = 20_000  # features; more would change nothing but the time
_LEVELS = 8  # densities are told apart to an eighth of a decade

_RARE = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4)
_HIT_MEANS = (*_RARE, 0.5, *(1 - rate for rate in _RARE))
_HIT_STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_HIT_PSEUDO = 10.0  # features' worth of weight, as below

_ALARM_SHAPES = (1.0, 4.0)  # of a component of one stratum: exponential, and narrower
_ALARM_PSEUDO = 10.0
# Exponent of the density in a component's mean → decades of the coefficient, weight.
_SCALINGS = {0.0: (-5.0, -0.3, 0.5), 0.5: (-2.5, 0.5, 0.2), 1.0: (-2.0, 2.0, 0.3)}
_CONTRASTS = (1.0, 8.0)  # how much higher the rate is in hard strata than in the rest
_APART = 0.4  # weight of strata whose rates have nothing to do with each other
_TOGETHER_PSEUDO = 5.0


def hit_rates(counts: Array, draws: int, seed: int) -> "HitRates":
    """The posterior of hit rates; counts: [features, (hits, of how many)]."""
    mean, strength = (g.ravel() for g in np.meshgrid(_HIT_MEANS, _HIT_STRENGTHS))
    a, b = mean * strength, (1 - mean) * strength
    even = np.full(len(a), 1 / len(a))
    pairs, times = np.unique(_some(counts[counts[:, 1] > 0], seed), axis=0, return_counts=True)
    weights = even
    if len(pairs):
        likelihood = np.exp(_relative(_log_likelihood(pairs, a, b)))
        for _ in range(_STEPS):
            share = likelihood * weights
            weights = times @ (share / share.sum(1, keepdims=True)) + _HIT_PSEUDO * even
            weights /= weights.sum()
    return HitRates(a, b, weights, draws)


@dataclass(frozen=True)
class HitRates:
    """A mixture of betas, [components]."""

    a: Array
    b: Array
    weights: Array
    draws: int

    def draw(self, counts: Array, rng: np.random.Generator) -> Array:
        """Rates from their posteriors, [draws, features]; counts: [features, 2]."""
        chances = self.weights * np.exp(_relative(_log_likelihood(counts, self.a, self.b)))
        component = _components(chances, self.draws, rng)
        return _betas(counts, self.a[component], self.b[component], rng)


def alarm_rates(
    counts: Array, density: Array, hard: NDArray[np.bool_], draws: int, seed: int
) -> "AlarmRates":
    """The posterior of false alarm rates by stratum.

    counts: [features, strata, (alarms, of how many)]; density: [features]; hard: [strata], those
    with more alarms than the rest. A label's rates either have nothing to do with each other, each
    stratum's drawn from a mixture of its own, or go together: all are high in a broad label, and
    all low in a precise one.
    """
    flat = counts.reshape(len(counts), 2 * len(hard))
    rows = np.concatenate([flat, _level(density)[:, None]], axis=1)
    rows, times = np.unique(_some(rows, seed), axis=0, return_counts=True)
    learned = _vague(hard, draws)
    if len(rows):
        learned = _learn(learned, rows[:, :-1].reshape(len(rows), -1, 2), rows[:, -1], times)
    return learned


@dataclass(frozen=True)
class AlarmRates:
    """Weights `apart` [strata, components] and, the first being theirs together, `together`."""

    hard: NDArray[np.bool_]
    apart: Array
    together: Array
    draws: int

    def draw(self, counts: Array, density: Array, rng: np.random.Generator) -> Array:
        """Rates from their posteriors, [strata, draws, features]; as `alarm_rates`."""
        own, both = self._likelihoods(counts, density)
        each = own * self.apart[:, None]
        whole = np.concatenate([each.sum(2).prod(0)[:, None], both], axis=1) * self.together
        chosen = _components(whole, self.draws, rng)
        a, b = _apart_components()
        joint_a, joint_b = _together_components(density, self.hard)
        row = np.arange(len(counts))[:, None]
        found = []
        for stratum in range(len(self.hard)):
            component = _components(each[stratum], self.draws, rng)
            joint = np.maximum(chosen - 1, 0)
            drawn_a = np.where(chosen == 0, a[component], joint_a[stratum][row, joint])
            drawn_b = np.where(chosen == 0, b[component], joint_b[stratum][row, joint])
            found.append(_betas(counts[:, stratum], drawn_a, drawn_b, rng))
        return np.stack(found)

    def _likelihoods(self, counts: Array, density: Array) -> tuple[Array, Array]:
        """Of each stratum under its components, [strata, features, components], and of all under
        those in which they go together, [features, components], on one scale a feature."""
        strata = range(len(self.hard))
        a, b = _apart_components()
        own = np.stack([_log_likelihood(counts[:, s], a, b) for s in strata])
        joint_a, joint_b = _together_components(density, self.hard)
        logs = (_log_likelihood(counts[:, s], joint_a[s], joint_b[s]) for s in strata)
        both = np.asarray(sum(logs))
        largest = own.max(2, keepdims=True)
        both = np.exp(both - largest.sum(0))
        return np.exp(own - largest), both


def _vague(hard: NDArray[np.bool_], draws: int) -> AlarmRates:
    a, _ = _apart_components()
    apart = np.full((len(hard), len(a)), 1 / len(a))
    return AlarmRates(hard, apart, _together_weights(), draws)


def _learn(vague: AlarmRates, counts: Array, density: Array, times: NDArray[np.int_]) -> AlarmRates:
    own, both = vague._likelihoods(counts, density)
    apart, together = vague.apart, vague.together
    for _ in range(_STEPS):
        each = own * apart[:, None]
        part = each.sum(2)
        whole = np.concatenate([part.prod(0)[:, None], both], axis=1) * together
        whole *= (times / whole.sum(1))[:, None]
        apart = np.einsum("f,sfk->sk", whole[:, 0], each / part[:, :, None])
        apart += _ALARM_PSEUDO * vague.apart
        apart /= apart.sum(1, keepdims=True)
        together = whole.sum(0) + _TOGETHER_PSEUDO * vague.together
        together /= together.sum()
    return AlarmRates(vague.hard, apart, together, vague.draws)


def _apart_components() -> tuple[Array, Array]:
    """Betas of one stratum, [components]: means a third of a decade apart, in each shape."""
    decades = np.arange(np.log10(MIN_RATE), -0.3, _THIRDS)
    means = np.concatenate([10.0**decades, [0.7, _LARGEST]])
    return _of_shapes(means, _ALARM_SHAPES)


def _of_shapes(means: Array, shapes: tuple[float, ...]) -> tuple[Array, Array]:
    a = np.repeat(np.asarray(shapes), len(means))
    return a, a * (1 / np.tile(means, len(shapes)) - 1)


def _coefficients() -> list[tuple[float, Array, float, float]]:
    """Exponent, coefficients, contrast and weight of the components that go together."""
    return [
        (exponent, 10.0 ** np.arange(low, high + 0.01, _THIRDS), contrast, weight)
        for exponent, (low, high, weight) in _SCALINGS.items()
        for contrast in _CONTRASTS
    ]


def _together_weights() -> Array:
    parts = [
        np.full(len(coefficients), weight / len(_CONTRASTS) / len(coefficients))
        for _, coefficients, _, weight in _coefficients()
    ]
    return np.concatenate([[_APART], (1 - _APART) * np.concatenate(parts)])


def _together_components(density: Array, hard: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Betas of all strata, [strata, features, components]."""
    level = _level(density)[:, None]
    means = [
        coefficients * level**exponent * np.where(hard, contrast, 1.0)[:, None, None]
        for exponent, coefficients, contrast, _ in _coefficients()
    ]
    mean = np.clip(np.concatenate(means, axis=2), _FINEST, _LARGEST)
    return np.ones_like(mean), 1 / mean - 1


def _level(density: Array) -> Array:
    """Densities rounded on a logarithmic scale, so that many features share one."""
    return np.asarray(10 ** (np.round(np.log10(density) * _LEVELS) / _LEVELS))


def _some(rows: Array, seed: int) -> Array:
    if len(rows) <= _LEARNED_FROM:
        return rows
    return rows[np.random.default_rng([seed, 0x50E]).permutation(len(rows))[:_LEARNED_FROM]]


def _log_likelihood(counts: Array, a: Array, b: Array) -> Array:
    """Of counts [features, 2] under betas [components] or [features, components]."""
    yes, n = counts[:, :1], counts[:, 1:]
    return np.asarray(betaln(yes + a, n - yes + b) - betaln(a, b))


def _relative(logarithm: Array) -> Array:
    return np.asarray(logarithm - logarithm.max(1, keepdims=True))


def _components(chances: Array, draws: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """A component for each draw, [features, draws], by chances [features, components]."""
    drawn = rng.multinomial(draws, chances / chances.sum(1, keepdims=True))
    component = np.repeat(np.tile(np.arange(chances.shape[1]), len(chances)), drawn.ravel())
    # Shuffled, so that draws of one rate are independent of those of another.
    return np.asarray(rng.permuted(component.reshape(len(chances), draws), axis=1))


def _betas(counts: Array, a: Array, b: Array, rng: np.random.Generator) -> Array:
    """Rates [draws, features]; a, b: [features, draws]."""
    yes, n = counts[:, :1], counts[:, 1:]
    return np.asarray(rng.beta(yes + a, n - yes + b).T)
