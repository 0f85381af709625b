"""A chat request, independent of the dialect of an endpoint."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.llm.wire.logprobs import Logprobs

PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class ReplySchema:
    """The JSON Schema that a reply should follow; its name is for the endpoint's error messages.

    Endpoints that constrain decoding have the model write the properties in the order in which they
    are declared: what a field should be based on is declared before it.
    """

    name: str
    schema: Mapping[str, Any]

    def without_counts(self) -> Mapping[str, Any]:
        """The schema less which numbers, and how many, there may be.

        Some endpoints take no other; and it is what a request is known by, since the numbers follow
        from what is asked.
        """
        loose: Mapping[str, Any] = _without_counts(self.schema)
        return loose


_COUNTS = ("enum", "minItems", "maxItems", "maxLength")


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


def _object(properties: Mapping[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required or properties),
        "additionalProperties": False,
    }


def objects(
    fields: Mapping[str, Any], least: int, most: int, required: Sequence[str] | None = None
) -> dict[str, Any]:
    """The schema of a list of objects that have all of these fields and no others.

    `required` names all the fields in another order. To an endpoint that order means nothing, but
    it is part of a request's identity, while the order of the fields is not: with `required` as it
    was, fields can be reordered and the journal still finds the replies.
    """
    return array(_object(fields, required), least, most)


def list_of(
    key: str, fields: Mapping[str, Any], n: int, required: Sequence[str] | None = None
) -> ReplySchema:
    """A list of `n` such objects under `key`."""
    return ReplySchema(key, _object({key: objects(fields, n, n, required)}))


def number_lists(keys: Sequence[str], numbers: Sequence[int]) -> ReplySchema:
    """A list of some of the numbers under each key.

    Of two keys, one for what is and one for what is not, it is the shortest reply that shows what
    was left out.
    """
    listed = array(one_of(numbers), 0, len(numbers))
    return ReplySchema("answers", _object(dict.fromkeys(keys, listed)))


def by_number(entry: Mapping[str, Any], numbers: Sequence[int]) -> ReplySchema:
    """An object with one entry for each of the numbers, in their order.

    An endpoint that constrains decoding can neither leave one out nor count on past the last.
    """
    return ReplySchema("answers", _object({str(number): dict(entry) for number in numbers}))


def fields(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object that has all of these fields and no others."""
    return _object(properties)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`max_tokens` bounds the reply, thoughts included.

    `attempt` is not sent: it tells apart asking the same thing once more, after a reply that was
    received but could not be used, from finding that reply in the journal. `logprobs` are what the
    reply is of no use without: it is not sent where they are not to be had. `about` is not sent
    either and is not part of the request's identity: the journal finds requests by it.
    """

    model: str
    messages: tuple[Mapping[str, str], ...]
    max_tokens: int
    temperature: float | None = None
    schema: ReplySchema | None = None
    attempt: int = 0
    logprobs: Logprobs | None = None
    about: tuple[str, ...] = ()


def as_json(value: Any, *, sort_keys: bool = False) -> bytes:
    """The value as compact JSON."""
    text = json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False)
    # Text cut in the middle of a character may hold lone surrogates, which UTF-8 cannot.
    return text.encode("utf-8", errors="replace")


def request_key(endpoint: str, content: Mapping[str, Any], attempt: int = 0) -> str:
    """A request's identity, in whatever order its content is sent."""
    canonical = as_json(content, sort_keys=True)
    parts = (endpoint.rstrip("/").encode(), PATH.encode(), canonical, str(attempt).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
