"""A score beside its null: p-value and lift among nulls of like density, q-value over the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import false_discovery_control

from autointerp.metrics.estimates import Estimate
from autointerp.metrics.null_distribution import among_nulls
from autointerp.scoring import SCORERS, chance_of
from autointerp.scoring.scorer import Score


@dataclass(frozen=True, slots=True)
class Found:
    """A metric of one feature by one label, whether there is a value or not.

    `density` is the share of the corpus's windows, or of its tokens, in which the feature fires:
    the same of all features that are compared. `as_null`: the value when it is estimated as those
    of nulls are, for a metric whose estimate rests on what other labels got.
    """

    estimate: Estimate
    parse_rate: float
    density: float
    as_null: float | None = None

    @property
    def compared(self) -> float:
        """What is compared with nulls; NaN where there is none."""
        return self.estimate.value if self.as_null is None else self.as_null

    def value(self, where_flat: float | None) -> float:
        """As `compared`; `where_flat` where the judge's answers are all alike."""
        if where_flat is not None and np.isnan(self.compared) and self.parse_rate > 0:
            return where_flat
        return self.compared


def beside_nulls(
    scorer: str, metric: str, own: Mapping[int, Found], nulls: Mapping[int, Found]
) -> list[Score]:
    """Scores of one metric, by feature; nulls: the same feature's windows by another's label.

    A null without a value is left out, as a label without one gets no p-value: of both the same
    kind is missing. But where all answers being alike is what leaves a metric open (`Scorer.flat`),
    few labels that do not fit have a value, and those the better ones. There it counts as what it
    amounts to, of nulls and of labels, unless a feature's label and null both have none: then it
    may be the windows that have none.
    """
    flat = SCORERS[scorer].flat.get(metric) if scorer in SCORERS else None
    neither = {
        f
        for f, null in nulls.items()
        if np.isnan(null.compared) and f in own and np.isnan(own[f].compared)
    }
    against = {
        f: value
        for f, null in nulls.items()
        if f not in neither and not np.isnan(value := null.value(flat))
    }
    values = np.array(
        [found.value(None if f in neither else flat) for f, found in own.items()], dtype=float
    )
    density = np.array([found.density for found in own.values()], dtype=float)
    found = among_nulls(
        values,
        density,
        np.array(list(against.values()), dtype=float),
        np.array([nulls[feature].density for feature in against], dtype=float),
    )
    chance = chance_of(scorer, metric)
    middles = found.middle if chance is None else np.full(len(own), chance)
    scores = []
    for i, (feature, mine) in enumerate(own.items()):
        null = nulls[feature].estimate.value if feature in nulls else None
        middle = float(middles[i])
        lift = (mine.compared - middle) / (1 - middle) if middle < 1 else float("nan")
        scores.append(
            Score(
                feature,
                scorer,
                metric,
                mine.estimate,
                chance if chance is not None else null,
                mine.parse_rate,
                _known(float(found.p_value[i])),
                _known(lift),
            )
        )
    return scores


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def with_q_values(scores: Sequence[Score]) -> list[Score]:
    """The scores of one metric, those with a p-value with a q-value: the lowest false discovery
    rate at which the label is among those that do better than another's (Benjamini and Hochberg
    1995), over all features that have one.
    """
    p_values = np.array([s.p_value for s in scores if s.p_value is not None])
    if not len(p_values):
        return list(scores)
    q_values = iter(false_discovery_control(p_values).tolist())
    return [s if s.p_value is None else replace(s, q_value=next(q_values)) for s in scores]
