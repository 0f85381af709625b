"""Reading a chat completion's envelope from raw bytes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from autointerp.llm.wire.call_errors import UnreadableReply, read_object, server_message
from autointerp.llm.wire.event_stream import is_stream, join_chunks
from autointerp.llm.wire.logprobs import (
    PROMPT_LOGPROBS,
    Logprobs,
    Position,
    prompt_positions,
    reply_positions,
)

# Reasons to finish that are failures: OpenRouter and Mistral, vLLM and SGLang, Zhipu, DeepSeek.
_FAILURES = ("error", "abort", "network_error", "insufficient_system_resource")
# And those by which a filter or the model declines; Gemini adds why: "content_filter: SAFETY".
_DECLINED = ("content_filter", "refusal", "safety", "recitation", "prohibited_content", "sensitive")
_TEXT = ("text", "output_text")  # types of parts
_ANSWER_BEGINS = ("{", "[", "```")
# No reply uses more, or costs more; one that says so would spoil the sums and overflow the tables.
_MAX_TOKENS = 1_000_000_000
_MAX_DOLLARS = 1_000_000.0


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
    declined: bool
    usage: Usage
    model: str = ""  # as the server names it
    thought: bool = False  # whether the model thought before it answered
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
        if self.declined or (logprobs != PROMPT_LOGPROBS and not self.text):
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
    """Raises UnreadableReply for anything that is not a chat completion, or says that it failed."""
    envelope = _envelope(raw)
    choices = envelope.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    _raise_failure(envelope, choice)
    if not isinstance(choice, dict):
        raise UnreadableReply("the reply has no choices")
    reason = choice.get("finish_reason")
    finish_reason = reason if isinstance(reason, str) else None
    declined = finish_reason is not None and finish_reason.lower().startswith(_DECLINED)
    message = choice.get("message")
    if not isinstance(message, dict):
        if not declined:
            raise UnreadableReply("the reply's choice has no message")
        message = {}
    text, thoughts = _text_and_thoughts(message, cut=finish_reason == "length")
    model = envelope.get("model")
    return ChatReply(
        text=text,
        finish_reason=finish_reason,
        declined=declined or bool(message.get("refusal")),
        usage=_usage(envelope.get("usage")),
        model=model if isinstance(model, str) else "",
        thought=bool(thoughts) or "</think>" in text or _thinking_tokens(envelope) > 0,
        # Some servers put them beside the choice, some into it.
        prompt=prompt_positions(envelope) or prompt_positions(choice),
        tokens=reply_positions(choice),
    )


def _raise_failure(envelope: dict[str, Any], choice: Any) -> None:
    """Raise UnreadableReply with the server's words where it says, anywhere, that it failed."""
    of_choice = choice if isinstance(choice, dict) else {}
    for place in (envelope, of_choice):
        if place.get("error"):
            words, code = server_message(place)
            raise UnreadableReply(f"error in the reply: {words}", code)
    reason = of_choice.get("finish_reason")
    if isinstance(reason, str) and reason.lower() in _FAILURES:
        raise UnreadableReply(f"error in the reply: finish_reason is {reason}", reason.lower())
    if choice is None:
        words, code = server_message(envelope)
        if words:
            raise UnreadableReply(f"error in the reply: {words}", code)


def _text_and_thoughts(message: dict[str, Any], *, cut: bool) -> tuple[str, str]:
    """The answer, wherever it stands in a message, and what the model thought before it.

    Servers that divide replies into thoughts and answer take an answer without thoughts for
    thoughts. Only what looks like an answer is believed to be one: thoughts hold drafts.
    """
    text = _joined(message.get("content"))
    thoughts = _joined(message.get("reasoning_content")) or _joined(message.get("reasoning"))
    if not text.strip():
        text = _arguments(message) or text
    if not text.strip() and not cut and thoughts.lstrip().startswith(_ANSWER_BEGINS):
        return thoughts, ""
    return text, thoughts.strip()


def _joined(content: Any) -> str:
    """A text, or the texts in a list of parts, of which some may be thoughts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (
        part.get("text") if isinstance(part, dict) and part.get("type", "text") in _TEXT else part
        for part in parts
    )
    return "".join(text for text in texts if isinstance(text, str))


def _arguments(message: dict[str, Any]) -> str:
    """What tools were called with: some servers make a tool of the schema of the reply."""
    calls = message.get("tool_calls")
    functions = [
        call.get("function")
        for call in (calls if isinstance(calls, list) else [])
        if isinstance(call, dict)
    ]
    texts = []
    for function in [*functions, message.get("function_call")]:
        arguments = function.get("arguments") if isinstance(function, dict) else None
        texts.append(arguments if isinstance(arguments, str) else _dumped(arguments))
    return "\n".join(text for text in texts if text)


def _dumped(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else ""
    except RecursionError:
        return ""


def _thinking_tokens(envelope: dict[str, Any]) -> int:
    usage = envelope.get("usage")
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    return _count(details.get("reasoning_tokens")) if isinstance(details, dict) else 0


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
        return raw.lstrip().startswith(b"{") or is_stream(_decoded(raw))
    return False


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8-sig", errors="replace")


def _envelope(raw: bytes) -> dict[str, Any]:
    text = _decoded(raw)
    return join_chunks(text) if is_stream(text) else read_object(text)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), _MAX_TOKENS)


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
    return float(value) if 0 <= value <= _MAX_DOLLARS else None
