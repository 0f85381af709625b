"""Asking again where a judge gave the same answer to all items of a request.

A weak judge says yes, or no, to everything when it is asked about many items at once. A good one
does so, too, of a label that matches none of them. So a few items, as many of either truth, are
asked about alone: where the answers are what they were, these stand, and the score is flagged.
Otherwise all items of the request are asked about again, half as many at once, and one by one where
that still gets one answer for all.

All of this goes by what was answered, never by what is right, and by the same rule for a feature's
own label and for its null: answers that have nothing to do with the truth score 0.5 on average
before and after. A judge that answers each item by itself and the same every time keeps its score.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autointerp.llm.pool import Step
from autointerp.llm.wire.reply import CallFailure, ChatReply
from autointerp.llm.wire.request import ChatRequest
from autointerp.scoring.judge import JudgeJob, unread_error
from autointerp.scoring.replies import CHANGED, KEPT, MIN_OF_EITHER
from autointerp.scoring.scorer import Item, Judged, Judgment

_PROBE, _HALF, _ALONE = "probe", "half", "alone"


@dataclass(frozen=True)
class CarefulJob:
    """A judge's job, and then what is asked again.

    `present` is asked now. Once the plan is judged, `judged` has the result so far, `groups` the
    items of each request that got one answer, and `stage` is how the first of these is asked again.
    Nothing is asked again, only flagged, where not `asks_again`: each time would take a batch.
    """

    present: JudgeJob
    asks_again: bool = True
    judged: Judged | None = None
    groups: tuple[tuple[Item, ...], ...] = ()
    stage: str = ""
    probed: tuple[Judgment, ...] = ()

    def request(self) -> ChatRequest:
        return self.present.request()

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Judged]:
        step = self.present.reduce(outcome)
        again = [replace(self, present=job) for job in step.follow_ups if isinstance(job, JudgeJob)]
        if again:
            return Step(follow_ups=again, unread=step.unread, unreadable=step.unreadable)
        after = [self._after(judged) for judged in step.results]
        return Step(
            results=[one for one in after if isinstance(one, Judged)],
            follow_ups=[one for one in after if isinstance(one, CarefulJob)],
            unread=step.unread,
            unreadable=step.unreadable,
        )

    def _after(self, new: Judged) -> "CarefulJob | Judged":
        """What follows once `present` is done: the next one, or all that came of it."""
        if self.judged is None:
            if new.unanswered:
                return new
            groups = tuple(tuple(new.plan.items[i] for i in one) for one in new.replies.uniform)
            begun = replace(self, judged=new, groups=groups)
            return (begun if self._can_help() else begun._kept(len(groups)))._next()
        spent = _with_spent(self.judged, new)
        if new.unanswered:
            return replace(spent, error=new.error, unanswered=True)
        job = replace(self, judged=spent)
        if self.stage == _PROBE:
            if _same(new.judgments, self._answer()):
                return job._kept(1)._next()
            return replace(job, probed=tuple(new.judgments))._ask(_HALF, self.groups[0])
        if self.stage == _HALF and _same(new.judgments, self._answer()):
            probed = {id(j.item) for j in self.probed}
            left = [item for item in self.groups[0] if id(item) not in probed]
            return job._ask(_ALONE, left)
        alone = self.probed if self.stage == _ALONE else ()
        return job._replaced([*alone, *new.judgments])._next()

    def _can_help(self) -> bool:
        """Probabilities tell items apart even where all of them are on one side of a half."""
        return self.asks_again and self.present.logprobs() is None

    def _next(self) -> "CarefulJob | Judged":
        """A few of the next request's items, one by one; the result where no request is left."""
        assert self.judged is not None
        if not self.groups:
            return self.judged
        either: dict[bool, list[Item]] = {True: [], False: []}
        for item in self.groups[0]:
            either[bool(item.truth[0])].append(item)
        few = [item for items in either.values() for item in items[:MIN_OF_EITHER]]
        return self._ask(_PROBE, few)

    def _ask(self, stage: str, items: Sequence[Item]) -> "CarefulJob":
        """The same judge about these items only, in a job that knows nothing of the others."""
        size = -(-len(items) // 2) if stage == _HALF else 1
        plan = replace(self.present.plan, items=items)
        return replace(self, stage=stage, present=self.present.anew(plan, size))

    def _answer(self) -> bool:
        """What was said of all items of the first request that is left."""
        assert self.judged is not None
        asked = {id(item) for item in self.groups[0]}
        (said,) = {_yes(j) for j in self.judged.judgments if id(j.item) in asked}
        assert said is not None
        return said

    def _replaced(self, judgments: Sequence[Judgment]) -> "CarefulJob":
        """The first request's items with these judgments, and the others still to look at."""
        assert self.judged is not None
        # What was readable before is not given up for what is not.
        new = {id(j.item): j for j in judgments if j.prediction is not None}
        every = [new.get(id(j.item), j) for j in self.judged.judgments]
        judged = replace(
            self.judged,
            judgments=every,
            error=unread_error(every),
            replies=self.judged.replies.more(CHANGED),
        )
        return replace(self, judged=judged, groups=self.groups[1:])

    def _kept(self, requests: int) -> "CarefulJob":
        """The answers to so many requests stand; there is nothing more to do about them."""
        assert self.judged is not None
        noted = self.judged.replies.more(*[KEPT] * requests)
        judged = replace(self.judged, replies=noted)
        return replace(self, judged=judged, groups=self.groups[requests:])


def _yes(judgment: Judgment) -> bool | None:
    return None if judgment.prediction is None else bool(judgment.prediction[0] > 0)


def _same(judgments: Sequence[Judgment], said: bool) -> bool:
    """Whether this is said of all that could be read, or nothing could."""
    return {_yes(j) for j in judgments} <= {said, None}


def _with_spent(judged: Judged, new: Judged) -> Judged:
    """The result so far with what asking again took, and the replies that came of it."""
    return replace(
        judged,
        prompt_tokens=judged.prompt_tokens + new.prompt_tokens,
        completion_tokens=judged.completion_tokens + new.completion_tokens,
        cost_usd=judged.cost_usd + new.cost_usd,
        unread=judged.unread or new.unread,
        replies=judged.replies.with_slips_of(new.replies),
    )
