"""The requests of a run, made of planted evidence: what comes back is compared with the truth.

Every request is asked once. What a run would ask again counts as not answered here, so that a trial
is as long as it was planned. Two things are tried again all the same, as they say nothing of the
answers: a reply that was cut off by a model's thoughts, and one that lacked log probabilities,
which shows that the way of asking is not to be had.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from autointerp.labeling import no_label
from autointerp.labeling.labeler import Draft
from autointerp.labeling.llm import LabelJob
from autointerp.llm.logprobs import NO_LOGPROBS
from autointerp.llm.numbering import Miscounted
from autointerp.llm.pool import Step
from autointerp.llm.reply import CallFailure, ChatReply, Usage
from autointerp.llm.request import ChatRequest
from autointerp.scoring.judge import JudgeJob
from autointerp.scoring.scorer import Judged, Judgment
from autointerp.trial.concepts import concepts

ABOUT = "trial"  # what the journal calls these requests
_OF_THE_REQUEST = ("too_long", "content_filter", "bad_request")


@dataclass(frozen=True, slots=True)
class Labels:
    """Of the labels of one request: `copied` are the template's own words, `declined` no label for
    another reason, and `alike` those that another feature of it got as well.

    `size` is how many features were to be in a request; the last may have fewer.
    """

    size: int
    features: int
    readable: int
    copied: int
    declined: int
    alike: int
    right: int


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
    """What came of one request.

    `failure` says why there was no reply, which is an answer of a kind; `lost` that the model could
    not be had, which says nothing of it.
    """

    found: Labels | Answers
    usage: Usage
    cost_usd: float
    recalled: bool
    failure: str | None = None
    lost: str | None = None


def _tried(found: Labels | Answers, outcome: ChatReply | CallFailure) -> Tried:
    usage, cost = outcome.usage, outcome.cost_usd
    if isinstance(outcome, ChatReply):
        return Tried(found, usage, cost, outcome.recalled)
    if outcome.kind == NO_LOGPROBS:  # the answer says so
        return Tried(found, usage, cost, False)
    if outcome.kind in _OF_THE_REQUEST:
        return Tried(found, usage, cost, False, failure=outcome.message)
    return Tried(found, usage, cost, False, lost=outcome.message)


@dataclass(frozen=True)
class LabelTry:
    """Ask for the labels of planted features."""

    job: LabelJob

    def request(self) -> ChatRequest:
        return replace(self.job.request(), about=(f"{ABOUT}:label",))

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Tried]:
        step = self.job.reduce(outcome)
        for job in step.follow_ups:
            if isinstance(job, LabelJob) and job.room > self.job.room:
                return Step(follow_ups=[LabelTry(job)])
        return Step(results=[_tried(self._labels(outcome, step.results), outcome)])

    def _labels(self, outcome: ChatReply | CallFailure, kept: Sequence[Draft]) -> Labels:
        said, doubts = list[str](), list[str]()
        if isinstance(outcome, ChatReply):
            with suppress(Miscounted):
                items, kinds = self.job.read(outcome.text)
                said = [item.label.casefold() for item in items.values()]
                doubts = list(kinds.values())
        times = Counter(said)
        copied = sum(kind in no_label.FROM_EXAMPLE for kind in doubts)
        named = concepts()
        return Labels(
            size=self.job.settings.features_per_request,
            features=len(self.job.group),
            readable=len(said),
            copied=copied,
            declined=len(doubts) - copied - doubts.count(no_label.ALIKE),
            alike=sum(times[label] > 1 for label in said),
            right=sum(named[d.feature].is_named_by(d.label) for d in kept if d.label is not None),
        )


@dataclass(frozen=True)
class JudgeTry:
    """Ask a judge about planted texts; its job has all the items of its plan to do."""

    job: JudgeJob
    way: str

    def request(self) -> ChatRequest:
        return replace(self.job.request(), about=(f"{ABOUT}:{self.job.scorer.name}",))

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Tried]:
        step = self.job.reduce(outcome)
        judgments = [Judgment(item, None) for item in self.job.plan.items]
        given = True
        for job in step.follow_ups:
            assert isinstance(job, JudgeJob)
            if job.room > self.job.room:
                return Step(follow_ups=[JudgeTry(job, self.way)])
            given &= job.task is self.job.task
            judgments = [
                Judgment(item, job.answers.get(i), job.chances.get(i))
                for i, item in enumerate(job.plan.items)
            ]
        for judged in step.results:
            assert isinstance(judged, Judged)
            judgments = list(judged.judgments)
        found = Answers(self.job.scorer.name, self.way, len(judgments), judgments, given)
        return Step(results=[_tried(found, outcome)])
