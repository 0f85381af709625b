"""Choosing between candidate labels of a feature: by detection on windows kept for just that.

A label that is chosen by the windows it is then scored on looks better than it is: the best of five
descriptions drawn at random gets an AUC of 0.65 where one gets 0.52. So the windows of the
validation split decide, and those of the scoring split have no say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autointerp.evidence.window import FeatureEvidence, Window
from autointerp.labeling.labeler import Draft
from autointerp.llm.pool import Step
from autointerp.llm.wire.reply import CallFailure, ChatReply
from autointerp.llm.wire.request import ChatRequest
from autointerp.metrics.estimates import Counts, Estimate, balanced_accuracy
from autointerp.scoring.judge import JudgeJob
from autointerp.scoring.scorer import FIRES, Item, Judged, Plan, answer

SILENT = "silent"
# Of each kind, as many as are kept. Where recall and specificity of two labels differ as those of
# features do (standard deviations of 0.15 and 0.07), 16 and 8 windows get four fifths of what a
# choice without error would; twice the silent ones, 0.03 more of it for a third more tokens.
_OF_A_KIND = 8
_MIN_WINDOWS = 5  # windows of either side, below which they tell nothing


def choice_plan(evidence: FeatureEvidence, seed: int) -> Plan | None:
    """The validation windows, the same for all candidates; None where there are too few.

    No two in which the feature fires are from one context.
    """
    sample = evidence.of("validate", "sample")[:_OF_A_KIND]
    contexts = {w.context for w in sample}
    largest = evidence.of("validate", "top")[:_OF_A_KIND]
    fires = sample + [w for w in largest if w.context not in contexts]
    silent = evidence.of("validate", "negative")[:_OF_A_KIND]
    if min(len(fires), len(silent)) < _MIN_WINDOWS:
        return None
    items = [_item(w, FIRES) for w in fires] + [_item(w, SILENT) for w in silent]
    order = np.random.default_rng([seed, evidence.feature]).permutation(len(items))
    items = [items[i] for i in order]
    return Plan(evidence.feature, items, evidence.window_density, {SILENT: 1.0})


def _item(window: Window, stratum: str) -> Item:
    return Item(window, stratum, answer(stratum == FIRES))


@dataclass(frozen=True, slots=True)
class Choice:
    """What was said of a feature's candidates, in their order.

    Fewer are judged than there are where a judge could not be had, or one was judged faultless: a
    later one cannot be better, and of equals the first is taken.
    """

    feature: int
    judged: Sequence[Judged]


@dataclass(frozen=True)
class ChoiceJob:
    """Judge a feature's candidates one after another, each by a job of its own of the same plan."""

    present: JudgeJob
    behind: tuple[JudgeJob, ...]
    judged: tuple[Judged, ...] = ()

    def request(self) -> ChatRequest:
        return self.present.request()

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Choice]:
        step = self.present.reduce(outcome)
        again = [replace(self, present=j) for j in step.follow_ups if isinstance(j, JudgeJob)]
        if again:
            return Step(follow_ups=again, unread=step.unread, unreadable=step.unreadable)
        judged = (*self.judged, *step.results)
        if not self.behind or judged[-1].unanswered or _faultless(judged[-1]):
            done = [Choice(self.present.plan.feature, judged)]
            return Step(results=done, unread=step.unread, unreadable=step.unreadable)
        behind = ChoiceJob(self.behind[0], self.behind[1:], judged)
        return Step(follow_ups=[behind], unread=step.unread, unreadable=step.unreadable)


def estimates(judged: Sequence[Judged]) -> list[Estimate]:
    """The balanced accuracy of each, over the windows that could be read for all of them."""
    every = list(zip(*(one.judgments for one in judged), strict=True))
    common = [row for row in every if all(j.prediction is not None for j in row)]
    found = []
    for i, one in enumerate(judged):
        counts = Counts(one.plan.density, one.plan.shares)
        for row in common:
            prediction = row[i].prediction
            assert prediction is not None
            item = row[i].item
            counts.add(item.stratum, bool(prediction[0] > 0), max(item.window.firings, 1))
        found.append(balanced_accuracy(counts))
    return found


def _faultless(judged: Judged) -> bool:
    return judged.parse_rate() == 1.0 and estimates([judged])[0].value == 1.0


def chosen(first: Draft, drafts: Sequence[Draft], choice: Choice) -> Draft:
    """The candidate judged best, the first of equals, with what all of them and judging took.

    first: the feature's draft so far. drafts: its candidates, in the order they were judged in.
    """
    judged = choice.judged
    unanswered = judged[-1].unanswered
    found = estimates(judged[:-1] if unanswered else judged)
    candidates = list(first.candidates or ())
    for i, estimate in enumerate(found):
        value = estimate.value if estimate.n else None
        candidates[i] = replace(candidates[i], balanced_accuracy=value, n=estimate.n)
    spent = replace(
        first,
        candidates=candidates,
        prompt_tokens=first.prompt_tokens + sum(one.prompt_tokens for one in judged),
        completion_tokens=first.completion_tokens + sum(one.completion_tokens for one in judged),
        cost_usd=first.cost_usd + sum(one.cost_usd for one in judged),
    )
    if unanswered:
        return uncompared(spent, judged[-1].error or "no judgment came")
    if any(estimate.n == 0 for estimate in found):
        return uncompared(spent, "too few judgments could be read")
    values = [estimate.value for estimate in found]
    best = drafts[values.index(max(values))]
    return replace(
        spent,
        label=best.label,
        reason=best.reason,
        confidence=best.confidence,
        polysemantic=best.polysemantic,
        meanings=best.meanings,
        flags=best.flags,
    )


def uncompared(first: Draft, why: str) -> Draft:
    """The first candidate, kept because it could not be compared with the others."""
    note = f"the first of {len(first.candidates or ())} candidate labels is kept: {why}"
    return replace(first, error="; ".join(e for e in (first.error, note) if e))
