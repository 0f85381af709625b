"""A language model as judge: one label, many items a request, what is missing asked again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from autointerp.errors import ConfigurationError
from autointerp.llm.numbering import Miscounted, numbers
from autointerp.llm.pool import Step
from autointerp.llm.verdicts import slips
from autointerp.llm.wire.logprobs import NO_LOGPROBS, PROMPT_LOGPROBS, Logprobs
from autointerp.llm.wire.reply import CallFailure, ChatReply
from autointerp.llm.wire.request import ChatRequest, ReplySchema
from autointerp.llm.wire.structured import is_copied
from autointerp.prompting.prompts import Prompt
from autointerp.scoring import replies
from autointerp.scoring.replies import Replies
from autointerp.scoring.scorer import (
    Item,
    Judged,
    Judgment,
    Plan,
    Scorer,
    Task,
    TokenTask,
    answer,
)
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
    `chosen_task` is how it asks, `fallbacks` are for endpoints that do not allow that: then all
    items are asked about anew, so that modes are never mixed.
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
    chosen_task: Task | TokenTask | None = None  # the scorer's task if None
    fallbacks: tuple[tuple[Task | TokenTask, Prompt], ...] = ()
    purpose: str | None = None  # what the journal calls it, where it is not for the score
    answers: Mapping[int, np.ndarray] = field(default_factory=dict)
    chances: Mapping[int, float] = field(default_factory=dict)  # of yes, where they are read
    replies: Replies = field(default_factory=Replies)
    asked: Mapping[int, int] = field(default_factory=dict)  # times asked in vain, by index
    # Items → keys of the requests about just these whose replies said nothing.
    vain: Mapping[tuple[int, ...], tuple[str, ...]] = field(default_factory=dict)
    chunk: int | None = None  # items a request, where fewer than the settings allow
    attempt: int = 0
    room: int = 1
    scattered: bool = False  # an earlier reply lost count: items are not numbered from 1
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def task(self) -> Task | TokenTask:
        task = self.chosen_task or self.scorer.task
        assert task is not None, "a scorer that asks no endpoint"
        return task

    def _now(self) -> tuple[int, ...]:
        return self.todo[: self.chunk or self.settings.items]

    def logprobs(self) -> Logprobs | None:
        """The probabilities that the reply is of no use without."""
        return self.task.mode if isinstance(self.task, TokenTask) else self.task.logprobs

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
            self.task.render(number, item, self.vocabulary, **common)
            for number, item in zip(numbers(len(items), self.scattered), items, strict=True)
        ]
        if isinstance(self.task, Task) and self.task.form is not None:
            common["form"] = self.task.form
        return self.prompt.messages(label=self.label, windows=shown, **common)

    def request(self) -> ChatRequest:
        task = self.task
        tokens = sum(task.reply_tokens(self.plan.items[i]) for i in self._now())
        # Where it is the prompt that is read, the reply is not.
        of_prompt = task.mode == PROMPT_LOGPROBS
        return ChatRequest(
            model=self.settings.model,
            messages=tuple(self.messages()),
            max_tokens=1 if of_prompt else self.room * (_ENVELOPE_TOKENS + tokens),
            temperature=self.settings.temperature,
            schema=self._schema(),
            attempt=self.attempt,
            logprobs=self.logprobs(),
            about=(self._about(),),
        )

    def requests(self) -> Iterator[tuple[ChatRequest, int]]:
        """All that judging takes where every reply can be read, with the tokens of each reply."""
        items, size = self.plan.items, self.settings.items
        for begin in range(0, len(items), size):
            part = tuple(range(begin, min(begin + size, len(items))))
            tokens = sum(self.task.reply_tokens(items[i]) for i in part)
            yield replace(self, todo=part).request(), tokens

    def _schema(self) -> ReplySchema | None:
        if not isinstance(self.task, Task):
            return None
        return self.task.schema([self.plan.items[i] for i in self._now()], self.scattered)

    def _about(self) -> str:
        """What is judged: by whose label the windows are, where it is not their feature's own."""
        own = f"{self.purpose or self.scorer.name}:{self.plan.feature}"
        return own if self.label_of == self.plan.feature else f"{own}:of:{self.label_of}"

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Judged]:
        """Readable answers are kept; the rest are asked for once more, then missing."""
        now = self._now()
        job = replace(
            self,
            prompt_tokens=self.prompt_tokens + outcome.usage.prompt_tokens,
            completion_tokens=self.completion_tokens + outcome.usage.completion_tokens,
            cost_usd=self.cost_usd + outcome.cost_usd,
        )
        if _not_given(self.logprobs(), outcome):
            return Step(follow_ups=[job.fall_back()])
        if isinstance(outcome, CallFailure):
            if outcome.kind not in ("too_long", "content_filter", "bad_request"):
                judged = replace(job._judged(outcome.message), unanswered=True)
                return Step(results=[judged], unreadable=job._unreadable())
            return job._less(now, outcome.message)
        if outcome.declined:
            return job._less(now, "the model declined to answer")
        copied = self._is_copied(outcome)
        try:
            read, chances = ({}, {}) if copied else self._read(outcome, self._items())
            lost_count = copied
        except Miscounted:
            read, chances, lost_count = {}, {}, True
        job = replace(
            job,
            scattered=job.scattered or lost_count,
            replies=self._seen(outcome.text, read, copied),
            chances={**self.chances, **{now[i]: chance for i, chance in chances.items()}},
        )
        new = {now[place]: value for place, value in read.items()}
        cut = outcome.finish_reason == "length" and self.task.mode != PROMPT_LOGPROBS
        if not new:
            keys = (*self.vain.get(now, ()), outcome.key)
            job = replace(job, vain={**self.vain, now: keys})
        if cut and not new and self.room == 1:
            # Thoughts, most likely, which some models write before they answer.
            return Step(follow_ups=[replace(job, room=_MORE_ROOM)], unread=True)
        asked = dict(self.asked) | {i: self.asked.get(i, 0) + 1 for i in now if i not in new}
        again = tuple(i for i in now if i not in new and asked[i] < _TRIES)
        todo = again + self.todo[len(now) :]
        job = replace(job, answers={**self.answers, **new}, asked=asked, todo=todo)
        # What is asked again must not find the reply that lacked it in the journal.
        job = replace(job, attempt=max((asked.get(i, 0) for i in job._now()), default=0))
        if todo and not (self.enough is not None and self.enough(job._judged(None))):
            return Step(follow_ups=[job], unread=not new)
        return Step(results=[job._judged(None)], unread=not new, unreadable=job._unreadable())

    def _unreadable(self) -> list[tuple[str, ...]]:
        """Requests about items of which nothing was said in other requests either."""
        known = self.answers.keys()
        return [keys for items, keys in self.vain.items() if not known >= set(items)]

    def _is_copied(self, reply: ChatReply) -> bool:
        """Whether a reply is the template's example."""
        return isinstance(self.task, Task) and is_copied(reply.text, self.messages()[0]["content"])

    def _read(
        self, reply: ChatReply, shown: Sequence[Item]
    ) -> tuple[dict[int, np.ndarray], dict[int, float]]:
        """Answers, and where they are to be had the probabilities of yes, by place."""
        task = self.task
        if isinstance(task, TokenTask):
            sent = self.messages()[-1]["content"]
            return task.read(reply.positions(task.mode), sent, shown, self.scattered), {}
        read = task.read(reply.text, shown, self.scattered)
        if task.chances is None:
            return read, {}
        found = task.chances(reply.tokens, len(shown), self.scattered)
        chances = {place: chance for place, chance in found.items() if place in read}
        # At a temperature what was drawn is not what is likelier.
        likelier = {p: answer(chance > 0.5) for p, chance in chances.items() if chance != 0.5}
        return read | likelier, chances

    def _seen(self, text: str, read: Mapping[int, np.ndarray], copied: bool) -> Replies:
        """The replies so far with this one, from which `read` was read by place."""
        task, now = self.task, self._now()
        kinds = [replies.RECEIVED]
        kinds += [replies.COPIED] if copied else [replies.UNREADABLE] if not read else []
        if not isinstance(task, Task) or task.said is None or copied:
            return self.replies.more(*kinds)
        kinds += slips(task.said(text), len(now), self.scattered)
        about = tuple(now[place] for place in sorted(read))
        if not replies.is_telling([bool(self.plan.items[i].truth[0]) for i in about]):
            return self.replies.more(*kinds)
        same = replies.same_answer([bool(value[0]) for value in read.values()])
        if same is None:
            return self.replies.more(*kinds, replies.TELLING)
        kind = replies.ALL_YES if same else replies.ALL_NO
        return self.replies.more(*kinds, replies.TELLING, kind, uniform=about)

    def fall_back(self) -> "JudgeJob":
        """All items anew, in the next mode. Raises AutointerpError where there is none."""
        if not self.fallbacks:
            raise ConfigurationError(
                f"the endpoint gives no {self.logprobs()}: choose another --{self.scorer.name}-mode"
            )
        task, prompt = self.fallbacks[0]
        begun = self.anew(self.plan, self.settings.items)
        return replace(
            begun,
            chosen_task=task,
            prompt=prompt,
            fallbacks=self.fallbacks[1:],
            enough=self.enough,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost_usd=self.cost_usd,
        )

    def anew(self, plan: Plan, items: int) -> "JudgeJob":
        """The same judge and label, so many items at once, with nothing asked or spent so far."""
        return JudgeJob(
            scorer=self.scorer,
            plan=plan,
            label_of=self.label_of,
            label=self.label,
            prompt=self.prompt,
            vocabulary=self.vocabulary,
            settings=replace(self.settings, items=items),
            todo=tuple(range(len(plan.items))),
            chosen_task=self.chosen_task,
            fallbacks=self.fallbacks,
            purpose=self.purpose,
        )

    def _less(self, now: tuple[int, ...], why: str) -> Step[Judged]:
        """Ask about fewer items at once; one that cannot be asked about by itself is missing."""
        if len(now) > 1:
            return Step(follow_ups=[replace(self, chunk=-(-len(now) // 2))])
        asked = {**self.asked, now[0]: _TRIES}
        todo = self.todo[1:]
        if todo:
            return Step(follow_ups=[replace(self, asked=asked, todo=todo, chunk=None)])
        judged = replace(self, asked=asked, todo=())._judged(why)
        return Step(results=[judged], unreadable=self._unreadable())

    def _judged(self, error: str | None) -> Judged:
        """What was asked and came out; where asking ended for a failure, all counts as asked."""
        left = set() if error is not None else set(self.todo) - set(self.asked)
        judgments = [
            Judgment(item, self.answers.get(i), self.chances.get(i))
            for i, item in enumerate(self.plan.items)
            if i not in left
        ]
        error = error or unread_error(judgments)
        return Judged(
            plan=self.plan,
            scorer=self.scorer.name,
            label_of=self.label_of,
            judgments=judgments,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost_usd=self.cost_usd,
            error=error,
            unread=bool(self._unreadable()),
            mode=self.task.mode,
            replies=self.replies,
        )


def unread_error(judgments: Sequence[Judgment]) -> str | None:
    """What could not be read, in words; None where everything could."""
    read = [j.prediction for j in judgments if j.prediction is not None]
    if missing := len(judgments) - len(read):
        return f"{missing} of {len(judgments)} windows without a readable judgment"
    unknown = sum(int(np.isnan(values).sum()) for values in read)
    return f"{unknown} tokens without a readable judgment" if unknown else None


def _not_given(logprobs: Logprobs | None, outcome: ChatReply | CallFailure) -> bool:
    """Whether the endpoint does not give the probabilities that are to be read."""
    if logprobs is None:
        return False
    if isinstance(outcome, CallFailure):
        return outcome.kind == NO_LOGPROBS
    return outcome.ignores(logprobs)
