"""Intruder: which of five windows does the feature not fire in? (Paulo and Belrose 2025)

It needs no label: where nobody can tell the one window from the four, the feature has no meaning
to put into words, and no label can be good. Trials are spread over the range of activations; the
four windows of one are next to each other in it. A fifth activating window is not shown but lends
its marks to the intruder, whose marks are thereby of the kind of the others': copied from one of
the four they would give it away as one of two that are alike. For the same reason no window is
shown twice.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.section import setting
from autointerp.evidence.window import Window
from autointerp.evidence.window_text import marked, marks_for
from autointerp.llm.numbering import Miscounted, by_place, number_of, numbers
from autointerp.llm.wire.request import ReplySchema, list_of, one_of
from autointerp.llm.wire.structured import items as replied
from autointerp.metrics.estimates import MISSING, Estimate, wilson
from autointerp.scoring.scorer import Item, Judged, Material, Plan, Scorer, Task, activating
from autointerp.scoring.scorers.marks import (
    Hosts,
    Marked,
    cut,
    rightly_marked,
    shown_tokens,
    to_show,
    whole,
)
from autointerp.scoring.strata import draw_uniform
from autointerp.vocabulary import Vocabulary

NAME = "intruder"
METRIC = "accuracy"
SHOWN = 5  # windows of a trial
_CHOICE = 8  # silent windows to choose from for each intruder
_QUANTILES = 5  # strata of trials, by where the four windows are among the feature's firings


class IntruderSettings(ScorerSettings):
    windows: int = setting(
        10,
        "Times that a judge is to find the one non-activating window among five.",
        ge=1,
    )

    def most_windows(self) -> int:
        return SHOWN * self.windows

    def problems_with(self, name: str, score_windows: int) -> Iterator[str]:
        """Where a sample of firings has too few, windows of largest activation take part."""
        yield from super().problems_with(name, 2 * score_windows)


def plan(material: Material, settings: IntruderSettings) -> Plan:
    """Trials of four activating windows and an intruder; each takes five activating ones.

    The item is the intruder, its truth its place among the five, from 1; `beside` has the others.
    """
    evidence, corpus = material.evidence, material.corpus
    rng = np.random.default_rng([material.seed, evidence.feature, 0x171D])
    pool = activating(evidence, settings.most_windows())
    groups = [pool[i : i + SHOWN] for i in range(0, len(pool) - SHOWN + 1, SHOWN)]
    drawn = []
    for group in groups:
        length = shown_tokens(min(len(window.token_ids) for window in group))
        drawn.append([rightly_marked(group[i], length, rng) for i in rng.permutation(SHOWN)])
    numbers = draw_uniform(material.strata, _CHOICE * len(groups), evidence.feature, material.seed)
    hosts = Hosts([corpus.silent_window(i) for i in numbers], corpus, material.special_ids)
    intruders = hosts.marked_like([lender for lender, *_ in drawn], rng)
    items = [
        _item(intruder, others, int(rng.integers(SHOWN)) + 1)
        for (_, *others), intruder in zip(drawn, intruders, strict=True)
        if intruder is not None
    ]
    return material.plan(items)


def _item(intruder: Marked, others: Sequence[Marked], place: int) -> Item:
    return Item(
        intruder.window,
        _stratum([other.window for other in others]),
        np.array([place], dtype=np.float32),
        marks=intruder.marks,
        part=intruder.part,
        beside=tuple(cut(other) for other in others),
    )


def _stratum(windows: Sequence[Window]) -> str:
    """Which part of the feature's firings the windows come from, by their mean quantile."""
    mean = float(np.mean([window.quantile or 0.0 for window in windows]))
    return f"quantile {min(int(mean * _QUANTILES) + 1, _QUANTILES)} of {_QUANTILES}"


def reduce(judged: Judged, seed: int) -> dict[str, Estimate]:
    """Metric name → estimate: the share of readable trials in which the intruder was named."""
    named = [(j.item.truth, j.prediction) for j in judged.readable() if j.prediction is not None]
    if not named:
        return {METRIC: MISSING}
    right = sum(int(truth[0] == prediction[0]) for truth, prediction in named)
    low, high = wilson(right, len(named))
    return {METRIC: Estimate(right / len(named), low, high, len(named))}


def windows_shown(item: Item) -> list[Marked]:
    """The five windows in the order in which they are shown."""
    assert item.marks is not None
    assert item.part is not None
    windows = [whole(window) for window in item.beside]
    windows.insert(int(item.truth[0]) - 1, Marked(item.window, item.part, item.marks))
    return windows


def _shown(item: Item, vocabulary: Vocabulary) -> list[Window]:
    return [to_show(one, vocabulary) for one in windows_shown(item)]


def _variables(items: Sequence[Item], vocabulary: Vocabulary) -> dict[str, Any]:
    every = [window for item in items for window in _shown(item, vocabulary)]
    opening, closing = marks_for(every, vocabulary)
    return {"open_mark": opening, "close_mark": closing}


def _render(
    number: int, item: Item, vocabulary: Vocabulary, open_mark: str, close_mark: str
) -> dict[str, Any]:
    marks = (open_mark, close_mark)
    texts = [marked(window, vocabulary, marks) for window in _shown(item, vocabulary)]
    return {"number": number, "texts": texts}


def _schema(items: Sequence[Item], scattered: bool) -> ReplySchema:
    fields = {
        "n": one_of(numbers(len(items), scattered)),
        "intruder": one_of(range(1, SHOWN + 1)),
    }
    return list_of("sets", fields, len(items))


def _read(text: str, items: Sequence[Item], scattered: bool) -> dict[int, np.ndarray]:
    said = [
        (number_of(entry.get("n")), number_of(entry.get("intruder")))
        for entry in replied(text, "sets", "n", "intruder")
    ]
    # Who counts from 0 in one place does so in the other, where it may not show.
    if any(0 in pair for pair in said):
        raise Miscounted
    return {
        place - 1: np.array([intruder], dtype=np.float32)
        for place, intruder in by_place(said, len(items), scattered).items()
        if intruder is not None and 1 <= intruder <= SHOWN
    }


SCORER = Scorer(
    name=NAME,
    metric=METRIC,
    about="accuracy of finding the one non-activating window among five",
    settings=IntruderSettings,
    order=40,
    samples={
        NAME: [
            {
                "windows": [{"number": 1, "texts": ["<<a>>"] * SHOWN}],
                "open_mark": "<<",
                "close_mark": ">>",
            }
        ]
    },
    plan=plan,
    reduce=reduce,
    task=Task(_schema, _render, _read, lambda _: 14, _variables),
    needs_label=False,
    chance=1 / SHOWN,
)
