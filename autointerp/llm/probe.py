"""Finds out what an endpoint supports with a few short requests."""

from collections.abc import Mapping
from dataclasses import dataclass

from autointerp.errors import EndpointError
from autointerp.llm.wire.call_errors import CALL_ERRORS, Decision, classify
from autointerp.llm.wire.client import Client
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.logprobs import PARAMETERS, PROMPT_LOGPROBS, Logprobs
from autointerp.llm.wire.reply import ChatReply, read_reply
from autointerp.llm.wire.request import ChatRequest, ReplySchema
from autointerp.llm.wire.structured import items

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


_TABS = "Say how warm these are, from 0 to 9:\nfire\t9\nice\t0\nsun\t?"


@dataclass(frozen=True)
class Probe:
    """What was found. `dialect` is what the endpoint takes of the one it was tried with."""

    dialect: Dialect
    model: str  # as the endpoint names it
    items_read: int  # of the three it was asked for
    thinks: bool
    reports_usage: bool
    logprobs: tuple[Logprobs, ...]  # those that it gives
    limits: dict[str, str]  # what its headers say of rate limits

    @property
    def items_asked(self) -> int:
        return len(_WORDS)


async def probe(client: Client, dialect: Dialect, model: str) -> Probe:
    """Send a request as a run would, dropping the parameters that are rejected.

    Raises EndpointError with the server's words.
    """
    request = ChatRequest(
        model, ({"role": "user", "content": _ASK},), _MAX_TOKENS, 0.0, schema=_SCHEMA
    )
    while True:
        outcome = await _ask(client, dialect.body(request))
        if not isinstance(outcome, Decision):
            break
        fallback = dialect.without(outcome.message) if outcome.action == "adapt" else None
        if fallback is None:
            raise EndpointError(f"endpoint {client.base_url}: {outcome.message}")
        dialect = fallback
    reply, headers = outcome
    given: list[Logprobs] = []
    for logprobs in PARAMETERS:
        if dialect.takes(logprobs) and await _gives(client, dialect, model, logprobs):
            given.append(logprobs)
        else:
            dialect = dialect.without(logprobs, logprobs) or dialect
    return Probe(
        dialect=dialect,
        model=reply.model,
        items_read=len(_read(reply.text)),
        thinks=reply.thought,
        reports_usage=reply.usage.prompt_tokens > 0,
        logprobs=tuple(given),
        limits={k: v for k, v in headers.items() if k.startswith("x-ratelimit-limit")},
    )


async def _ask(client: Client, body: bytes) -> tuple[ChatReply, Mapping[str, str]] | Decision:
    try:
        raw, headers = await client.send(body)
        return read_reply(raw), headers
    except CALL_ERRORS as error:
        return classify(error)


def _read(text: str) -> set[tuple[int, str]]:
    found = [(item.get("n"), item.get("name")) for item in items(text, "colours")]
    return {asked for asked in enumerate(_WORDS, 1) if asked in found}


async def _gives(client: Client, dialect: Dialect, model: str, logprobs: Logprobs) -> bool:
    """Whether it answers with log probabilities. Raises EndpointError where it does not answer."""
    request = ChatRequest(model, ({"role": "user", "content": _TABS},), 1, 0.0, logprobs=logprobs)
    outcome = await _ask(client, dialect.body(request))
    if isinstance(outcome, Decision):
        if outcome.action in ("adapt", "fail"):
            return False
        raise EndpointError(f"endpoint {client.base_url}: {outcome.message}")
    reply = outcome[0]
    if not any(position.given for position in reply.positions(logprobs)):
        return False
    # Some tokenizers make spaces of tabs, by which simulation finds its tokens.
    text = "".join(position.text for position in reply.prompt)
    return logprobs != PROMPT_LOGPROBS or "\t?" in text
