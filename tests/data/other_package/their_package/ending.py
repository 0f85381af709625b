"""Ending: does the excerpt, cut off right after a token, end in what the label says?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.section import setting
from autointerp.evidence.window import Window
from autointerp.evidence.window_text import one_line
from autointerp.llm.numbering import numbers
from autointerp.llm.wire.request import ReplySchema, number_lists
from autointerp.llm.wire.structured import sides
from autointerp.metrics.estimates import MISSING, Estimate, wilson
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
    answer,
)
from autointerp.scoring.strata import draw_uniform
from autointerp.vocabulary import Vocabulary


class EndingSettings(ScorerSettings):
    windows: int = setting(6, "Activating windows to cut off, and as many silent ones.", ge=2)
    tokens: int = setting(1, "Tokens that are shown of each.", ge=1)


def plan(material: Material, settings: EndingSettings) -> Plan:
    """Activating windows up to their peak, and silent ones up to a token in the middle."""

    def item(window: Window, end: int, fires: bool) -> Item:
        part = slice(max(0, end - settings.tokens), end)
        return Item(window, FIRES if fires else "silent", answer(fires), part=part)

    shown = activating(material.evidence, settings.windows)
    items = [item(window, window.peak + 1, True) for window in shown]
    feature, seed = material.evidence.feature, material.seed
    for number in draw_uniform(material.strata, settings.windows, feature, seed):
        window = material.corpus.silent_window(number)
        items.append(item(window, len(window.token_ids) // 2 + 1, False))
    return material.plan(items)


def reduce(judged: Judged, seed: int) -> dict[str, Estimate]:
    """Metric → estimate. Only what could be read counts."""
    answers = [
        (bool(j.item.truth[0]), bool(j.prediction[0]))
        for j in judged.readable()
        if j.prediction is not None
    ]
    return {
        "accuracy": _share([said == truth for truth, said in answers]),
        "ending_recall": _share([said == truth for truth, said in answers if truth]),
    }


def _share(right: list[bool]) -> Estimate:
    if not right:
        return MISSING
    low, high = wilson(sum(right), len(right))
    return Estimate(sum(right) / len(right), low, high, len(right))


def _render(number: int, item: Item, vocabulary: Vocabulary) -> dict[str, Any]:
    """What the template is given of one item."""
    ids = item.window.token_ids[item.part].tolist()
    return {"number": number, "text": one_line(vocabulary.text(ids))}


def _schema(items: Sequence[Item], scattered: bool) -> ReplySchema:
    return number_lists(("ends", "does_not"), numbers(len(items), scattered))


def _read(text: str, items: Sequence[Item], scattered: bool) -> dict[int, np.ndarray]:
    found = sides(text, "ends", "does_not", len(items), scattered)
    return {place - 1: answer(yes) for place, yes in found.items()}


def _by_rule(labeler: LexicalLabeler, rule: Rule, items: Sequence[Item]) -> list[Judgment]:
    predicted = labeler.predict(rule, [item.window for item in items])
    return [
        Judgment(item, answer(bool(levels[item.part][-1] > 0)))
        for item, levels in zip(items, predicted, strict=True)
    ]


SCORER = Scorer(
    name="ending",
    metric="accuracy",
    about="accuracy of telling excerpts that end where the feature fires from others",
    settings=EndingSettings,
    plan=plan,
    reduce=reduce,
    samples={"ending": [{"label": "a label", "windows": [{"number": 1, "text": "a"}]}]},
    template_folder=Path(__file__).parent,
    columns=(FurtherColumn("ending_recall", "the share of firing excerpts that were told"),),
    task=Task(_schema, _render, _read, lambda _: 4),
    by_rule=_by_rule,
)
