"""Simulation: do the intervals of its correlations cover what all windows would say?

Windows of 32 tokens with 1 to 3 active ones, half of them activating, as simulation draws them; the
truth is the value over 60,000 of them. `population_correlation` is of a corpus at a density.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from audit.findings import Claim, Findings
from autointerp.metrics.graded import METRICS, POPULATION, graded
from autointerp.metrics.metrics import (
    explained_variance,
    pearson,
    pearson_among_active,
    spearman,
)

_LENGTH = 32
_POOL = 30_000  # windows of either half
_DEFAULT = 10  # windows
_OF = dict(
    zip(METRICS, (pearson, pearson_among_active, spearman, explained_variance), strict=False)
)


@dataclass(frozen=True)
class Judge:
    """How a label's predictions go wrong; shares of windows or tokens, noise as a log's sd."""

    noise: float = 0.3
    overlooked: float = 0.0  # of activating windows
    alarms: float = 0.0  # of non-activating windows, one or two tokens each
    tokens: float = 0.0  # of all tokens, at any activation
    copies: bool = True  # False: predictions have nothing to do with activations
    heavy: float | None = None  # sd of the logarithm of windows' activations


# The four in which the claims are made; of poor labels and odd ones coverage is shown.
CLAIMED = {
    "a: a tenth overlooked": Judge(0.35, overlooked=0.1),
    "b: noisy": Judge(0.5, tokens=0.002),
    "c: tokens predicted anywhere": Judge(0.3, tokens=0.02),
    "d: nearly perfect": Judge(0.2, tokens=0.0005),
}
OTHERS = {
    "windows predicted by mistake": Judge(0.2, alarms=0.1),
    "a third overlooked": Judge(0.3, overlooked=0.3, tokens=0.01),
    "poor": Judge(0.6, overlooked=0.7, tokens=0.03),
    "useless": Judge(tokens=0.06, copies=False),
    "predicts nothing": Judge(copies=False),
    "predicts half of all tokens": Judge(0.3, tokens=0.5),
    "heavy-tailed": Judge(0.4, overlooked=0.05, heavy=1.0),
    "heavier-tailed": Judge(0.3, overlooked=0.1, heavy=1.5),
}


def windows(
    judge: Judge, rng: np.random.Generator, activating: int, others: int, by_firing: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Truths and predictions, float64 [activating + others, length]."""
    n = activating + others
    chances = np.arange(1, 4) / 6 if by_firing else np.full(3, 1 / 3)
    times = np.r_[rng.choice([1, 2, 3], activating, p=chances), np.zeros(others, int)]
    places = rng.random((n, _LENGTH)).argsort(1)
    if judge.heavy is None:
        level = rng.uniform(1, 10, (n, 1)) * rng.uniform(0.6, 1.4, (n, _LENGTH))
    else:
        level = np.exp(rng.normal(0, judge.heavy, (n, 1)) + rng.normal(0, 0.3, (n, _LENGTH)))
    truth = level * (places < times[:, None])
    prediction = truth * np.exp(rng.normal(0, judge.noise, truth.shape)) * judge.copies
    prediction[rng.random(n) < np.where(times > 0, judge.overlooked, 0)] = 0
    alarm = (rng.random(n) < judge.alarms) & (times == 0)
    prediction[alarm] += (places[alarm] < 2) * rng.uniform(1, 10, (alarm.sum(), _LENGTH))
    extra = rng.random(truth.shape) < judge.tokens
    return truth, prediction + extra * rng.uniform(1, 10, truth.shape)


def _truths(judge: Judge, seed: int) -> list[float]:
    sides = windows(judge, np.random.default_rng([seed, 1]), _POOL, _POOL)
    truth, prediction = (side.ravel() for side in sides)
    values = [float(metric(truth, prediction)) for metric in _OF.values()]
    # A prediction without spread correlates 0.
    return values if prediction.any() else [0.0, 0.0, 0.0, values[3]]


def _coverage(
    judge: Judge, truths: list[float], n: int, runs: int, seed: int
) -> tuple[list[float], list[float]]:
    """Of each metric of _OF: coverage and mean width."""
    rng = np.random.default_rng([seed, n])
    ends = []
    for run in range(runs):
        truth, prediction = windows(judge, rng, n - n // 2, n // 2)
        found = graded(list(truth), list(prediction), seed + run % 5)
        ends.append([(found[name].ci_low, found[name].ci_high) for name in _OF])
    low, high = np.array(ends).transpose(2, 0, 1)
    covered = (low - 1e-9 <= truths) & (truths <= high + 1e-9)
    return covered.mean(0).tolist(), (high - low).mean(0).tolist()


def _of_halves(short: bool, seed: int) -> Findings:
    runs = 200 if short else 600
    sizes = (_DEFAULT,) if short else (6, _DEFAULT, 20, 50)
    rows: list[tuple[object, ...]] = []
    claims = []
    for name, judge in {**CLAIMED, **({} if short else OTHERS)}.items():
        truths = _truths(judge, seed)
        for n in sizes:
            covered, width = _coverage(judge, truths, n, runs, seed)
            rows.append((name, n, truths[0], *covered, width[0], width[2]))
            claims += [Claim(f"{name}, {n} windows: no width is zero", min(width), 1e-6, 1e6)]
            if n == _DEFAULT and name in CLAIMED:
                claims += [
                    Claim(f"{name}, {n} windows: coverage of {metric}", value, 0.92, 1)
                    for metric, value in zip(_OF, covered, strict=True)
                ]
    return Findings(
        "Simulation: intervals",
        f"Coverage of the value over {2 * _POOL:,} windows, {runs} repetitions; r is that value of "
        "the correlation.",
        ("judge", "windows", "r", *_OF, "width of r", "width of Spearman's"),
        rows,
        claims,
    )


def weighted(judge: Judge, density: float, seed: int) -> float:
    """Pearson's over all tokens of a corpus in which a share of the windows activates."""
    truth, prediction = windows(judge, np.random.default_rng([seed, 1]), _POOL, _POOL)
    weight = np.repeat((density, 1 - density), _POOL)[:, None] * np.ones(_LENGTH)
    return float(pearson(truth.ravel(), prediction.ravel(), weight.ravel()))


def _of_the_corpus(short: bool, seed: int) -> Findings:
    runs = 100 if short else 500
    rows: list[tuple[object, ...]] = []
    claims = []
    kinds: dict[str, Callable[[float], Judge]] = {
        "exact": lambda _: Judge(0.3, overlooked=0.1),
        "twice as broad": lambda q: Judge(0.3, overlooked=0.1, alarms=q / (1 - q)),
        "one alarm in ten": lambda _: Judge(0.3, overlooked=0.2, alarms=0.1),
        "tokens anywhere": lambda _: Judge(0.3, overlooked=0.1, tokens=0.02),
    }
    for q in (0.01, 0.1) if short else (0.001, 0.01, 0.1, 0.3):
        for name, kind in kinds.items():
            exact = weighted(kind(q), q, seed)
            rng = np.random.default_rng([seed, 3])
            found = []
            for _ in range(runs):
                half = _DEFAULT // 2
                sides = windows(kind(q), rng, half, half, by_firing=True)
                one = graded(list(sides[0]), list(sides[1]), seed, density=q)
                found.append((one[POPULATION], one["correlation"]))
            value, low, high = np.array([(e.value, e.ci_low, e.ci_high) for e, _ in found]).T
            plain = np.array([e.value for _, e in found])
            covered = float(((low <= exact) & (exact <= high)).mean())
            off = [float(np.sqrt(((v - exact) ** 2).mean())) for v in (value, plain)]
            bias = float(value.mean() - exact)
            rows.append((q, name, exact, bias, *off, covered, float((high - low).mean())))
            claims.append(Claim(f"density {q}, {name}: coverage", covered, 0.92, 1))
    return Findings(
        "Simulation: the correlation over the corpus",
        f"From {_DEFAULT} windows, activating ones drawn by their firings; {runs} repetitions. "
        "Beside it how far the plain correlation of the same windows is from the same truth.",
        ("density", "label", "truth", "bias", "RMSE", "RMSE of plain r", "coverage", "width"),
        rows,
        claims,
    )


def audit(short: bool, seed: int) -> list[Findings]:
    return [_of_halves(short, seed), _of_the_corpus(short, seed)]
