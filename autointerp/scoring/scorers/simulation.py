"""Simulation: predict the activation on every token from the label (Bills et al. 2023).

There are three ways to ask, the first of them the paper's: expected values from the probabilities
of a prompt in which every token's digit is unknown, all windows at once; expected values from the
probabilities of the digits that the model writes; or a JSON list of integers. In the second and the
third the model has its own earlier predictions before it. Scores of different ways do not compare.

Half of the windows are activating, which the corpus's are not: a label that is twice as broad as
it should be loses hardly any correlation over them. `population_correlation` weighs both halves as
the corpus has them, and with few windows is as uncertain as that makes it.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.section import setting
from autointerp.evidence.window import Window
from autointerp.evidence.window_text import shown_tokens, token_list
from autointerp.llm.numbering import by_place, number_of, numbers
from autointerp.llm.wire.logprobs import PROMPT_LOGPROBS, TOP_LOGPROBS, Position
from autointerp.llm.wire.request import ReplySchema, array, list_of, one_of
from autointerp.llm.wire.structured import items as replied
from autointerp.metrics.estimates import Estimate
from autointerp.metrics.graded import POPULATION, graded
from autointerp.metrics.token_scores import token_recall
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.rules import Rule
from autointerp.scoring.scorer import (
    FIRES,
    RANDOM,
    TOP,
    FurtherColumn,
    Item,
    Judged,
    Judgment,
    Material,
    Plan,
    Scorer,
    Task,
    TokenTask,
    activating,
)
from autointerp.scoring.scorers.expectations import of_prompt, of_reply
from autointerp.scoring.strata import draw_uniform
from autointerp.vocabulary import Vocabulary

NAME = "simulation"
METRIC = "correlation"
HIGHEST = 10  # predictions run from 0 to this
_SILENT = "silent"
# From what prediction on a token is taken to fire, whatever the truth: an expected value, which is
# hardly ever 0, where it rounds to 1 or more; a whole number or a rule's level where it is above 0.
_FIRES_FROM: dict[str | None, float] = {PROMPT_LOGPROBS: 0.5, TOP_LOGPROBS: 0.5}
_ANYTHING = float(np.finfo(np.float32).tiny)
TOP_AND_RANDOM, RANDOM_ONLY = "top_and_random_correlation", "random_only_correlation"


class ModeSettings(ScorerSettings):
    """Of scorers that ask for activations: by which of the ways."""

    KNOWN_OTHERWISE: ClassVar[tuple[str, ...]] = ("mode",)  # each way has its template

    mode: Literal["auto", "prompt_logprobs", "top_logprobs", "json"] = setting(
        "auto",
        "How activations are predicted: as expected values from the log probabilities of the "
        "prompt's tokens or of the reply's, or as a JSON list of integers; auto: the first that "
        "the endpoint supports. Scores of different modes are not comparable.",
    )

    def chosen_mode(self) -> str:
        return self.mode


class SimulationSettings(ModeSettings):
    windows: int = setting(10, "Windows to simulate, half of them activating.", ge=2)
    top_windows: int = setting(
        0,
        "Top-activating windows to simulate besides, and as many drawn from the whole corpus, for "
        "the top-and-random and random-only correlations of Bills et al. 2023, who take 5.",
        ge=0,
    )

    def most_windows(self) -> int:
        return max(-(-self.windows // 2), self.top_windows)

    def asks_most(self) -> str:
        return "top_windows" if self.top_windows > self.windows / 2 else "windows"


def plan(material: Material, settings: SimulationSettings) -> Plan:
    """Unseen windows to simulate: half activating, half silent ones drawn from all of them.

    With `top_windows` so many of the scoring side's strongest windows besides, and as many drawn
    from the corpus whether the feature fires there or not. Of those in which it does activations
    are not known: other windows of the sample of its firings stand for them.

    Truths are on the scale 0 to HIGHEST, the feature's maximum being HIGHEST.
    """
    evidence, corpus = material.evidence, material.corpus
    half = settings.windows // 2
    scale = HIGHEST / evidence.max_activation if evidence.max_activation > 0 else 0.0

    def item(window: Window, stratum: str) -> Item:
        return Item(window, stratum, (window.activations * scale).astype(np.float32))

    fires = activating(evidence, settings.windows - half)
    items = [item(w, FIRES) for w in fires]
    drawn = draw_uniform(material.strata, half, evidence.feature, material.seed)
    items += [item(corpus.silent_window(i), _SILENT) for i in drawn]
    if settings.top_windows:
        top = [w for w in evidence.of("score", "top") if w not in fires][: settings.top_windows]
        items += [item(w, TOP) for w in top]
        random = _random(material, settings.top_windows, fires, drawn)
        items += [item(w, RANDOM) for w in random]
    return material.plan(items)


def _random(
    material: Material, n: int, fires: Sequence[Window], drawn: Sequence[int]
) -> list[Window]:
    """About `n` windows of the corpus that are none of those, activating or not."""
    evidence, corpus = material.evidence, material.corpus
    rng = np.random.default_rng([material.seed, evidence.feature, 0xB115])
    firing = set(corpus.firing(evidence.feature).tolist())
    sample = iter([w for w in evidence.of("score", "sample") if w not in fires])
    places = [i for i in rng.permutation(len(corpus)).tolist() if i not in set(drawn)][:n]
    found = (next(sample, None) if i in firing else corpus.silent_window(i) for i in places)
    return [window for window in found if window is not None]


def reduce(judged: Judged, seed: int) -> dict[str, Estimate]:
    """Metric name → estimate, over all tokens of all windows that have a readable prediction."""
    readable = judged.readable()
    halves = [j for j in readable if j.item.stratum not in (TOP, RANDOM)]
    found = _graded(halves, seed, judged.plan.density)
    found["token_recall"] = _token_recall(halves, judged.mode)
    if len(halves) < len(readable):
        top, random = ([j for j in readable if j.item.stratum == s] for s in (TOP, RANDOM))
        found |= top_and_random(top, random, seed)
    return found


def top_and_random(
    top: Sequence[Judgment], random: Sequence[Judgment], seed: int
) -> dict[str, Estimate]:
    """Pearson's correlation over the tokens of all windows, and over those of the random ones.

    The top-and-random and the random-only score of Bills et al. (2023): 5 of the windows in which
    the feature is most active, and 5 drawn from the corpus. Missing where the feature fires in
    none.
    """
    return {
        TOP_AND_RANDOM: _graded([*top, *random], seed)[METRIC],
        RANDOM_ONLY: _graded(random, seed)[METRIC],
    }


def _graded(
    judgments: Sequence[Judgment], seed: int, density: float | None = None
) -> dict[str, Estimate]:
    truths, predictions, firings, units = [], [], [], []
    for judgment in judgments:
        assert judgment.prediction is not None
        known = ~np.isnan(judgment.prediction)
        if known.any():
            truths.append(judgment.item.truth[known])
            predictions.append(judgment.prediction[known])
            firings.append(int((judgment.item.truth > 0).sum()))
            units.append(_unit(judgment.item.window))
    return graded(truths, predictions, seed, firings=firings, density=density, units=units)


def _token_recall(judgments: Sequence[Judgment], mode: str | None) -> Estimate:
    read = [(j.item.truth, j.prediction) for j in judgments]
    known = [(t[~np.isnan(p)], p[~np.isnan(p)]) for t, p in read if p is not None]
    threshold = _FIRES_FROM.get(mode, _ANYTHING)
    return token_recall([t for t, _ in known], [p for _, p in known], threshold)


def _unit(window: Window) -> int:
    """What windows that are not independent have in common: their document, else their context."""
    return window.context if window.document is None else window.document


def _render(number: int, item: Item, vocabulary: Vocabulary) -> dict[str, Any]:
    ids = item.window.token_ids.tolist()
    return {"number": number, "length": len(ids), "tokens": token_list(ids, vocabulary)}


def _render_lines(number: int, item: Item, vocabulary: Vocabulary) -> dict[str, Any]:
    return {"number": number, "tokens": shown_tokens(item.window.token_ids.tolist(), vocabulary)}


def _lengths(items: Sequence[Item]) -> list[int]:
    return [len(item.truth) for item in items]


def _read_prompt(
    positions: Sequence[Position], sent: str, items: Sequence[Item], _scattered: bool
) -> dict[int, np.ndarray]:
    return of_prompt(positions, sent, _lengths(items))


def _read_reply(
    positions: Sequence[Position], _sent: str, items: Sequence[Item], scattered: bool
) -> dict[int, np.ndarray]:
    return of_reply(positions, _lengths(items), scattered)


def _schema(items: Sequence[Item], scattered: bool) -> ReplySchema:
    lengths = _lengths(items) or [0]
    activations = array(one_of(range(HIGHEST + 1)), min(lengths), max(lengths))
    fields = {"w": one_of(numbers(len(items), scattered)), "activations": activations}
    return list_of("windows", fields, len(items))


def _read(text: str, items: Sequence[Item], scattered: bool) -> dict[int, np.ndarray]:
    said = (
        (number_of(entry.get("w")), entry.get("activations"))
        for entry in replied(text, "windows", "w", "activations")
    )
    found = {
        place - 1: _activations(values, len(items[place - 1].truth))
        for place, values in by_place(said, len(items), scattered).items()
    }
    return {place: values for place, values in found.items() if values is not None}


def _activations(values: Any, length: int) -> np.ndarray | None:
    if not isinstance(values, list) or len(values) != length:
        return None
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != length or not all(0 <= v <= HIGHEST for v in numbers):
        return None
    return np.array(numbers, dtype=np.float32)


def _by_rule(labeler: LexicalLabeler, rule: Rule, items: Sequence[Item]) -> list[Judgment]:
    predicted = labeler.predict(rule, [item.window for item in items])
    return [Judgment(i, p.astype(np.float32)) for i, p in zip(items, predicted, strict=True)]


_LINES = {"label": "a label", "windows": [{"number": 1, "tokens": ["a"]}]}

SCORER = Scorer(
    name=NAME,
    metric=METRIC,
    about="Pearson correlation of predicted with true activations, over all tokens",
    settings=SimulationSettings,
    order=20,
    samples={
        f"{NAME}_prompt_logprobs": [_LINES],
        f"{NAME}_top_logprobs": [_LINES],
        NAME: [{"label": "a label", "windows": [{"number": 1, "length": 1, "tokens": '["a"]'}]}],
    },
    columns=(
        FurtherColumn(
            POPULATION,
            "simulation's correlation with activating and non-activating windows weighted as the "
            "corpus has them",
        ),
    ),
    usual=True,
    plan=plan,
    reduce=reduce,
    task=Task(_schema, _render, _read, lambda item: 20 + 3 * len(item.truth), mode="json"),
    preferred_modes=(
        TokenTask(PROMPT_LOGPROBS, _render_lines, _read_prompt, lambda _: 0),
        # A number of up to two tokens, a tab, a digit and a line break.
        TokenTask(TOP_LOGPROBS, _render_lines, _read_reply, lambda item: 10 + 5 * len(item.truth)),
    ),
    by_rule=_by_rule,
    per_token=True,
    # Predicting the same everywhere says nothing of where the feature fires, or how strongly.
    flat={"correlation_among_active": 0.0, "spearman": 0.0},
)
