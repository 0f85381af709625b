"""From judgments to scores: each beside its null, and what they say of the whole corpus."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isnan

from autointerp.metrics.estimates import Counts, Estimate
from autointerp.metrics.population import MAX_WIDTH, population
from autointerp.metrics.sequential import anytime_balanced_accuracy
from autointerp.scoring import SCORERS
from autointerp.scoring.beside_nulls import Found, beside_nulls, with_q_values
from autointerp.scoring.scorer import Judged, Score

_Values = dict[int, dict[str, Estimate]]  # feature → metric → estimate

_ANY = 2.0  # wider than any interval of a metric that is at most 1, MCC included
POPULATION = "detection"  # the scorer whose judgments are weighed for the corpus


@dataclass(frozen=True, slots=True)
class _Part:
    """What remains of a judgment once its estimates are made."""

    estimates: dict[str, Estimate]
    counts: Counts | None
    parse_rate: float
    density: float
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
        part = _Part(
            estimates,
            counts,
            judged.parse_rate(),
            judged.plan.density,
            judged.mode,
            judged.is_uniform(),
        )
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
            values, null_values, as_nulls = self._with_population(scorer, parts, nulls)
            for metric in dict.fromkeys(m for estimates in values.values() for m in estimates):
                # Ways of asking are different measurements: a score stands beside its own kind.
                own = _by_mode(metric, values, parts, as_nulls)
                null = _by_mode(metric, null_values, nulls)
                of_metric = [
                    replace(score, mode=mode, uniform=parts[score.feature].uniform)
                    for mode, of_mode in own.items()
                    for score in beside_nulls(scorer, metric, of_mode, null[mode])
                ]
                for score in with_q_values(of_metric):
                    found[score.feature].append(score)
        return found

    def _with_population(
        self, scorer: str, own: Mapping[int, _Part], nulls: Mapping[int, _Part]
    ) -> tuple[_Values, _Values, _Values]:
        """The values of labels, of nulls, and what labels have when they are estimated with these.

        What holds for labels is learned from labels. But a label and a null of the same answers
        must have the same value to be compared, and so one prior.
        """
        values, null_values = (
            {f: dict(part.estimates) for f, part in sorted(parts.items())} for parts in (own, nulls)
        )
        if scorer != POPULATION:
            return values, null_values, {}
        counts, null_counts = (
            {f: part.counts for f, part in sorted(parts.items()) if part.counts is not None}
            for parts in (own, nulls)
        )
        found = self._population(counts.values())
        for feature, of_corpus in zip(counts, found, strict=True):
            values[feature] |= of_corpus
        if not null_counts:
            return values, null_values, {}
        # Compared are the values themselves, also where the table calls them unknown.
        together = self._population([*counts.values(), *null_counts.values()], max_width=_ANY)
        for feature, of_corpus in zip(null_counts, together[len(counts) :], strict=True):
            null_values[feature] |= of_corpus
        return values, null_values, dict(zip(counts, together, strict=False))

    def _population(
        self, counts: Iterable[Counts], max_width: float = MAX_WIDTH
    ) -> list[dict[str, Estimate]]:
        found = population(list(counts), self._seed, max_width)
        return [{f"population_{m}": e for m, e in of_corpus.items()} for of_corpus in found]


def _by_mode(
    metric: str, values: _Values, parts: Mapping[int, _Part], as_nulls: _Values | None = None
) -> dict[str | None, dict[int, Found]]:
    """Mode → feature → what was found of one metric."""
    found: dict[str | None, dict[int, Found]] = defaultdict(dict)
    for feature, estimates in values.items():
        if metric in estimates:
            part = parts[feature]
            same = (as_nulls or {}).get(feature, {}).get(metric)
            unknown = isnan(estimates[metric].value)
            compared = None if same is None or unknown else same.value
            found[part.mode][feature] = Found(
                estimates[metric], part.parse_rate, part.density, compared
            )
    return found
