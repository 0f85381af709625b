"""Average precision at a feature's density: how far its value is off, and does its interval cover?

Detection's default windows, 20 activating and 6 + 6 + 18 non-activating ones in three strata that
are .1, .1 and .8 of the corpus's; the truth is the value over 2 × 500,000 windows.
"""

from collections.abc import Callable, Mapping

import numpy as np

from audit.findings import Claim, Findings
from autointerp.metrics.metrics import average_precision
from autointerp.metrics.precision_draws import average_precision as estimated

_SHARES = (0.1, 0.1, 0.8)
_WINDOWS = (6, 6, 18)
_ACTIVATING = 20
_POOL = 500_000

Scores = Callable[[np.random.Generator, int], np.ndarray]
Judge = tuple[Scores, Scores]  # of activating windows, of others


def binormal(distance: float, alike: float = 0.0) -> Judge:
    """alike: the share of activating windows that look like others."""

    def hits(rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.normal(size=n) + distance * (rng.random(n) >= alike)

    return hits, lambda rng, n: rng.normal(size=n)


def contaminated(distance: float, share: float) -> Judge:
    """A share of the non-activating windows look like activating ones."""

    def others(rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.normal(size=n) + distance * (rng.random(n) < share)

    return binormal(distance)[0], others


def binary(hits: float, alarms: float) -> Judge:
    return (
        lambda rng, n: (rng.random(n) < hits).astype(float),
        lambda rng, n: (rng.random(n) < alarms).astype(float),
    )


def in_steps(judge: Judge) -> Judge:
    """Scores of 0 to 4 only."""
    hits, others = judge
    return (
        lambda rng, n: np.clip(np.round(hits(rng, n)), 0, 4),
        lambda rng, n: np.clip(np.round(others(rng, n)), 0, 4),
    )


def heavy(distance: float) -> Judge:
    return (
        lambda rng, n: rng.standard_t(2, n) + distance,
        lambda rng, n: rng.standard_t(2, n),
    )


BINORMAL = {f"binormal, d' = {d}": binormal(d) for d in (1.2, 2.5, 4)}
OTHERS = {
    "a fifth of the hits look like others": binormal(4, 0.2),
    "yes or no, .8 and .05": binary(0.8, 0.05),
    "yes or no, .9 and .001": binary(0.9, 0.001),
    "five steps": in_steps(binormal(2.5)),
    "one in a hundred looks like a hit": contaminated(4, 0.01),
    "heavy tails": heavy(4),
    "useless": binormal(0),
}
DENSITIES = (0.001, 0.1, 0.3)
_SAID = 0.1  # the density from which on the windows say enough for a value


def truth(judge: Judge, densities: tuple[float, ...], seed: int) -> list[float]:
    rng = np.random.default_rng([seed, 1])
    score = np.concatenate([side(rng, _POOL) for side in judge])
    fires = np.repeat([True, False], _POOL)
    weights = [np.where(fires, q, 1 - q) for q in densities]
    return [float(average_precision(fires, score, weight)) for weight in weights]


def _estimates(judge: Judge, runs: int, seed: int) -> np.ndarray:
    """Value, lower and upper end, [densities, runs, 3]."""
    rng = np.random.default_rng([seed, 2])
    found = []
    for run in range(runs):
        hits = judge[0](rng, _ACTIVATING)
        strata = [(s, judge[1](rng, n)) for s, n in zip(_SHARES, _WINDOWS, strict=True)]
        ones = [estimated(hits, strata, q, seed + run % 5) for q in DENSITIES]
        found.append([(one.value, one.ci_low, one.ci_high) for one in ones])
    return np.array(found).swapaxes(0, 1)


def least_bias(judge: Judge, density: float, seed: int) -> tuple[float, float]:
    """The least that any estimator can be off on average, for this judge or for another one.

    The other is deceived by a share of the non-activating windows of the largest stratum, which it
    ranks as this one ranks activating windows, and is the same besides. As long as none of these
    is among the judged ones, both look the same: a value that is right for one, which is at most
    δ off, is at least so often right for both. The share is the one for which δ is largest.
    """
    rng = np.random.default_rng([seed, 1])
    hits, others = judge[0](rng, _POOL), judge[1](rng, _POOL)
    fires = np.repeat([True, False, False], _POOL)
    score = np.concatenate([hits, others, hits])
    best = 0.0, 0.0
    exact = truth(judge, (density,), seed)[0]
    for share in np.geomspace(1e-4, 0.2, 12):
        of_all = share * _SHARES[2]
        weights = np.repeat((density, (1 - density) * (1 - of_all), (1 - density) * of_all), _POOL)
        deceived = float(average_precision(fires, score, weights))
        unseen = (1 - share) ** _WINDOWS[2]
        # Where the value is exact − δ on average for one, it is unseen · (exact − δ) at least for
        # the other, whose own is `deceived`.
        least = (unseen * exact - deceived) / (1 + unseen)
        best = max(best, (float(least), float(share)))
    return best


def audit(short: bool, seed: int) -> list[Findings]:
    runs = 150 if short else 1000
    kept = ("a fifth of the hits look like others", "yes or no, .9 and .001")
    others = {k: v for k, v in OTHERS.items() if not short or k in kept}
    judges: Mapping[str, Judge] = {**BINORMAL, **others}
    rows: list[tuple[object, ...]] = []
    claims = []
    bounds: dict[tuple[str, float], tuple[float, float]] = {}
    if not short:
        for name, judge in BINORMAL.items():
            bounds |= {(name, q): least_bias(judge, q, seed) for q in DENSITIES}
    slack = 0.03 if short else 0.0  # two standard errors of so few repetitions
    for name, judge in judges.items():
        exact = truth(judge, DENSITIES, seed)
        for q, value, found in zip(DENSITIES, exact, _estimates(judge, runs, seed), strict=True):
            said, low, high = found.T
            bias, off = float(said.mean() - value), float(np.sqrt(((said - value) ** 2).mean()))
            covered = float(((low <= value) & (value <= high)).mean())
            rows.append((name, q, value, bias, off, covered, float((high - low).mean())))
            claims.append(Claim(f"{name}, density {q}: coverage", covered, 0.92 - slack, 1))
            if name in BINORMAL and (q >= _SAID or not short):
                most = max(0.03 + slack / 2, bounds[name, q][0] if q < _SAID else 0)
                claims.append(Claim(f"{name}, density {q}: bias", abs(bias), 0, most))
    found_all = [
        Findings(
            "Average precision at the feature's density",
            f"20 + 30 windows, {runs} repetitions.",
            ("judge", "density", "truth", "bias", "RMSE", "coverage", "width"),
            rows,
            claims,
        )
    ]
    if bounds:
        found_all.append(
            Findings(
                "Average precision: what so few windows cannot tell",
                "The least that any estimator is off on average, for this judge or for one that is "
                "deceived by a share of the windows in the largest stratum and otherwise the same.",
                ("judge", "density", "least bias", "at a share deceived of"),
                [(*key, *bound) for key, bound in bounds.items()],
            )
        )
    return found_all
