"""A language model as judge: one label, many items a request, what is missing asked again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from autointerp.labeling.prompts import Prompt
from autointerp.llm.pool import Step
from autointerp.llm.reply import CallFailure, ChatReply
from autointerp.llm.request import ChatRequest
from autointerp.scoring.scorer import Item, Judged, Judgment, Plan, Scorer, Task
from autointerp.vocabulary import Vocabulary

_TRIES = 2  # times an item is asked about before it counts as missing
_MORE_ROOM = 8  # times the tokens, once, for a reply that was cut off before anything was in it
_ENVELOPE_TOKENS = 50


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """`items`: at most so many in a request."""

    model: str
    temperature: float
    items: int


@dataclass(frozen=True)
class JudgeJob:
    """Judge a plan's items by one label, the feature's own or, for the null, another's.

    `enough` says, between requests, whether what was judged suffices: the rest is not asked.
    """

    scorer: Scorer
    plan: Plan
    label_of: int
    label: str
    prompt: Prompt
    vocabulary: Vocabulary
    settings: JudgeSettings
    todo: tuple[int, ...]  # indices of items still to ask about
    enough: Callable[[Judged], bool] | None = None
    answers: Mapping[int, np.ndarray] = field(default_factory=dict)
    asked: Mapping[int, int] = field(default_factory=dict)  # times asked in vain, by index
    chunk: int | None = None  # items a request, where fewer than the settings allow
    attempt: int = 0
    room: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def task(self) -> Task:
        assert self.scorer.task is not None
        return self.scorer.task

    def _now(self) -> tuple[int, ...]:
        return self.todo[: self.chunk or self.settings.items]

    def _items(self) -> list[Item]:
        """What is asked about now; where labels are to choose from, with this one among them."""
        items = [self.plan.items[i] for i in self._now()]
        return [
            i if i.choices is None else replace(i, choices=i.choices.with_own(self.label))
            for i in items
        ]

    def messages(self) -> list[dict[str, str]]:
        items = self._items()
        common = self.task.variables(items, self.vocabulary)
        shown = [
            self.task.render(n, item, self.vocabulary, **common) for n, item in enumerate(items, 1)
        ]
        return self.prompt.messages(label=self.label, windows=shown, **common)

    def request(self) -> ChatRequest:
        tokens = sum(self.task.reply_tokens(self.plan.items[i]) for i in self._now())
        return ChatRequest(
            model=self.settings.model,
            messages=tuple(self.messages()),
            max_tokens=self.room * (_ENVELOPE_TOKENS + tokens),
            temperature=self.settings.temperature,
            schema=self.task.schema,
            attempt=self.attempt,
        )

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Judged]:
        """Readable answers are kept; the rest are asked for once more, then missing."""
        now = self._now()
        job = replace(
            self,
            prompt_tokens=self.prompt_tokens + outcome.usage.prompt_tokens,
            completion_tokens=self.completion_tokens + outcome.usage.completion_tokens,
            cost_usd=self.cost_usd + outcome.cost_usd,
        )
        if isinstance(outcome, CallFailure):
            if outcome.kind not in ("too_long", "content_filter", "bad_request"):
                return Step(results=[replace(job._judged(outcome.message), unanswered=True)])
            return job._less(now, outcome.message)
        if outcome.refused:
            return job._less(now, "the model refused to answer")
        read = self.task.read(outcome.text, self._items())
        new = {now[place]: value for place, value in read.items()}
        if outcome.finish_reason == "length" and not new and self.room == 1:
            # Thoughts, most likely, which some models write before they answer.
            return Step(follow_ups=[replace(job, room=_MORE_ROOM)])
        asked = dict(self.asked) | {i: self.asked.get(i, 0) + 1 for i in now if i not in new}
        again = tuple(i for i in now if i not in new and asked[i] < _TRIES)
        job = replace(
            job,
            answers={**self.answers, **new},
            asked=asked,
            todo=again + self.todo[len(now) :],
            # What is asked again must not find the reply that lacked it in the journal.
            attempt=self.attempt + 1 if again else self.attempt,
        )
        if job.todo and not (self.enough is not None and self.enough(job._judged(None))):
            return Step(follow_ups=[job])
        return Step(results=[job._judged(None)])

    def _less(self, now: tuple[int, ...], why: str) -> Step[Judged]:
        """Ask about fewer items at once; one that cannot be asked about by itself is missing."""
        if len(now) > 1:
            return Step(follow_ups=[replace(self, chunk=-(-len(now) // 2))])
        asked = {**self.asked, now[0]: _TRIES}
        todo = self.todo[1:]
        if todo:
            return Step(follow_ups=[replace(self, asked=asked, todo=todo, chunk=None)])
        return Step(results=[replace(self, asked=asked, todo=())._judged(why)])

    def _judged(self, error: str | None) -> Judged:
        """What was asked and came out; where asking ended for a failure, all counts as asked."""
        left = set() if error is not None else set(self.todo) - set(self.asked)
        judgments = [
            Judgment(item, self.answers.get(i))
            for i, item in enumerate(self.plan.items)
            if i not in left
        ]
        missing = len(judgments) - len(self.answers)
        if error is None and missing:
            error = f"{missing} of {len(judgments)} windows without a readable judgment"
        return Judged(
            plan=self.plan,
            scorer=self.scorer.name,
            label_of=self.label_of,
            judgments=judgments,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost_usd=self.cost_usd,
            error=error,
        )
