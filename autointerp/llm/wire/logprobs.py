"""Log probabilities of prompt or reply tokens and their alternatives, as servers send them.

OpenAI's shape, of a reply's tokens: `choices[0].logprobs.content`, each with its `top_logprobs`.
vLLM's, of a prompt's: `prompt_logprobs`, one object a token, of token id → `decoded_token` and
`logprob`; the first token has none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# What is asked for, by the name of the parameter that some endpoints do not take.
Logprobs = Literal["prompt_logprobs", "top_logprobs"]
PROMPT_LOGPROBS: Logprobs = "prompt_logprobs"
TOP_LOGPROBS: Logprobs = "top_logprobs"

# A failure's kind: the request was given up, since the endpoint does not give what it asks for.
NO_LOGPROBS = "no_logprobs"

_ALTERNATIVES = 15  # as in Bills et al. 2023; servers allow 20 by default
PARAMETERS: dict[Logprobs, dict[str, Any]] = {
    # Which of a position's tokens is the prompt's own is told by the prompt's token ids.
    PROMPT_LOGPROBS: {"prompt_logprobs": _ALTERNATIVES, "return_token_ids": True},
    TOP_LOGPROBS: {"logprobs": True, "top_logprobs": _ALTERNATIVES},
}
_IMPOSSIBLE = -9999.0  # vLLM's for minus infinity, which JSON cannot hold
_CERTAIN = 0.1  # 0, and what rounding may add to it


@dataclass(frozen=True, slots=True)
class Position:
    """A token's text, and what is given of each token that might have stood there."""

    text: str
    given: Sequence[Any] = ()

    def alternatives(self) -> Iterator[tuple[str, float]]:
        """Text and log probability of each; a text may come twice, of two tokens."""
        for entry in self.given:
            if not isinstance(entry, Mapping):
                continue
            text, logprob = _text(entry), entry.get("logprob")
            if isinstance(logprob, int | float) and _IMPOSSIBLE < logprob <= _CERTAIN:
                yield text, float(logprob)


def _text(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return ""
    text = entry.get("decoded_token", entry.get("token"))
    return text if isinstance(text, str) else ""


def prompt_positions(envelope: Mapping[str, Any]) -> list[Position]:
    """Of the prompt's tokens, in order; empty where they are not given."""
    rows, ids = envelope.get("prompt_logprobs"), envelope.get("prompt_token_ids")
    if not isinstance(rows, list):
        return []
    if not isinstance(ids, list) or len(ids) != len(rows):
        ids = [None] * len(rows)
    return [_prompt_position(row, id) for row, id in zip(rows, ids, strict=True)]


def _prompt_position(row: Any, id: Any) -> Position:
    if not isinstance(row, Mapping) or not row:
        return Position("")
    # The prompt's own token is written first, unless something on the way has sorted them.
    own = row.get(str(id) if isinstance(id, int) else "", next(iter(row.values())))
    return Position(_text(own), tuple(row.values()))


def reply_positions(choice: Mapping[str, Any]) -> list[Position]:
    """Of the reply's tokens, in order; empty where they are not given."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list):
        return []
    return [_reply_position(entry) for entry in content]


def _reply_position(entry: Any) -> Position:
    text = _text(entry)
    others = entry.get("top_logprobs") if isinstance(entry, Mapping) else None
    if not isinstance(others, list) or not others:
        return Position(text)
    # What was drawn need not be among the likeliest.
    among = any(_text(other) == text for other in others)
    return Position(text, tuple(others) if among else (entry, *others))
