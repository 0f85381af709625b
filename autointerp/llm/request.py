"""A chat request: what is asked, apart from how an endpoint wants it put."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.llm.logprobs import Logprobs

PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class ReplySchema:
    """The JSON Schema that a reply should follow; its name is for the endpoint's error messages."""

    name: str
    schema: Mapping[str, Any]

    def without_counts(self) -> Mapping[str, Any]:
        """The schema less which numbers, and how many, there may be: some endpoints want it so."""
        loose: Mapping[str, Any] = _without_counts(self.schema)
        return loose


_COUNTS = ("enum", "minItems", "maxItems")


def _without_counts(value: Any) -> Any:
    if isinstance(value, Mapping):
        # A field of an object may have one of these names: its value is then a schema.
        return {
            name: _without_counts(entry)
            for name, entry in value.items()
            if name not in _COUNTS or isinstance(entry, Mapping)
        }
    return [_without_counts(entry) for entry in value] if isinstance(value, list) else value


def one_of(numbers: Sequence[int]) -> dict[str, Any]:
    """The schema of one of these numbers."""
    return {"type": "integer", "enum": list(numbers)}


def array(entry: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    """The schema of a list with so many entries."""
    return {"type": "array", "items": entry, "minItems": least, "maxItems": most}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def objects(fields: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    """The schema of a list of objects that have all of these fields and no others."""
    return array(_object(fields), least, most)


def list_of(key: str, fields: dict[str, Any], n: int) -> ReplySchema:
    """A list of `n` such objects under `key`."""
    return ReplySchema(key, _object({key: objects(fields, n, n)}))


def number_lists(keys: Sequence[str], numbers: Sequence[int]) -> ReplySchema:
    """A list of some of the numbers under each key.

    Of two keys, one for what is and one for what is not, it is the shortest reply that shows what
    was left out.
    """
    listed = array(one_of(numbers), 0, len(numbers))
    return ReplySchema("answers", _object(dict.fromkeys(keys, listed)))


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
