"""Several candidate labels for a feature, each made from different windows.

Labels from windows over the whole range of activations say more of weak firings, labels from the
largest alone are more exact of strong ones, and neither is the better for every feature (Paulo et
al. 2024, section 4). So each candidate is a labeling request of its own, with the same template:
what is asked for the first candidate is, to the byte, what is asked where there is but one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autointerp.evidence.window import FeatureEvidence
from autointerp.labeling.excerpts import Shown, shown_windows
from autointerp.labeling.labeler import Candidate, Draft
from autointerp.labeling.llm import LabelJob
from autointerp.llm.pool import Step
from autointerp.llm.wire.reply import CallFailure, ChatReply
from autointerp.llm.wire.request import ChatRequest

_TO_COME = ("pending", "over_budget")  # statuses that another run mends


def views(shown: Shown, candidates: int, quantiles: int) -> list[Shown]:
    """What each candidate is made from: the usual, firings of all strengths, the largest.

    quantiles: of so many there are windows, at most. As many windows are shown for each. There are
    fewer views than candidates where the usual one is one of the others.
    """
    n = shown.top + shown.quantiles
    broad = replace(shown, top=0, quantiles=min(n, quantiles))
    narrow = replace(shown, top=n, quantiles=0)
    return list(dict.fromkeys([shown, broad, narrow]))[:candidates]


def adds_windows(evidence: FeatureEvidence, views: Sequence[Shown]) -> bool:
    """Whether the last view shows windows that earlier views do not."""
    *before, last = (
        {(w.context, w.start) for w in shown_windows(evidence, shown)} for shown in views
    )
    return last not in before


@dataclass(frozen=True, slots=True)
class Proposed:
    """The draft of one feature made from one view, by its number."""

    view: int
    draft: Draft


@dataclass(frozen=True)
class Proposal:
    """A labeling request that knows which view it shows."""

    job: LabelJob
    view: int

    def request(self) -> ChatRequest:
        return self.job.request()

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Proposed]:
        step: Step[Draft] = self.job.reduce(outcome)
        again = [Proposal(job, self.view) for job in step.follow_ups if isinstance(job, LabelJob)]
        proposed = [Proposed(self.view, draft) for draft in step.results]
        return Step(proposed, again, step.unread, step.unreadable)


def distinct(drafts: Mapping[int, Draft]) -> list[Draft]:
    """Drafts with a label, by view, the first of those with the same one; what may be chosen from.

    None where the first view's draft is still to come: then there is nothing to choose yet.
    """
    first = drafts.get(0)
    if first is None or first.status in _TO_COME:
        return []
    found: dict[str, Draft] = {}
    for _, draft in sorted(drafts.items()):
        if draft.label is not None:
            found.setdefault(" ".join(draft.label.casefold().split()), draft)
    return list(found.values())


def first_choice(drafts: Mapping[int, Draft], missing: Draft) -> Draft:
    """The first candidate as the feature's draft, with all candidates and what all of them took.

    drafts: by view. `missing` stands for the first view's where that did not come. Where it came
    without a label, another view's is taken. From one view there is nothing to choose.
    """
    candidates = distinct(drafts)
    own = candidates[0] if candidates else drafts.get(0, missing)
    lacking = [d.error for d in drafts.values() if d.label is None]
    note = f"a candidate label is missing: {lacking[0]}" if lacking else None
    listed = [Candidate(d.label) for d in candidates if d.label is not None]
    return replace(
        own,
        candidates=listed if len(drafts) > 1 else None,
        prompt_tokens=sum(d.prompt_tokens for d in drafts.values()),
        completion_tokens=sum(d.completion_tokens for d in drafts.values()),
        cost_usd=sum(d.cost_usd for d in drafts.values()),
        error=note if candidates else own.error,
    )


def unfinished(drafts: Mapping[int, Draft]) -> bool:
    """Whether a candidate is missing that a later run may still get."""
    return any(draft.status in (*_TO_COME, "failed") for draft in drafts.values())
