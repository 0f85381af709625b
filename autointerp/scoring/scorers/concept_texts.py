"""Texts with a label's concept that a language model writes; what is missing asked again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from autointerp.llm.pool import Step
from autointerp.llm.wire.reply import CallFailure, ChatReply
from autointerp.llm.wire.request import ChatRequest, ReplySchema, list_of
from autointerp.llm.wire.structured import items
from autointerp.prompting.prompts import Prompt

TASK = "fade_texts"
TOKENS_A_TEXT = 80
_ENVELOPE_TOKENS = 50
_TRIES = 2
_MORE_ROOM = 8  # times the tokens, once, for a reply that was cut off before anything was in it


@dataclass(frozen=True, slots=True)
class Written:
    """The texts for one feature's label, all different; `unanswered`: another time may mend it."""

    feature: int
    texts: tuple[str, ...]
    wanted: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    error: str | None = None
    unanswered: bool = False

    def parse_rate(self) -> float:
        """The share of the texts asked for that were had."""
        return len(self.texts) / self.wanted


@dataclass(frozen=True)
class TextJob:
    """Ask for `wanted` texts with the concept of a label."""

    feature: int
    label: str
    wanted: int
    prompt: Prompt
    model: str
    temperature: float
    texts: tuple[str, ...] = ()
    attempt: int = 0
    tries: int = 0
    room: int = 1
    vain: tuple[str, ...] = ()  # keys of requests whose replies had no text
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    def _missing(self) -> int:
        return self.wanted - len(self.texts)

    def messages(self) -> list[dict[str, str]]:
        return self.prompt.messages(label=self.label, number=self._missing())

    def request(self) -> ChatRequest:
        messages: tuple[Mapping[str, str], ...] = tuple(self.messages())
        return ChatRequest(
            model=self.model,
            messages=messages,
            max_tokens=self.room * (_ENVELOPE_TOKENS + TOKENS_A_TEXT * self._missing()),
            temperature=self.temperature,
            schema=schema(self._missing()),
            attempt=self.attempt,
            about=(f"{TASK}:{self.feature}",),
        )

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Written]:
        """New texts are kept; the rest are asked for once more, then missing."""
        job = replace(
            self,
            prompt_tokens=self.prompt_tokens + outcome.usage.prompt_tokens,
            completion_tokens=self.completion_tokens + outcome.usage.completion_tokens,
            cost_usd=self.cost_usd + outcome.cost_usd,
        )
        if isinstance(outcome, CallFailure):
            final = outcome.kind in ("too_long", "content_filter", "bad_request")
            written = job._written(outcome.message, unanswered=not final)
            return Step(results=[written], unreadable=self._unreadable())
        if outcome.declined:
            return Step(results=[job._written("the model declined to write texts")])
        read = [text for text in read_texts(outcome.text) if not self._is_example(text)]
        if not read:
            job = replace(job, vain=(*self.vain, outcome.key))
        if outcome.finish_reason == "length" and not read and self.room == 1:
            # Thoughts, most likely, which some models write before they answer.
            return Step(follow_ups=[replace(job, room=_MORE_ROOM)], unread=True)
        texts = tuple(dict.fromkeys([*self.texts, *read]))[: self.wanted]
        # What is asked again must not find the same reply in the journal.
        job = replace(job, texts=texts, tries=self.tries + 1, attempt=self.attempt + 1)
        if job._missing() and job.tries < _TRIES:
            return Step(follow_ups=[job], unread=not read)
        missing = job._missing()
        if not missing:
            return Step(results=[job._written(None)])
        error = f"{missing} of {self.wanted} texts were not written"
        written = job._written(error, unanswered=bool(job.vain))
        return Step(results=[written], unread=not read, unreadable=job._unreadable())

    def _is_example(self, text: str) -> bool:
        """Whether the template's example has this very text, which small models give back."""
        shown = " ".join(self.messages()[0]["content"].split()).casefold()
        return f'"{" ".join(text.split()).casefold()}"' in shown

    def _unreadable(self) -> list[tuple[str, ...]]:
        return [self.vain] if self.vain else []

    def _written(self, error: str | None, *, unanswered: bool = False) -> Written:
        return Written(
            feature=self.feature,
            texts=self.texts,
            wanted=self.wanted,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost_usd=self.cost_usd,
            error=error,
            unanswered=unanswered,
        )


def schema(n: int) -> ReplySchema:
    return list_of("texts", {"text": {"type": "string"}}, n)


def read_texts(reply: str) -> list[str]:
    """The texts of a reply that are not blank."""
    found = (item.get("text") for item in items(reply, "texts"))
    return [text for text in found if isinstance(text, str) and text.strip()]
