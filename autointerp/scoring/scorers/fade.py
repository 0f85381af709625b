"""FADE: does the label's concept set the feature off, and does the feature bring the concept about?

The four measures of Puri et al. 2025 (arXiv 2502.16994). A judge rates how far the label's concept
is in a text: 0, 1 or 2. Responsiveness and purity compare the feature's activation on natural texts
rated 2 and 0; they are what the scorer here judges. Clarity compares texts written for the concept
with natural ones, faithfulness text generated with and without the feature turned up: these need
the subject model, and come from `fade_experiment.py`.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar

import numpy as np
from pydantic import field_validator

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.section import names_in, setting
from autointerp.evidence.window_text import one_line
from autointerp.llm.numbering import numbers
from autointerp.llm.wire.request import ReplySchema, number_lists
from autointerp.llm.wire.structured import lists
from autointerp.metrics.estimates import MISSING, Estimate
from autointerp.metrics.intervals import interval
from autointerp.metrics.metrics import average_precision
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.rules import Rule
from autointerp.scoring.scorer import (
    FIRES,
    FurtherColumn,
    Item,
    Judged,
    Judgment,
    Material,
    Plan,
    Scorer,
    Task,
    activating,
)
from autointerp.scoring.scorers.concept_texts import TASK as TEXTS
from autointerp.scoring.scorers.fade_measures import (
    ABSENT,
    CLARITY,
    FAITHFULNESS,
    NAME,
    SHOWN,
    either_way,
    separation,
)
from autointerp.scoring.strata import draw
from autointerp.vocabulary import Vocabulary

METRIC = "purity"
RESPONSIVENESS = "fade_responsiveness"
_SILENT = 1.5  # silent windows for each activating one, as detection has it
_DRAWS = 1000


class FadeSettings(ScorerSettings):
    # The experiment that they are for says what it depends on.
    KNOWN_OTHERWISE: ClassVar[tuple[str, ...]] = ("texts", "factors", "continuations")

    windows: int = setting(
        20, "Activating windows for FADE to rate; 1.5 times as many non-activating ones.", ge=2
    )
    texts: int = setting(15, "Texts that the model writes about a label's concept for FADE.", ge=2)
    factors: str = setting(
        "-50,-10,-1,1,10,50",
        "Steering strengths for FADE, in multiples of the feature's largest activation; texts "
        "without steering are always written too.",
    )
    continuations: int = setting(
        10, "Texts that the subject model writes for FADE at each strength.", ge=2
    )

    @field_validator("factors")
    @classmethod
    def _are_factors(cls, value: str) -> str:
        try:
            factors = [float(name) for name in names_in(value)]
        except ValueError:
            factors = []
        if not factors or not all(isfinite(factor) and factor != 0 for factor in factors):
            raise ValueError(f"{value!r}: give numbers other than 0, with commas")
        return value

    def steering_factors(self) -> list[float]:
        return list(dict.fromkeys(float(name) for name in names_in(self.factors)))


def plan(material: Material, settings: FadeSettings) -> Plan:
    """Natural texts: activating ones over the range, half as many again silent ones.

    An item's truth is the feature's largest activation on it.
    """
    evidence, corpus = material.evidence, material.corpus

    def activation(value: float) -> np.ndarray:
        return np.array([value], dtype=np.float32)

    if not material.strata:  # activating windows alone would be rated for nothing
        return material.plan([])
    items = [
        Item(w, FIRES, activation(float(w.activations.max())))
        for w in activating(evidence, settings.windows)
    ]
    silent = draw(
        material.strata, round(_SILENT * settings.windows), evidence.feature, material.seed
    )
    items += [Item(corpus.silent_window(i), name, activation(0.0)) for name, i in silent]
    return material.plan(items)


def reduce(judged: Judged, seed: int) -> dict[str, Estimate]:
    """Metric name → estimate, over the windows rated 2 or 0.

    Activating windows weigh as much as silent ones, and kinds of silent ones by their shares, as in
    detection; `fade_population_…` have both weighted as the corpus has them.
    """
    found: dict[str, Estimate] = {}
    for prefix, firing in (("", 0.5), ("fade_population_", judged.plan.density)):
        rated = [(j, w) for j, w in _weighted(judged, firing) if _rating(j) in (SHOWN, ABSENT)]
        truth = np.array([_rating(j) == SHOWN for j, _ in rated], dtype=bool)
        activation = np.array([j.item.truth[0] for j, _ in rated], dtype=np.float64)
        weights = np.array([w for _, w in rated])
        name = f"{prefix}responsiveness" if prefix else RESPONSIVENESS
        found |= {f"{prefix}{METRIC}": MISSING, name: MISSING}
        # Where no text is rated 0, all are the concept's: that says nothing of purity.
        if len(np.unique(truth)) < 2 or np.isnan(firing):
            continue
        drawn = _draws(judged, firing, seed)
        rows = truth, activation, weights
        pure, apart = (
            interval(float(metric(*rows)), metric(*drawn), len(truth))
            for metric in (average_precision, separation)
        )
        found |= {f"{prefix}{METRIC}": pure, name: either_way(apart)}
    return found


def _draws(judged: Judged, firing: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth [rows], activation [rows] and weights [draws, rows] of texts rated 2 or 0.

    A Bayesian bootstrap (Rubin 1981) within each stratum, of which half a text of either rating is
    added, at an activation that is drawn, as under Jeffreys' prior: that none of a few dozen silent
    texts was rated 2 does not mean that none in the corpus would be, and they are most of it.
    """
    shares = judged.plan.shares
    strata: dict[str, list[tuple[float, float]]] = {}  # of each text, rating and activation
    for j in judged.readable():
        strata.setdefault(j.item.stratum, []).append((_rating(j), float(j.item.truth[0])))
    silent = sum(shares[s] for s in strata if s in shares)
    rng = np.random.default_rng(seed)
    rows: list[tuple[float, float]] = []
    weights = []
    for stratum, texts in strata.items():
        # Texts that are alike are one row: the weights of several are one gamma, too.
        shapes: dict[tuple[float, float], float] = defaultdict(float)
        for rating, activation in texts:
            shapes[rating, activation] += 1
            for either in (SHOWN, ABSENT):
                shapes[either, activation] += 0.5 / len(texts)
        drawn = rng.standard_gamma(np.array(list(shapes.values())), (_DRAWS, len(shapes)))
        mass = (1 - firing) * shares[stratum] / silent if stratum in shares else firing
        rows += shapes
        weights.append(mass * drawn / drawn.sum(1, keepdims=True))
    ratings, activations = np.array(rows).T
    kept = np.isin(ratings, (SHOWN, ABSENT))
    return ratings[kept] == SHOWN, activations[kept], np.concatenate(weights, axis=1)[:, kept]


def _rating(judgment: Judgment) -> float:
    assert judgment.prediction is not None
    return float(judgment.prediction[0])


def _weighted(judged: Judged, firing: float) -> list[tuple[Judgment, float]]:
    """The rated windows with their weights; `firing` is that of all activating ones together.

    Empty where nothing was rated on one side.
    """
    readable, shares = judged.readable(), judged.plan.shares
    counts = Counter(j.item.stratum for j in readable)
    silent = sum(shares[s] for s in counts if s in shares)
    if silent == 0 or counts.keys() <= shares.keys():
        return []
    each = {
        s: ((1 - firing) * shares[s] / silent if s in shares else firing) / n
        for s, n in counts.items()
    }
    return [(j, each[j.item.stratum]) for j in readable]


def _render(number: int, item: Item, _vocabulary: Vocabulary) -> dict[str, Any]:
    return {"number": number, "text": one_line(item.window.text)}


def _schema(items: Sequence[Item], scattered: bool) -> ReplySchema:
    return number_lists(list(_RATINGS), numbers(len(items), scattered))


def _read(text: str, items: Sequence[Item], scattered: bool) -> dict[int, np.ndarray]:
    found = lists(text, list(_RATINGS), len(items), scattered)
    return {place - 1: np.array([_RATINGS[key]], np.float32) for place, key in found.items()}


def _by_rule(labeler: LexicalLabeler, rule: Rule, items: Sequence[Item]) -> list[Judgment]:
    fires = labeler.fires(rule, [item.window for item in items])
    ratings = [np.array([SHOWN if f else ABSENT], dtype=np.float32) for f in fires]
    return [Judgment(i, r) for i, r in zip(items, ratings, strict=True)]


_RATINGS: Mapping[str, int] = {"clear": SHOWN, "partly": 1, "none": ABSENT}

SCORER = Scorer(
    name=NAME,
    metric=METRIC,
    about="FADE's purity: average precision of the activation for windows rated to show the label",
    settings=FadeSettings,
    order=60,
    samples={
        NAME: [{"label": "a label", "windows": [{"number": 1, "text": "a"}]}],
        TEXTS: [{"label": "a label", "number": 2}],
    },
    columns=(
        FurtherColumn(
            CLARITY,
            "FADE: how far activations on texts written for the label lie apart from those on the "
            "corpus, |2 AUROC - 1|",
        ),
        FurtherColumn(
            RESPONSIVENESS,
            "FADE: how far activations on windows rated to show the label lie apart from those "
            "that do not, |2 AUROC - 1|",
        ),
        FurtherColumn(
            FAITHFULNESS,
            "FADE: how much more often the label is in what the subject model writes with the "
            "feature turned up",
        ),
    ),
    plan=plan,
    reduce=reduce,
    task=Task(_schema, _render, _read, lambda _: 4),
    by_rule=_by_rule,
    experiment="autointerp.scoring.experiments.fade_experiment:EXPERIMENT",
)
