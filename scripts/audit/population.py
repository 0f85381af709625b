"""Population F1: does its interval cover the truth, and how far off is the value?

Beside the estimators that came before: Jeffreys' prior for every rate, and a prior learned from the
features by EM without components that scale with the density.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import betaln

from audit.findings import Claim, Findings
from audit.population_judges import BANDS, SCENARIOS, SHARES, STRATA, Array, answers, judges
from autointerp.metrics.estimates import Counts
from autointerp.metrics.population import MAX_WIDTH, population

_SIZES = (5, 20, 49, 50, 200, 2000)
_MIN_FEATURES = 100  # in a cell, for a claim about it
_COVERED = 0.92
_WORSE = 1.15  # times the better of the former estimators' error
_UNSEEN = 0.005  # an error of F1 that nobody sees in a table
_RARE = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4)
_DRAWS = 1000


class _Cell(NamedTuple):
    scenario: str
    size: int
    band: tuple[float, float]
    features: int
    covered: float
    width: float
    unknown: float
    error: float  # RMSE of the numbers that the table has
    former: float  # that of the better former estimator, of the same features
    error_of_all: float  # with the middle of the draws where the table has no number
    former_of_all: float  # of the estimator that a run of this size had


def audit(short: bool, seed: int) -> list[Findings]:
    """Coverage, width and error of F1 in each scenario, size of run and band of density."""
    sizes = (5, 49, 50, 200) if short else _SIZES
    cells = [
        cell
        for scenario in SCENARIOS
        for size in sizes
        for cell in _cells(scenario, size, 1000 if short else 4000, seed)
    ]
    claims = [claim for name in SCENARIOS for claim in _claims(name, cells)]
    about = (
        "Judges of known rates answer about 20 activating and 30 other windows of each feature; "
        + "; ".join(f"{name}: {what}" for name, what in SCENARIOS.items())
        + ". *unknown*: the share whose interval is wider than "
        f"{MAX_WIDTH}, of which the table has no number. *error*: RMSE of the numbers, beside that "
        "of the better former estimator on the same features; *of all*: with the posterior "
        "median where the table has no number, beside the former estimator for runs of this size."
    )
    columns = ("", "run", "density", "features", "covered", "width", "unknown", "error", "former")
    rows = [
        (c.scenario, f"{c.size:,}", _band(c.band), c.features, *c[4:]) for c in cells if c.features
    ]
    return [Findings("Population F1", about, (*columns, "of all", "former of all"), rows, claims)]


def _claims(scenario: str, cells: list[_Cell]) -> list[Claim]:
    """Of the worst cell of a scenario, among those with enough features."""
    enough = [c for c in cells if c.scenario == scenario and c.features >= _MIN_FEATURES]
    worst = min(enough, key=lambda c: c.covered)
    # Two standard errors of a share of so many features.
    slack = 2 * np.sqrt(_COVERED * (1 - _COVERED) / worst.features)
    claims = [
        Claim(f"{scenario}: least covered {_where(worst)}", worst.covered, _COVERED - slack, 1)
    ]
    told = [c for c in enough if not np.isnan(c.error) and c.error - c.former > _UNSEEN]
    ratio, where = max([(c.error / c.former, _where(c)) for c in told], default=(1.0, "nowhere"))
    what = f"{scenario}: error of the numbers, times the former one, where it is {_UNSEEN} more"
    claims.append(Claim(f"{what}: most {where}", ratio, 0, _WORSE))
    if scenario == "C":
        rare = [c for c in enough if c.band[1] <= 1e-3 and c.size >= 20]
        ratio, where = max((c.error_of_all / c.former_of_all, _where(c)) for c in rare)
        claims.append(
            Claim(f"C, rare: error of all, times the former one: most {where}", ratio, 0, 0.5)
        )
    return claims


def _where(cell: _Cell) -> str:
    return f"in runs of {cell.size:,} at {_band(cell.band)}"


def _band(band: tuple[float, float]) -> str:
    return f"{band[0]:.0e} to {band[1]:.0e}" if band[1] < 0.1 else f"{band[0]:g} to {band[1]:g}"


def _cells(scenario: str, size: int, features: int, seed: int) -> list[_Cell]:
    rng = np.random.default_rng([seed, size, ord(scenario)])
    found = []
    for _ in range(max(1, features // size)):
        drawn = judges(scenario, size, rng)
        counts = answers(drawn, rng)
        estimates = [e["f1"] for e in population(counts, seed, max_width=1.0)]
        ends = np.array([(e.value, e.ci_low, e.ci_high) for e in estimates])
        former = former_f1(counts, learned=True), former_f1(counts, learned=False)
        found.append(np.column_stack([drawn.density, drawn.f1(), ends, *former]))
    density, truth, value, low, high, learned, jeffreys = np.concatenate(found).T
    cells = []
    for band in BANDS:
        inside = (density >= band[0]) & (density < band[1])
        known = inside & (high - low <= MAX_WIDTH)
        before = learned if size >= 50 else jeffreys
        cells.append(
            _Cell(
                scenario,
                size,
                band,
                int(inside.sum()),
                float(((low <= truth) & (truth <= high))[inside].mean()),
                float((high - low)[inside].mean()),
                float(1 - known.sum() / max(inside.sum(), 1)),
                _error(value, truth, known),
                min(_error(learned, truth, known), _error(jeffreys, truth, known)),
                _error(value, truth, inside),
                _error(before, truth, inside),
            )
        )
    return cells


def _error(values: Array, truth: Array, of: np.ndarray) -> float:
    return float(np.sqrt(((values - truth)[of] ** 2).mean())) if of.any() else float("nan")


def former_f1(counts: list[Counts], *, learned: bool) -> Array:
    """The posterior median of F1, [features], as it was estimated before."""
    rng = np.random.default_rng(0)
    density = np.array([c.density for c in counts])
    hits = _drawn(np.array([c.firing_windows() for c in counts]), learned, rng)
    false = np.zeros_like(hits)
    for share, stratum in zip(SHARES, STRATA, strict=True):
        answered = np.array([(c.yes[stratum], c.n[stratum]) for c in counts], dtype=float)
        false += share * _drawn(answered, learned, rng)
    true = 2 * hits * density
    f1 = true / (true + false * (1 - density) + (1 - hits) * density)
    return np.asarray(np.median(f1, axis=0))


def _drawn(counts: Array, learned: bool, rng: np.random.Generator) -> Array:
    yes, n = counts[:, :1], counts[:, 1:]
    if not learned:
        return np.asarray(rng.beta(yes + 0.5, n - yes + 0.5, (len(counts), _DRAWS)).T)
    means = np.array([*_RARE, 0.5, *(1 - rate for rate in _RARE)])
    mean, strength = (g.ravel() for g in np.meshgrid(means, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]))
    a, b = mean * strength, (1 - mean) * strength
    logarithm = betaln(yes + a, n - yes + b) - betaln(a, b)
    likelihood = np.exp(logarithm - logarithm.max(1, keepdims=True))
    weight = np.full(len(a), 1 / len(a))
    for _ in range(300):
        share = likelihood * weight
        weight = (share / share.sum(1, keepdims=True)).sum(0) + 10 / len(a)
        weight /= weight.sum()
    chances = likelihood * weight
    chances /= chances.sum(1, keepdims=True)
    drawn = rng.multinomial(_DRAWS, chances)
    component = np.repeat(np.tile(np.arange(len(a)), len(yes)), drawn.ravel())
    component = rng.permuted(component.reshape(len(yes), _DRAWS), axis=1)
    return np.asarray(rng.beta(yes + a[component], n - yes + b[component]).T)
