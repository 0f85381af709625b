"""A chat request: what is asked, apart from how an endpoint wants it put."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autointerp.llm.logprobs import Logprobs

PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class ReplySchema:
    """The JSON Schema that a reply should follow; its name is for the endpoint's error messages."""

    name: str
    schema: Mapping[str, Any]


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def objects(fields: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list of objects that have all of these fields and no others."""
    return {"type": "array", "items": _object(fields)}


def list_of(key: str, fields: dict[str, Any]) -> ReplySchema:
    """A list of such objects under `key`."""
    return ReplySchema(key, _object({key: objects(fields)}))


def two_lists(yes: str, no: str) -> ReplySchema:
    """Numbers of what is, and of what is not: the shortest reply that shows what was left out."""
    return number_lists(yes, no)


def number_lists(*keys: str) -> ReplySchema:
    """A list of numbers under each key."""
    numbers = {"type": "array", "items": {"type": "integer"}}
    return ReplySchema("answers", _object(dict.fromkeys(keys, numbers)))


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`max_tokens` bounds the reply, thoughts included.

    `attempt` is not sent: it tells apart asking the same thing once more, after a reply that was
    received but could not be used, from finding that reply in the journal. `logprobs` are what the
    reply is of no use without: it is not sent where they are not to be had. `about` is not sent
    either and is no part of the request's identity: the journal finds requests by it.
    """

    model: str
    messages: tuple[Mapping[str, str], ...]
    max_tokens: int
    temperature: float | None = None
    schema: ReplySchema | None = None
    attempt: int = 0
    logprobs: Logprobs | None = None
    about: tuple[str, ...] = ()


def request_key(endpoint: str, body: bytes, attempt: int = 0) -> str:
    """A request's identity: equal for everything that would get the same reply."""
    parts = (endpoint.rstrip("/").encode(), PATH.encode(), body, str(attempt).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
