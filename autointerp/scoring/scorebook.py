"""From judgments to scores: each beside its null, and what they say of the whole corpus."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from autointerp.metrics.estimates import Counts, Estimate
from autointerp.metrics.population import population
from autointerp.metrics.sequential import anytime_balanced_accuracy
from autointerp.scoring import SCORERS, chance_of
from autointerp.scoring.scorer import Judged, Score

POPULATION = "detection"  # the scorer whose judgments are weighed for the corpus


@dataclass(frozen=True, slots=True)
class _Part:
    """What remains of a judgment once its estimates are made."""

    estimates: dict[str, Estimate]
    counts: Counts | None
    parse_rate: float
    mode: str | None
    uniform: bool


class Scorebook:
    """Takes judgments in any order; holds no windows. `spent` has what each feature's took.

    `nulls`: feature → the feature whose label is judged for its null.
    """

    def __init__(self, nulls: Mapping[int, int], seed: int, precision: float | None) -> None:
        self._nulls = nulls
        self._seed = seed
        self._precision = precision
        self._parts: dict[str, dict[int, _Part]] = defaultdict(dict)
        self._null_parts: dict[str, dict[int, _Part]] = defaultdict(dict)
        self.spent: dict[int, list[Judged]] = defaultdict(list)

    def take(self, judged: Judged) -> bool:
        """Take one judgment; True when it completes its feature's score."""
        scorer = SCORERS[judged.scorer]
        estimates = scorer.reduce(judged, self._seed)
        counts = scorer.counts(judged) if scorer.counts else None
        if counts is not None and self._precision is not None:
            estimates[scorer.metric] = anytime_balanced_accuracy(counts)
        part = _Part(estimates, counts, judged.parse_rate(), judged.mode, judged.is_uniform())
        own = judged.label_of == judged.feature
        (self._parts if own else self._null_parts)[judged.scorer][judged.feature] = part
        error = judged.error if own else None
        bare = replace(judged, plan=replace(judged.plan, items=()), judgments=(), error=error)
        self.spent[judged.feature].append(bare)
        done = judged.feature in self._parts[judged.scorer]
        if scorer.needs_label and judged.feature in self._nulls:
            done &= judged.feature in self._null_parts[judged.scorer]
        return done

    def scores(self) -> dict[int, list[Score]]:
        """feature → its scores, once all judgments are in."""
        found: dict[int, list[Score]] = defaultdict(list)
        for scorer, parts in self._parts.items():
            nulls = self._null_parts[scorer]
            own_values, null_values = self._with_population(scorer, parts, nulls)
            metrics = list(dict.fromkeys(m for values in own_values.values() for m in values))
            for metric in metrics:
                # Ways of asking are different measurements: a score stands beside its own kind.
                own: dict[str | None, dict[int, tuple[Estimate, float]]] = defaultdict(dict)
                for feature, values in own_values.items():
                    if metric in values:
                        part = parts[feature]
                        own[part.mode][feature] = values[metric], part.parse_rate
                null: dict[str | None, dict[int, float]] = defaultdict(dict)
                for feature, values in null_values.items():
                    if metric in values:
                        null[nulls[feature].mode][feature] = values[metric].value
                for mode, of_mode in own.items():
                    for score in beside_nulls(scorer, metric, of_mode, null[mode]):
                        uniform = parts[score.feature].uniform
                        found[score.feature].append(replace(score, mode=mode, uniform=uniform))
        return found

    def _with_population(
        self, scorer: str, own: Mapping[int, _Part], nulls: Mapping[int, _Part]
    ) -> tuple[dict[int, dict[str, Estimate]], dict[int, dict[str, Estimate]]]:
        both = []
        for parts in (own, nulls):
            features = sorted(parts)
            values = {f: dict(parts[f].estimates) for f in features}
            if scorer == POPULATION:
                counts = [c for f in features if (c := parts[f].counts) is not None]
                for feature, found in zip(features, population(counts, self._seed), strict=True):
                    values[feature] |= {f"population_{m}": e for m, e in found.items()}
            both.append(values)
        return both[0], both[1]


def beside_nulls(
    scorer: str,
    metric: str,
    own: Mapping[int, tuple[Estimate, float]],
    nulls: Mapping[int, float],
) -> Iterator[Score]:
    """Scores of one metric; own: feature → estimate and parse rate, nulls: feature → value."""
    against = np.sort([v for v in nulls.values() if not np.isnan(v)])
    for feature, (estimate, parse_rate) in own.items():
        key = (feature, scorer, metric)
        yield _score(key, estimate, nulls.get(feature), against, parse_rate)


def _score(
    key: tuple[int, str, str],
    estimate: Estimate,
    null: float | None,
    against: np.ndarray,
    parse_rate: float,
) -> Score:
    """A score beside its null; against: the nulls of all features, ascending."""
    chance = chance_of(*key[1:])
    lift = p_value = None
    if chance is not None:
        null, middle = chance, chance
    else:
        middle = float(np.median(against)) if len(against) else float("nan")
    if not np.isnan(estimate.value):
        if len(against):
            as_good = len(against) - int(np.searchsorted(against, estimate.value, side="left"))
            p_value = (1 + as_good) / (1 + len(against))
        if not np.isnan(middle) and middle < 1:
            lift = (estimate.value - middle) / (1 - middle)
    return Score(*key, estimate, null, parse_rate, p_value, lift)
