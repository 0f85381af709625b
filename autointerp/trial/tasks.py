"""The requests of a run, made of planted evidence: what comes back is compared with the truth.

Judges are asked once: what a run would ask them again counts as not answered here. Features
without a label are asked about alone once more, as a run does, since many models only copy a
template's example while they see it. A reply that thoughts have cut off gets more room; where log
probabilities are lacking, the way of asking is not to be had.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from autointerp.labeling import no_label
from autointerp.labeling.llm import LabelJob
from autointerp.llm.numbering import Miscounted
from autointerp.llm.pool import Step
from autointerp.llm.wire.logprobs import NO_LOGPROBS
from autointerp.llm.wire.reply import CallFailure, ChatReply, Usage
from autointerp.llm.wire.request import ChatRequest
from autointerp.scoring.judge import JudgeJob
from autointerp.scoring.scorer import Judged, Judgment
from autointerp.trial.concepts import concepts

ABOUT = "trial"  # what the journal calls these requests
_OF_THE_REQUEST = ("too_long", "content_filter", "bad_request")


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Of the labels of one request: `copied` are the template's own words, `declined` no label for
    another reason, and `alike` those that another feature of it got as well.

    `size` is how many features were to be in a request. `mended` are right ones that came of asking
    again, of which the rest is not counted once more.
    """

    size: int
    features: int = 0
    readable: int = 0
    copied: int = 0
    declined: int = 0
    alike: int = 0
    right: int = 0
    mended: int = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """One request's judgments, in the order of its plan; `given` is False where the endpoint does
    not allow this way of asking."""

    task: str
    way: str
    items: int
    judgments: Sequence[Judgment]
    given: bool = True


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one request, which is known by its `key`.

    `failure` says why there was no reply, which is an answer of a kind; `lost` that the model could
    not be had, which says nothing of it.
    """

    found: LabelCounts | Answers
    usage: Usage
    cost_usd: float
    recalled: bool
    key: str = ""
    failure: str | None = None
    lost: str | None = None

    @property
    def is_further(self) -> bool:
        """Whether it was not planned, and came of another's reply."""
        return isinstance(self.found, LabelCounts) and self.found.features == 0


@dataclass(frozen=True, slots=True)
class _Spent:
    """What replies took that were cut off, and asked for again with more room."""

    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0

    def plus(self, outcome: ChatReply | CallFailure) -> "_Spent":
        return _Spent(self.usage.plus(outcome.usage), self.cost_usd + outcome.cost_usd)


def _tried(found: LabelCounts | Answers, outcome: ChatReply | CallFailure, before: _Spent) -> Tried:
    spent = before.plus(outcome)
    usage, cost = spent.usage, spent.cost_usd
    if isinstance(outcome, ChatReply):
        return Tried(found, usage, cost, outcome.recalled, outcome.key)
    if outcome.kind == NO_LOGPROBS:  # the answer says so
        return Tried(found, usage, cost, False)
    if outcome.kind in _OF_THE_REQUEST:
        return Tried(found, usage, cost, False, failure=outcome.message)
    return Tried(found, usage, cost, False, lost=outcome.message)


@dataclass(frozen=True)
class LabelTry:
    """Ask for the labels of planted features, and `again` about those that had none alone."""

    job: LabelJob
    again: bool = False
    spent: _Spent = field(default_factory=_Spent)

    def request(self) -> ChatRequest:
        return replace(self.job.request(), about=(f"{ABOUT}:label",))

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Tried]:
        step = self.job.reduce(outcome)
        more = [job for job in step.follow_ups if isinstance(job, LabelJob)]
        for job in more:
            if job.room > self.job.room:
                return Step(follow_ups=[replace(self, job=job, spent=self.spent.plus(outcome))])
        named = concepts()
        right = sum(
            named[draft.feature].is_named_by(draft.label)
            for draft in step.results
            if draft.label is not None
        )
        size = self.job.settings.features_per_request
        if self.again:
            return Step(results=[_tried(LabelCounts(size, mended=right), outcome, self.spent)])
        alone = [LabelTry(job, again=True) for job in more if len(job.group) == 1]
        labels = self._labels(outcome, size, right)
        return Step(results=[_tried(labels, outcome, self.spent)], follow_ups=alone)

    def _labels(self, outcome: ChatReply | CallFailure, size: int, right: int) -> LabelCounts:
        said: dict[int, str] = {}
        doubts: dict[int, str] = {}
        if isinstance(outcome, ChatReply):
            with suppress(Miscounted):
                items, doubts = self.job.read(outcome.text)
                said = {place: item.label.casefold() for place, item in items.items()}
        kinds = Counter(doubts.values())
        copied = sum(kinds[kind] for kind in no_label.FROM_EXAMPLE)
        own = [x for place, x in said.items() if doubts.get(place) not in no_label.FROM_EXAMPLE]
        times = Counter(own)
        return LabelCounts(
            size=size,
            features=len(self.job.group),
            readable=len(said),
            copied=copied,
            declined=kinds.total() - copied - kinds[no_label.ALIKE],
            alike=sum(times[label] > 1 for label in own),
            right=right,
        )


@dataclass(frozen=True)
class JudgeTry:
    """Ask a judge about planted texts; its job has all the items of its plan to do."""

    job: JudgeJob
    way: str
    spent: _Spent = field(default_factory=_Spent)

    def request(self) -> ChatRequest:
        return replace(self.job.request(), about=(f"{ABOUT}:{self.job.scorer.name}",))

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Tried]:
        step = self.job.reduce(outcome)
        judgments = [Judgment(item, None) for item in self.job.plan.items]
        given = True
        for job in step.follow_ups:
            assert isinstance(job, JudgeJob)
            if job.room > self.job.room:
                return Step(follow_ups=[replace(self, job=job, spent=self.spent.plus(outcome))])
            given &= job.task is self.job.task
            judgments = [
                Judgment(item, job.answers.get(i), job.chances.get(i))
                for i, item in enumerate(job.plan.items)
            ]
        for judged in step.results:
            assert isinstance(judged, Judged)
            judgments = list(judged.judgments)
        found = Answers(self.job.scorer.name, self.way, len(judgments), judgments, given)
        return Step(results=[_tried(found, outcome, self.spent)])
