"""What an endpoint can do, found out with a few short requests."""

import json
from dataclasses import dataclass, replace
from typing import Any

from autointerp.errors import UserError
from autointerp.llm.client import ChatClient
from autointerp.llm.dialect import Dialect
from autointerp.llm.errors import CALL_ERRORS, Decision, UnreadableReply, classify
from autointerp.llm.reply import ChatReply, read_reply
from autointerp.llm.request import ChatRequest, ReplySchema
from autointerp.llm.structured import items

_WORDS = ("red", "green", "blue")
_MAX_TOKENS = 200
_SCHEMA = ReplySchema(
    "colours",
    {
        "type": "object",
        "properties": {
            "colours": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"n": {"type": "integer"}, "name": {"type": "string"}},
                    "required": ["n", "name"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["colours"],
        "additionalProperties": False,
    },
)
_ASK = (
    "Copy the numbered colours into one JSON object and write nothing else, like "
    '{"colours": [{"n": 1, "name": "white"}]}\n\n'
    + "\n".join(f"{n}. {word}" for n, word in enumerate(_WORDS, 1))
)


@dataclass(frozen=True)
class Probe:
    """What was found. `dialect` is what the endpoint takes of the one it was tried with."""

    dialect: Dialect
    model: str  # as the endpoint names it
    items_read: int  # of the three it was asked for
    thinks: bool
    reports_usage: bool
    logprobs: bool
    limits: dict[str, str]  # what its headers say of rate limits

    @property
    def items_asked(self) -> int:
        return len(_WORDS)


async def probe(client: ChatClient, dialect: Dialect, model: str) -> Probe:
    """Ask as a run would, giving up what is refused. Raises UserError with the server's words."""
    request = ChatRequest(
        model, ({"role": "user", "content": _ASK},), _MAX_TOKENS, 0.0, schema=_SCHEMA
    )
    while True:
        outcome = await _ask(client, dialect.body(request))
        if not isinstance(outcome, Decision):
            break
        weaker = dialect.without(outcome.message) if outcome.action == "adapt" else None
        if weaker is None:
            raise UserError(f"endpoint {client.base_url}: {outcome.message}")
        dialect = weaker
    reply, raw, headers = outcome
    wanted = {"logprobs": True, "top_logprobs": 5}
    with_logprobs = replace(dialect, extra={**dialect.extra, **wanted})
    logprobs = await _ask(client, with_logprobs.body(replace(request, max_tokens=1)))
    return Probe(
        dialect=dialect,
        model=reply.model,
        items_read=len(_read(reply.text)),
        thinks=_thinks(reply.text, raw),
        reports_usage=reply.usage.prompt_tokens > 0,
        logprobs=not isinstance(logprobs, Decision) and _has_logprobs(logprobs[1]),
        limits={k: v for k, v in headers.items() if k.startswith("x-ratelimit-limit")},
    )


async def _ask(
    client: ChatClient, body: bytes
) -> tuple[ChatReply, dict[str, Any], dict[str, str]] | Decision:
    try:
        raw, headers = await client.send(body)
        return read_reply(raw), json.loads(raw, strict=False), dict(headers)
    except (*CALL_ERRORS, UnreadableReply) as error:
        return classify(error)


def _read(text: str) -> set[tuple[object, object]]:
    found = {(item.get("n"), item.get("name")) for item in items(text, "colours")}
    return found & set(enumerate(_WORDS, 1))


def _choice(raw: dict[str, Any]) -> dict[str, Any]:
    choice = raw["choices"][0]
    assert isinstance(choice, dict)
    return choice


def _thinks(text: str, raw: dict[str, Any]) -> bool:
    message = _choice(raw)["message"]
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    details = (raw.get("usage") or {}).get("completion_tokens_details") or {}
    return bool(thoughts or "</think>" in text or details.get("reasoning_tokens"))


def _has_logprobs(raw: dict[str, Any]) -> bool:
    content = (_choice(raw).get("logprobs") or {}).get("content") or []
    return bool(content and content[0].get("top_logprobs"))
