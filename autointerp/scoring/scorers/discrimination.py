"""Discrimination: which of these similar features is active here?

A label that is right may be as right of other features, which detection cannot see. The judge reads
a window in which the feature fires, and chooses between its label and those of the three features
most like it. Neighbors with the same label are choices as well: they cannot be told apart, and
choosing their common label is worth its share, 1 / 2 where two have it. So chance is 1 / 4 for any
labels, and a label that all four share scores no better. (That labels collide: arXiv 2605.12874.)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.section import setting
from autointerp.evidence.window_text import USUAL_MARKS, is_marked, marked, marks_for
from autointerp.llm.numbering import numbers
from autointerp.llm.wire.request import ReplySchema, number_lists
from autointerp.llm.wire.structured import lists
from autointerp.metrics.estimates import MISSING, Estimate, wilson
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.rules import Rule
from autointerp.scoring.scorer import (
    FIRES,
    Item,
    Judged,
    Judgment,
    Material,
    Plan,
    Scorer,
    Task,
    activating,
    answer,
)
from autointerp.scoring.scorers.choices import LETTERS, Choices
from autointerp.scoring.strata import similar_features
from autointerp.vocabulary import Vocabulary

NAME = "discrimination"
METRIC = "accuracy"
_OTHERS = len(LETTERS) - 1
_SALT = 0xD15C


class DiscriminationSettings(ScorerSettings):
    windows: int = setting(
        10,
        "Activating windows to match with this label or one of a similar feature.",
        ge=1,
    )


def plan(material: Material, settings: DiscriminationSettings) -> Plan:
    """Unseen activating windows; none where fewer than three others have a label.

    The labels are written once for all windows of a request: their order is drawn for the feature.
    """
    evidence = material.evidence
    nearest = material.labels.nearest(
        evidence.feature, evidence.n_active, similar_features(evidence), _OTHERS
    )
    if len(nearest) < _OTHERS:
        return material.plan([])
    rng = np.random.default_rng([material.seed, evidence.feature, _SALT])
    others = tuple(nearest[i] for i in rng.permutation(_OTHERS))
    choices = Choices(others, int(rng.integers(len(LETTERS))))
    shown = activating(evidence, settings.windows)
    return material.plan([Item(w, FIRES, answer(True), choices=choices) for w in shown])


def reduce(judged: Judged, seed: int) -> dict[str, Estimate]:
    """The mean worth of the choices. The interval is Wilson's, too wide where labels are shared."""
    worth = [float(j.prediction[0]) for j in judged.readable() if j.prediction is not None]
    if not worth:
        return {METRIC: MISSING}
    low, high = wilson(sum(worth), len(worth))
    return {METRIC: Estimate(sum(worth) / len(worth), low, high, len(worth))}


def _variables(items: Sequence[Item], _vocabulary: Vocabulary) -> dict[str, Any]:
    """All items of a plan have the same choices."""
    choices = items[0].choices if items else None
    return {"choices": choices.shown() if choices is not None else []}


def _render(number: int, item: Item, vocabulary: Vocabulary, **_common: Any) -> dict[str, Any]:
    marks = marks_for([item.window], vocabulary)
    text = marked(item.window, vocabulary, marks)
    return {
        "number": number,
        "marks": "" if marks == USUAL_MARKS else " ".join(marks),
        "text": text,
    }


def _schema(items: Sequence[Item], scattered: bool) -> ReplySchema:
    return number_lists(LETTERS, numbers(len(items), scattered))


def _read(text: str, items: Sequence[Item], scattered: bool) -> dict[int, np.ndarray]:
    found: dict[int, np.ndarray] = {}
    for place, letter in lists(text, LETTERS, len(items), scattered).items():
        choices = items[place - 1].choices
        assert choices is not None, "an item of another scorer"
        found[place - 1] = _worth(choices.credit(letter))
    return found


def _by_rule(labeler: LexicalLabeler, rule: Rule, items: Sequence[Item]) -> list[Judgment]:
    """The rule that predicts most on the active tokens is chosen; equal ones share the choice."""
    if not items:
        return []
    choices = items[0].choices
    assert choices is not None, "an item of another scorer"
    windows = [item.window for item in items]
    active = [is_marked(window.activations) for window in windows]
    others = [Rule.from_json(other.rule or "") for other in choices.others]
    predicted = np.array(
        [
            [
                levels[on].sum()
                for levels, on in zip(labeler.predict(r, windows), active, strict=True)
            ]
            for r in (rule, *others)
        ]
    )
    best = np.isclose(predicted, predicted.max(axis=0))
    worth = best[0] / best.sum(axis=0)
    return [Judgment(item, _worth(float(w))) for item, w in zip(items, worth, strict=True)]


def _worth(value: float) -> np.ndarray:
    return np.array([value], dtype=np.float32)


SCORER = Scorer(
    name=NAME,
    metric=METRIC,
    about="accuracy of choosing the label among those of similar features",
    settings=DiscriminationSettings,
    order=50,
    samples={
        NAME: [
            {
                "choices": [{"letter": "A", "label": "a label"}],
                "windows": [{"number": 1, "marks": marks, "text": "a"}],
            }
            for marks in ("", "« »")
        ]
    },
    plan=plan,
    reduce=reduce,
    task=Task(_schema, _render, _read, lambda _: 4, _variables),
    by_rule=_by_rule,
    chance=1 / len(LETTERS),
)
