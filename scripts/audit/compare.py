"""`compare`: does its test find a difference where there is none, and one where there is?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from audit.findings import Claim, Findings
from autointerp.metrics.clustered import clustered_mean
from autointerp.metrics.estimates import Counts, Estimate, balanced_accuracy
from autointerp.metrics.paired import mcnemar

_LEVEL = 0.05
_WINDOWS = (20, 30)  # firing and silent ones, as detection has them
_SPREAD = 0.1  # standard deviation of a feature's own difference, but for the shift
_SKEWED = "skewed (exponential)"  # far more than differences of two scores are
_Noise = Callable[[np.random.Generator, int], np.ndarray]


def _bounded(rng: np.random.Generator, n: int) -> np.ndarray:
    """Balanced accuracies of the default 20 and 30 windows, as two labels of a feature differ."""
    rates = rng.beta(8, 2, (2, n))
    hits, rejections = (
        rng.binomial(k, r, (2, n)) / k for k, r in zip(_WINDOWS, rates, strict=True)
    )
    accuracies: np.ndarray = (hits + rejections) / 2
    return np.asarray(accuracies[1] - accuracies[0])


def _mostly_equal(rng: np.random.Generator, n: int) -> np.ndarray:
    steps = rng.integers(-4, 9, n) / 40
    return np.asarray(np.where(rng.random(n) < 0.6, 0, steps) - 0.4 * 2 / 40)


_NOISES: dict[str, _Noise] = {
    "normal": lambda rng, n: rng.normal(0, _SPREAD, n),
    "heavy-tailed (t, 3 degrees)": lambda rng, n: _SPREAD / np.sqrt(3) * rng.standard_t(3, n),
    _SKEWED: lambda rng, n: _SPREAD * (rng.exponential(1, n) - 1),
    "bounded (20 + 30 windows)": _bounded,
    "mostly equal": _mostly_equal,
}


@dataclass(frozen=True, slots=True)
class _Design:
    """How features hang together: clusters of so many, in B the same ones or others.

    `shift` is the standard deviation of what a cluster shares, half of its variance in either run
    where these have other requests.
    """

    size: int
    clusters: int
    shift: float
    crossed: bool = False

    def name(self) -> str:
        if self.size == 1:
            return f"{self.clusters} independent features"
        other = ", other requests in B" if self.crossed else ""
        return f"{self.clusters} clusters of {self.size}, shift {self.shift}{other}"


def _differences(
    design: _Design, noise: _Noise, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    n = design.size * design.clusters
    first = np.arange(n) // design.size
    second = rng.permutation(n) // design.size if design.crossed else first
    shifts = rng.normal(0, design.shift / np.sqrt(2), (2, design.clusters))
    if not design.crossed:
        return noise(rng, n) + np.sqrt(2) * shifts[0, first], [first, second]
    return noise(rng, n) + shifts[0, first] + shifts[1, second], [first, second]


def _rejected(
    design: _Design, noise: _Noise, gain: float, repeats: int, rng: np.random.Generator
) -> tuple[float, float]:
    """How often a difference is found by compare's test, and where features count as independent.

    Too few clusters is not found.
    """
    found = naive = 0
    for _ in range(repeats):
        differences, groups = _differences(design, noise, rng)
        p = clustered_mean(differences + gain, groups).p
        found += p is not None and p <= _LEVEL
        p = clustered_mean(differences + gain).p
        naive += p is not None and p <= _LEVEL
    return found / repeats, naive / repeats


def audit(short: bool, seed: int) -> list[Findings]:
    repeats = 1000 if short else 4000
    rng = np.random.default_rng([seed, 0xC0])
    features = 400 if short else 4000
    return [
        _errors(repeats, rng),
        _few(repeats, rng),
        _power(repeats // 2, rng),
        _wins(features, rng),
        _tokens(5 * repeats, rng),
    ]


def _errors(repeats: int, rng: np.random.Generator) -> Findings:
    designs = [_Design(1, n, 0.0) for n in (40, 200)]
    designs += [
        _Design(size, clusters, shift, crossed)
        for size in (5, 10)
        for clusters in (20, 50)
        for shift in (0.03, 0.06)
        for crossed in (False, True)
    ]
    rows: list[tuple[object, ...]] = []
    errors: list[float] = []
    skewed: list[float] = []
    for place, design in enumerate(designs):
        # Every kind of score with every second design, so that it stays short.
        for name, noise in list(_NOISES.items())[place % 2 :: 2]:
            error, naive = _rejected(design, noise, 0.0, repeats, rng)
            rows.append((design.name(), name, error, naive))
            (skewed if name == _SKEWED else errors).append(error)
    claims = [
        Claim("mean share in which a difference is found", float(np.mean(errors)), 0.04, 0.06),
        Claim("smallest share of any design", min(errors), 0.03, 0.07),
        Claim("largest share of any design", max(errors), 0.03, 0.07),
        Claim("largest share of skewed differences", max(skewed), 0.03, 0.08),
    ]
    return Findings(
        "compare: a difference found where there is none",
        f"Two runs of one quality, {repeats} times each; features of a cluster (a request) share a "
        "shift. Share of p ≤ .05 with clusters, and where features were taken for independent.",
        ("design", "scores", "clusters", "independent"),
        rows,
        claims,
    )


def _few(repeats: int, rng: np.random.Generator) -> Findings:
    rows, errors = [], []
    for clusters in (4, 5, 8, 12):
        for crossed in (False, True):
            design = _Design(10, clusters, 0.06, crossed)
            error, naive = _rejected(design, _NOISES["normal"], 0.0, repeats, rng)
            rows.append((design.name(), error, naive))
            errors.append(error)
    return Findings(
        "compare: few clusters",
        "The same with fewer than 20 clusters: below 5 there is neither p value nor interval.",
        ("design", "clusters", "independent"),
        rows,
        [Claim("largest share with few clusters", max(errors), 0.0, 0.075)],
    )


def _power(repeats: int, rng: np.random.Generator) -> Findings:
    rows, powers = [], {}
    for design in (
        _Design(1, 200, 0.0),
        *(_Design(10, 20, shift, c) for shift in (0.03, 0.06) for c in (False, True)),
    ):
        for gain in (0.01, 0.03, 0.06):
            power, _ = _rejected(design, _NOISES["normal"], gain, repeats, rng)
            rows.append((design.name(), gain, power))
            powers[design, gain] = power
    return Findings(
        "compare: a difference found where there is one",
        f"B better by so much for every feature; a feature's own difference has a standard "
        f"deviation of {_SPREAD}; 200 features.",
        ("design", "B − A", "found"),
        rows,
        [
            Claim(
                "power for .03, independent features", powers[_Design(1, 200, 0.0), 0.03], 0.95, 1
            ),
            Claim("power for .06, shared shift .06", powers[_Design(10, 20, 0.06), 0.06], 0.9, 1),
        ],
    )


def _wins(features: int, rng: np.random.Generator) -> Findings:
    """Of single features: McNemar's test on the windows of both, against intervals that lie apart.

    Both labels are right on windows that are easy, and differ on the others.
    """
    n = sum(_WINDOWS)
    firing = np.arange(n) < _WINDOWS[0]
    feature = np.repeat(np.arange(features), n)
    rows, powers = [], {}
    for gain in (0.0, 0.1, 0.2, 0.4):
        easy = rng.random((features, n))
        rates = rng.uniform(0.4, 0.6, features)
        right = [
            easy + rng.normal(0, 0.2, (features, n)) < rates[:, None] + more for more in (0, gain)
        ]
        p = mcnemar(feature, right[0].ravel(), right[1].ravel(), features)
        apart = np.mean([_apart(a, b, firing) for a, b in zip(right[0], right[1], strict=True)])
        found = float((p <= _LEVEL).mean())
        rows.append((gain, float(np.mean(right[1]) - np.mean(right[0])), found, float(apart)))
        powers[gain] = found, float(apart)
    return Findings(
        "compare: single features won or lost",
        f"{features} features, {_WINDOWS[0]} firing and {_WINDOWS[1]} silent windows that both "
        "judges see. Share of features told apart, before the correction for their number.",
        ("gain", "accuracy B − A", "McNemar p ≤ .05", "intervals apart"),
        rows,
        [
            Claim("features told apart that are alike", powers[0.0][0], 0.0, 0.05),
            Claim("gain of McNemar over intervals apart", powers[0.2][0] - powers[0.2][1], 0.1, 1),
        ],
    )


def _apart(a: np.ndarray, b: np.ndarray, firing: np.ndarray) -> bool:
    first, second = _accuracy(a, firing), _accuracy(b, firing)
    return first.ci_high < second.ci_low or second.ci_high < first.ci_low


def _accuracy(right: np.ndarray, firing: np.ndarray) -> Estimate:
    hits, alarms = int(right[firing].sum()), int((~right[~firing]).sum())
    yes, n = {"fires": hits, "other": alarms}, dict(zip(("fires", "other"), _WINDOWS, strict=True))
    return balanced_accuracy(Counts(0.1, {"other": 1.0}, yes, n))


def _tokens(repeats: int, rng: np.random.Generator) -> Findings:
    """Scores of single tokens from a simulation's windows: recall, which there is, and the others.

    Firing windows have one to three firings, drawn by firing; a judge finds four fifths of them and
    says yes to two tokens of as many silent windows as make its precision.
    """
    rows, recalls, scores = [], [], {}
    recall = 0.8
    for density in (0.1, 0.01, 0.001):
        for precision in (0.2, 0.9):
            for windows in (5, 25):
                firings = rng.choice([1, 2, 3], (repeats, windows), p=np.array([1, 2, 3]) / 6)
                shares = rng.binomial(firings, recall) / firings
                alarms = density * 2 * recall * (1 / precision - 1) / (1 - density)
                false = 2 * rng.binomial(windows, min(alarms / 2, 1), repeats) / windows
                # Windows of a corpus have two firings each, those drawn by firing more.
                per_window = windows / (1 / firings).sum(1)
                hits = density * per_window * shares.mean(1)
                f1 = 2 * hits / (hits + (1 - density) * false + density * per_window)
                truth = 2 * precision * recall / (precision + recall)
                bias = float(f1.mean()) - truth
                rows.append((density, precision, f"{windows} + {windows}", truth, bias))
                recalls.append(abs(float(shares.mean()) - recall))
                scores[density, precision, windows] = bias
    return Findings(
        "simulation: scores of tokens",
        "What token F1 would be too high by, from so many firing and silent windows, where a share "
        f"of windows fires; recall is off by at most {max(recalls):.3f}.",
        ("windows that fire", "precision", "windows", "true F1", "bias of F1"),
        rows,
        [
            Claim("bias of token recall", max(recalls), 0.0, 0.01),
            Claim("bias of token F1, left out for it", scores[0.01, 0.2, 25], 0.1, 1.0),
        ],
    )
