"""How a run's scores are spread: beside their null, against density, by activation."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from autointerp.report.control_table import metric_name
from autointerp.scoring import SCORERS, chance_of

ALPHA = 0.05  # also the false discovery rate
BINS = 40
_BINS_PER_DECADE = 4
_DIGITS = 6  # float32 resolves no more; a score of 0.7 goes into the bin that begins there
_TAIL = 0.01
MAX_POINTS = 4000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Distribution:
    """One metric over the `n` features that have it, beside the null: another feature's label.

    `edges` [bins + 1] go up in equal steps; the first and the last bin also take what lies beyond
    them, down to `lowest` and up to `highest` of both. `counts` and `null_counts` [bins] are of
    features.
    `p_below` is the share of features with a p-value whose p is under 0.05; of `tested` features
    with a q-value `beat_null` have one of 0.05 at most. What has no value is counted nowhere.
    """

    scorer: str
    metric: str
    title: str
    main: bool  # whether it is its scorer's main metric
    n: int
    median: float
    quartiles: tuple[float, float]
    lowest: float
    highest: float
    null_n: int
    null_median: float | None
    by_chance: bool  # the null is what chance gets, the same for every feature
    edges: list[float]
    counts: list[int]
    null_counts: list[int]
    p_below: float | None
    tested: int
    beat_null: int

    def discovery_line(self) -> str | None:
        """How many labels do better than another's; None where that is not known."""
        if not self.tested:
            return None
        # The smallest p value is about 1 / (1 + nulls): so many labels must reach it together.
        fewest = math.ceil(self.tested / ALPHA / (1 + self.null_n))
        if fewest > self.tested:
            return f"{self.null_n:,} nulls are too few to say which labels beat them"
        line = (
            f"{self.beat_null:,} of {self.tested:,} labels beat another feature's label at an FDR "
            f"of {ALPHA:.0%}"
        ).replace("%", " %")
        if not self.beat_null and fewest > 1:
            line += f" (with {self.null_n:,} nulls, at least {fewest:,} labels must beat all)"
        return line


@dataclass(frozen=True, slots=True)
class Scatter:
    """A scorer's main metric against density: a uniform sample of the `of` scored features.

    `feature`, `density` (share of tokens) and `value` have one entry a point, by feature.
    """

    scorer: str
    metric: str
    title: str
    feature: list[int]
    density: list[float]
    value: list[float]
    of: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Features by density: `edges` [bins + 1] in equal steps of the logarithm, `counts` [bins].

    Both are empty where no feature fires; `zero` features never do.
    """

    edges: list[float]
    counts: list[int]
    zero: int


@dataclass(frozen=True, slots=True)
class StratumRow:
    """What judges said of one kind of window by the own label, and by another feature's.

    `low` and `high` are the 95 % interval of `own`; `n` the readable judgments by the own label.
    """

    name: str
    own: float | None
    low: float | None
    high: float | None
    another: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Curve:
    """A scorer's judgments by stratum: deciles of activation, weakest first, then others by kind.

    `figure` is said_yes, a share, or correlation. The others should get a no: silent windows, or
    for fuzzing wrongly marked ones.
    """

    scorer: str
    figure: str
    rows: list[StratumRow]

    def deciles(self) -> list[StratumRow]:
        return [row for row in self.rows if row.name.endswith("%")]

    def others(self) -> list[StratumRow]:
        return [row for row in self.rows if not row.name.endswith("%")]


def distributions(scores: pd.DataFrame) -> list[Distribution]:
    """One of every metric that has a value, main metrics first.

    `scores` has the columns scorer, metric, value, null_value, p_value and q_value of
    `scores.parquet`.
    """
    found = [
        _distribution(str(scorer), str(metric), rows)
        for (scorer, metric), rows in scores.groupby(["scorer", "metric"], observed=True)
        if rows["value"].notna().any()
    ]
    return sorted(found, key=lambda d: (not d.main, _order(d.scorer), d.metric))


def _order(scorer: str) -> tuple[int, str]:
    names = list(SCORERS)
    return (names.index(scorer) if scorer in SCORERS else len(names)), scorer


def _distribution(scorer: str, metric: str, rows: pd.DataFrame) -> Distribution:
    value, null, p, q = (
        _known(rows[name]) for name in ("value", "null_value", "p_value", "q_value")
    )
    chance = chance_of(scorer, metric)
    if chance is not None:
        null = null[:0]
    both = np.concatenate([value, null])
    edges = _edges(both)
    low, median, high = np.quantile(value, [0.25, 0.5, 0.75]).tolist()
    return Distribution(
        scorer=scorer,
        metric=metric,
        title=metric_name(scorer, metric),
        main=scorer in SCORERS and SCORERS[scorer].metric == metric,
        n=len(value),
        median=median,
        quartiles=(low, high),
        lowest=float(both.min()),
        highest=float(both.max()),
        null_n=len(null),
        null_median=float(np.median(null)) if len(null) else chance,
        by_chance=chance is not None,
        edges=edges.tolist(),
        counts=_counts(np.round(value, _DIGITS), edges),
        null_counts=_counts(np.round(null, _DIGITS), edges),
        p_below=float((p < ALPHA).mean()) if len(p) else None,
        tested=len(q),
        beat_null=int((q <= ALPHA).sum()),
    )


def _known(column: pd.Series) -> np.ndarray:
    """The values that are there: float64, any number."""
    values = column.to_numpy(np.float64)
    known: np.ndarray = values[np.isfinite(values)]
    return known


def _edges(values: np.ndarray) -> np.ndarray:
    """From 0, or -1, to 1, where nearly all values lie there, else as far as 98 % of them do."""
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    first = 0.0 if values.min() >= 0 else -1.0 if low >= -1 else float(low)
    last = 1.0 if high <= 1 else float(high)
    return np.round(np.linspace(first, last, BINS + 1), 10)


def _counts(values: np.ndarray, edges: np.ndarray) -> list[int]:
    """How many values lie in each bin, those beyond in the first and last: [bins]."""
    places = np.searchsorted(edges, values, side="right") - 1
    bins = len(edges) - 1
    counts: list[int] = np.bincount(places.clip(0, bins - 1), minlength=bins).tolist()
    return counts


def scatters(scores: pd.DataFrame, features: np.ndarray, density: np.ndarray) -> list[Scatter]:
    """Every scorer's main metric against density. features, density: [features], by feature."""
    found = []
    for scorer, kind in SCORERS.items():
        rows = scores[(scores["scorer"] == scorer) & (scores["metric"] == kind.metric)]
        rows = rows[rows["value"].notna()]
        if rows.empty:
            continue
        chosen = _sample(len(rows))
        points = rows.sort_values("feature").iloc[chosen]
        wanted = points["feature"].to_numpy()
        place = np.searchsorted(features, wanted).clip(max=len(features) - 1)
        known = (features[place] == wanted) & np.isfinite(density[place])
        points, place = points[known], place[known]
        if points.empty:
            continue
        found.append(
            Scatter(
                scorer=scorer,
                metric=kind.metric,
                title=metric_name(scorer, kind.metric),
                feature=points["feature"].tolist(),
                density=_short(density[place]),
                value=_short(points["value"].to_numpy()),
                of=len(rows),
            )
        )
    return found


def _short(values: np.ndarray) -> list[float]:
    """float32 values with the digits that they have, not those of a float64: for small JSON."""
    shortest: list[float] = values.astype(np.float32).astype(str).astype(np.float64).tolist()
    return shortest


def _sample(n: int) -> np.ndarray:
    """Places of at most `MAX_POINTS` of n, ascending, each equally likely."""
    if n <= MAX_POINTS:
        return np.arange(n)
    return np.sort(np.random.default_rng(_SEED).choice(n, MAX_POINTS, replace=False))


def density_histogram(density: np.ndarray) -> Histogram:
    """density: [features], shares of tokens."""
    fires = density[density > 0].astype(np.float64)
    zero = len(density) - len(fires)
    if not len(fires):
        return Histogram([], [], zero)
    lowest = min(-1, math.floor(math.log10(fires.min())))
    powers = np.linspace(lowest, 0, -lowest * _BINS_PER_DECADE + 1)
    edges = np.array([float(f"{10**power:.6g}") for power in powers])
    return Histogram(edges.tolist(), _counts(fires, edges), zero)


def curves(strata: pd.DataFrame) -> list[Curve]:
    """What `load_strata` found, by scorer; those that predict activations have deciles alone."""
    found = []
    for scorer in strata["scorer"].unique() if len(strata) else []:
        rows = strata[strata["scorer"] == scorer]
        figure = "correlation" if SCORERS[scorer].per_token else "said_yes"
        another = rows[rows["label"] == "another"].set_index("stratum")
        of_null = another[figure].to_dict()
        made = [
            StratumRow(
                name=row["stratum"],
                own=_finite(row[figure]),
                low=_finite(row.get("ci_low")),
                high=_finite(row.get("ci_high")),
                another=_finite(of_null.get(row["stratum"])),
                n=int(row["n"]),
            )
            for row in rows[rows["label"] == "own"].to_dict("records")
        ]
        curve = Curve(str(scorer), figure, made)
        found.append(Curve(str(scorer), figure, [*curve.deciles(), *curve.others()]))
    return found


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
