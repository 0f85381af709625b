"""Reading a chat completion's envelope from raw bytes."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from autointerp.llm.errors import UnreadableReply, server_message
from autointerp.llm.logprobs import (
    PROMPT_LOGPROBS,
    Logprobs,
    Position,
    prompt_positions,
    reply_positions,
)

# No reply uses more; a server that says so would spoil the sums and overflow the tables.
_MOST_TOKENS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # of the prompt tokens, those the server had cached
    cost_usd: float | None = None  # where the server says it (OpenRouter)

    def plus(self, other: "Usage") -> "Usage":
        """Both together; the cost that a server says is of one reply only."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A reply whose envelope could be read; what its text holds is the caller's business.

    `usage` and `cost_usd` include unreadable replies to the same request before it. `prompt` and
    `tokens` have the tokens of the prompt and of the text, where they were asked for and given.
    `key` is that of the request. `recalled` says that the journal had the reply, `repeated` that it
    had replies to the request of which nothing came.
    """

    text: str
    finish_reason: str | None
    refused: bool
    usage: Usage
    model: str = ""  # as the server names it
    cost_usd: float = 0.0
    prompt: Sequence[Position] = ()
    tokens: Sequence[Position] = ()
    key: str = ""
    recalled: bool = False
    repeated: bool = False

    def positions(self, logprobs: Logprobs) -> Sequence[Position]:
        """Of the tokens whose alternatives were asked for."""
        return self.prompt if logprobs == PROMPT_LOGPROBS else self.tokens

    def ignores(self, logprobs: Logprobs) -> bool:
        """Whether the endpoint has answered as if they had not been asked for."""
        if self.refused or (logprobs != PROMPT_LOGPROBS and not self.text):
            return False
        return not any(position.given for position in self.positions(logprobs))


@dataclass(frozen=True, slots=True)
class CallFailure:
    """A call that was given up: `too_long`, `content_filter`, `over_budget`, or no more retries.

    Unreadable replies on the way to it were paid for.
    """

    kind: str
    message: str
    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0


def read_reply(raw: bytes) -> ChatReply:
    """Raises UnreadableReply for anything that is no chat completion with a choice in it."""
    envelope = _envelope(raw)
    if envelope.get("error"):
        words, code = server_message(envelope)
        raise UnreadableReply(f"error in the reply: {words}", code)
    choices = envelope.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise UnreadableReply("the reply has no choices")
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, dict):
        raise UnreadableReply("the reply's choice has no message")
    content = message.get("content")
    finish_reason = choice.get("finish_reason")
    return ChatReply(
        text=content if isinstance(content, str) else "",
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        refused=bool(message.get("refusal")) or finish_reason == "content_filter",
        usage=_usage(envelope.get("usage")),
        model=str(envelope.get("model") or ""),
        # Some servers put them beside the choice, some into it.
        prompt=prompt_positions(envelope) or prompt_positions(choice),
        tokens=reply_positions(choice),
    )


def usage_of(raw: bytes) -> Usage:
    """What a reply says it used, whether or not anything else in it can be read."""
    try:
        return _usage(_envelope(raw).get("usage"))
    except UnreadableReply:
        return Usage()


def was_cut(raw: bytes) -> bool:
    """Whether it begins as a completion does but does not end: tokens were made, and not told."""
    try:
        _envelope(raw)
    except UnreadableReply:
        return raw.lstrip().startswith(b"{")
    return False


def _envelope(raw: bytes) -> dict[str, Any]:
    text = raw.decode("utf-8-sig", errors="replace")
    try:
        envelope = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        raise UnreadableReply(f"the reply is not JSON: {text.strip()[:60]!r}") from None
    if not isinstance(envelope, dict):
        raise UnreadableReply("the reply is JSON but no chat completion")
    return envelope


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), _MOST_TOKENS)


def _usage(raw: Any) -> Usage:
    """Token counts as the server reports them; what it leaves out or garbles counts as zero."""
    if not isinstance(raw, dict):
        return Usage()
    prompt = _count(raw.get("prompt_tokens"))
    details = raw.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    if cached is None:
        cached = raw.get("prompt_cache_hit_tokens")
    completion = _count(raw.get("completion_tokens"))
    return Usage(prompt, completion, min(_count(cached), prompt), _dollars(raw.get("cost")))


def _dollars(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
