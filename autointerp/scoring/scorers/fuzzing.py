"""Fuzzing: are the marked tokens those on which the feature is active? (Paulo et al. 2024, 3.2)

A judge that passes detection has found the right text; here it must find the tokens in it. Wrong
marks are of two kinds, each with a figure of its own: `within`, on silent tokens of other windows
in which the feature fires, which asks for the place alone, and `elsewhere`, on tokens of windows in
which it is silent, which asks for the text as well. Marks come in threes: one pattern on the right
tokens, on wrong ones within, and on wrong ones elsewhere. Where a pattern finds no place, as for a
feature that fires on all tokens, all three are left out.

The two kinds count the same in the main figure: which tokens of a text and which texts are two
questions, and no share of the corpus says how often either is asked. Since shares are fixed, it
does not move with how many answers of a kind could be read.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.section import setting
from autointerp.evidence.window import Window
from autointerp.evidence.window_text import marked, marks_for
from autointerp.metrics.estimates import Counts, Estimate, balanced_accuracy
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.rules import Rule
from autointerp.scoring.forms import LISTS, samples_of_forms, yes_or_no
from autointerp.scoring.scorer import (
    FIRES,
    Item,
    Judged,
    Judgment,
    Material,
    Plan,
    Scorer,
    activating,
    answer,
)
from autointerp.scoring.scorers.marks import (
    Hosts,
    Marked,
    cut,
    rightly_marked,
    shown_tokens,
    to_show,
)
from autointerp.scoring.scorers.ranking import AUROC, ranking_by_chances
from autointerp.scoring.strata import draw_uniform
from autointerp.vocabulary import Vocabulary

NAME = "fuzzing"
METRIC = "balanced_accuracy"
WITHIN, ELSEWHERE = "within", "elsewhere"
_SHARES = {WITHIN: 0.5, ELSEWHERE: 0.5}
_CHOICE = 4  # silent windows to choose from for each that is wanted


class FuzzingSettings(ScorerSettings):
    windows: int = setting(
        12,
        "Activating windows to show with the right tokens marked, and as many with each of the two "
        "kinds of wrong tokens.",
        ge=2,
    )

    def most_windows(self) -> int:
        return 2 * self.windows


def plan(material: Material, settings: FuzzingSettings) -> Plan:
    """Up to so many unseen activating windows with right marks, and as many of either wrong kind.

    Of two activating windows of about the same strength one is marked rightly and the other
    wrongly, by chance.
    """
    evidence, corpus = material.evidence, material.corpus
    rng = np.random.default_rng([material.seed, evidence.feature, 0xF022])
    pool = activating(evidence, settings.most_windows())
    pairs = [rng.permutation([i, i + 1]) for i in range(0, len(pool) - 1, 2)]
    right = [_rightly(pool[i], rng) for i, _ in pairs]
    silent = draw_uniform(material.strata, _CHOICE * len(right), evidence.feature, material.seed)
    hosts = {
        WITHIN: [pool[i] for _, i in pairs],
        ELSEWHERE: [corpus.silent_window(i) for i in silent],
    }
    wrong = {
        kind: Hosts(found, corpus, material.special_ids).marked_like(right, rng)
        for kind, found in hosts.items()
    }
    items = []
    for one, within, elsewhere in zip(right, wrong[WITHIN], wrong[ELSEWHERE], strict=True):
        if within is not None and elsewhere is not None:
            items.append(_item(one, FIRES))
            items += [_item(within, WITHIN), _item(elsewhere, ELSEWHERE)]
    return material.plan(items)


def _rightly(window: Window, rng: np.random.Generator) -> Marked:
    return rightly_marked(window, shown_tokens(len(window.token_ids)), rng)


def _item(one: Marked, stratum: str) -> Item:
    return Item(one.window, stratum, answer(stratum == FIRES), marks=one.marks, part=one.part)


def counts(judged: Judged) -> Counts:
    """Who said that the marks are right, by stratum."""
    found = Counts(judged.plan.density, _SHARES)
    for j in judged.readable():
        assert j.prediction is not None
        found.add(j.item.stratum, bool(j.prediction[0] > 0))
    return found


def reduce(judged: Judged, seed: int) -> dict[str, Estimate]:
    """Metric name → estimate, over the windows with a readable judgment.

    Where these have a probability, also how well it ranks them. There is no average precision, as
    no share of the corpus says how often marks are right.
    """
    found = counts(judged)
    estimates = {METRIC: balanced_accuracy(found)}
    for kind in _SHARES:
        estimates[f"{kind}_{METRIC}"] = balanced_accuracy(found, only=kind)
    plan = replace(judged.plan, density=float("nan"), shares=_SHARES)
    ranked = ranking_by_chances(judged, plan, seed)
    return estimates | {name: ranked[name] for name in ranked if name == AUROC}


def _marked(item: Item) -> Marked:
    assert item.marks is not None
    assert item.part is not None
    return Marked(item.window, item.part, item.marks)


def _shown(item: Item, vocabulary: Vocabulary) -> Window:
    return to_show(_marked(item), vocabulary)


def variables(items: Sequence[Item], vocabulary: Vocabulary) -> dict[str, Any]:
    opening, closing = marks_for([_shown(item, vocabulary) for item in items], vocabulary)
    return {"open_mark": opening, "close_mark": closing}


def render(
    number: int, item: Item, vocabulary: Vocabulary, open_mark: str, close_mark: str
) -> dict[str, Any]:
    text = marked(_shown(item, vocabulary), vocabulary, (open_mark, close_mark))
    return {"number": number, "text": text}


def by_rule(labeler: LexicalLabeler, rule: Rule, items: Sequence[Item]) -> list[Judgment]:
    """Marks are right where the rule, in what is shown, matches at least half of the marked."""
    shown = [_marked(item) for item in items]
    predicted = labeler.predict(rule, [cut(one) for one in shown])
    return [
        Judgment(item, answer(bool((levels[one.marks[one.part]] > 0).mean() >= 0.5)))
        for item, one, levels in zip(items, shown, predicted, strict=True)
    ]


_FORMS = yes_or_no(("right", "wrong"), render, variables)

SCORER = Scorer(
    name=NAME,
    metric=METRIC,
    about="balanced accuracy of telling windows marked where the feature fires from others",
    settings=FuzzingSettings,
    order=30,
    samples={
        NAME: samples_of_forms(
            {
                "windows": [{"number": 1, "text": "<<a>>"}],
                "open_mark": "<<",
                "close_mark": ">>",
            }
        )
    },
    plan=plan,
    reduce=reduce,
    task=_FORMS[LISTS],
    forms=_FORMS,
    counts=counts,
    by_rule=by_rule,
)
