"""Simulated judges of known rates, and what they answer about a feature's windows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autointerp.metrics.estimates import Counts

Array = NDArray[np.float64]

STRATA = ("similar", "same_token", "other")
SHARES = np.array([0.05, 0.08, 0.87])
WINDOWS = (20, (6, 6, 18))  # activating, and of each stratum: those of the defaults
BANDS = ((1e-5, 1e-4), (1e-4, 1e-3), (1e-3, 1e-2), (1e-2, 0.3))
SCENARIOS = {
    "A": "alarm rates are exchangeable over densities",
    "B": "65 % of labels are precise, 35 % broad, at any density",
    "C": "precision does not depend on the density",
}


@dataclass(frozen=True)
class Judges:
    """density, hit rates [features]; alarm rates [features, strata]."""

    density: Array
    hits: Array
    alarms: Array

    def f1(self) -> Array:
        """The true F1 over the windows of the corpus, [features]."""
        true = self.hits * self.density
        false = (self.alarms @ SHARES) * (1 - self.density)
        return np.asarray(2 * true / (2 * true + false + (1 - self.hits) * self.density))


def judges(scenario: str, features: int, rng: np.random.Generator) -> Judges:
    """Densities are log-uniform from 1e-5 to .3."""
    density = 10 ** rng.uniform(-5, np.log10(0.3), features)
    hits = rng.beta(6, 2, features)
    if scenario == "A":
        alarms = _columns(
            rng.beta(1, 4, features), rng.beta(1, 5, features), rng.beta(0.3, 15, features)
        )
    elif scenario == "B":
        precise = 10 ** rng.uniform(-5, -3.3, (features, 1)) * np.array([8, 4, 1.0])
        broad = _columns(
            rng.beta(2, 3, features), rng.beta(2, 4, features), rng.beta(2, 12, features)
        )
        alarms = np.where(rng.random((features, 1)) < 0.35, broad, precise)
    else:
        precision = rng.beta(3, 1.5, features)
        total = hits * density / (1 - density) * (1 - precision) / precision
        parts = rng.dirichlet((2, 2, 2), features)
        alarms = np.minimum(total[:, None] * parts / SHARES, 0.95)
    return Judges(density, hits, alarms)


def _columns(*values: Array) -> Array:
    return np.stack(values, axis=1)


def answers(of: Judges, rng: np.random.Generator) -> list[Counts]:
    """What the judges say of the windows that each feature gets."""
    activating, others = WINDOWS
    hits = rng.binomial(activating, of.hits)
    alarms = rng.binomial(np.array(others), of.alarms)
    shares = dict(zip(STRATA, SHARES.tolist(), strict=True))
    asked = {"fires": activating, **dict(zip(STRATA, others, strict=True))}
    return [
        Counts(
            float(density),
            shares,
            {"fires": int(hit), **dict(zip(STRATA, map(int, alarm), strict=True))},
            dict(asked),
        )
        for density, hit, alarm in zip(of.density, hits, alarms, strict=True)
    ]
