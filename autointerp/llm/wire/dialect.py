"""How one endpoint expects requests: the names and parameters that differ between servers.

An endpoint's dialect begins with what is known of its host (hosts.toml) and drops, one by one, the
parameters that the endpoint rejects. The journal remembers what was dropped, so that a resumed run
sends the same requests in the same form.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal
from urllib.parse import urlsplit

from autointerp.llm.wire.logprobs import PARAMETERS, Logprobs
from autointerp.llm.wire.request import ChatRequest, as_json

Structured = Literal["json_schema", "json_object", "none"]
_COUNTS = "counts in a schema"
_FALLBACKS: dict[Structured, Structured] = {"json_schema": "json_object", "json_object": "none"}
_OTHER_NAME = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
_LOGPROBS_WORDS = ("logprob", "return_token_ids", "requested parameters")
_COUNT_WORDS = (
    "enum",
    "minitems",
    "maxitems",
    "min_items",
    "max_items",
    "grammar",
    "invalid schema",
    "too complex",
    "too many states",
    "unimplemented keys",
)
_STRUCTURED_WORDS = (
    "response_format",
    "response format",
    "json_schema",
    "json_object",
    "structured output",
    "structured_output",
    "guided",
    "grammar",
)


@dataclass(frozen=True)
class Dialect:
    """`extra` are parameters that the user sets, `optional` those that may be given up.

    `counts` says whether a schema says which numbers, and how many, there may be.
    """

    structured: Structured = "json_schema"
    counts: bool = True
    limit_name: str = "max_tokens"
    temperature: bool = True
    optional: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def content(self, request: ChatRequest) -> dict[str, Any]:
        """What the request asks for: its identity is made of this.

        Whether the schema says which numbers there may be is left out, as it follows from the rest.
        """
        content: dict[str, Any] = {
            "model": request.model,
            "messages": [dict(message) for message in request.messages],
            self.limit_name: request.max_tokens,
        }
        if request.temperature is not None and self.temperature:
            content["temperature"] = request.temperature
        if request.schema is not None and self.structured == "json_schema":
            content["response_format"] = _response_format(
                request.schema.name, request.schema.without_counts()
            )
        elif request.schema is not None and self.structured == "json_object":
            content["response_format"] = {"type": "json_object"}
        if request.logprobs is not None:
            content |= PARAMETERS[request.logprobs]
        return content | dict(self.optional) | dict(self.extra)

    def body(self, request: ChatRequest) -> bytes:
        """The request as it is sent, with everything in the order in which it was declared.

        Some gateways stream unless told not to. How a reply is delivered is not part of what is
        asked, so the identity leaves it out.
        """
        content = self.content(request)
        if request.schema is not None and self.structured == "json_schema" and self.counts:
            given = _response_format(request.schema.name, request.schema.schema)
            # What the user sets, and what may be given up, goes before this.
            if "response_format" not in self.optional and "response_format" not in self.extra:
                content["response_format"] = given
        return as_json(content | {"stream": False})

    def most_tokens(self, request: ChatRequest) -> int:
        """The bound on the reply as it is sent: the user's own goes before the request's."""
        own = [self.extra[name] for name in _OTHER_NAME if isinstance(self.extra.get(name), int)]
        return max(own, default=request.max_tokens)

    def takes(self, logprobs: Logprobs | None) -> bool:
        """Whether they may be requested: the endpoint has neither rejected nor ignored them."""
        return logprobs is None or logprobs not in self.dropped

    def without(self, complaint: str, logprobs: Logprobs | None = None) -> "Dialect | None":
        """The dialect without what an endpoint rejects; None if its message names nothing known.

        `logprobs` are those that the rejected request asked for.
        """
        said = complaint.lower()
        if logprobs is not None and any(word in said for word in _LOGPROBS_WORDS):
            return self._less(logprobs)
        for name in self.optional:
            if name in said:
                return self._less(name)
        if any(word in said for word in _COUNT_WORDS) and self.structured == "json_schema":
            return self._less(_COUNTS) or self._less(self.structured)
        if any(word in said for word in _STRUCTURED_WORDS) and self.structured in _FALLBACKS:
            return self._less(self.structured)
        # The other name first: a message that rejects one often recommends the other.
        if self.limit_name in said and self.limit_name not in self.dropped:
            return self._less(self.limit_name)
        if "temperature" in said and self.temperature:
            return self._less("temperature")
        if "requested parameters" in said and self.structured in _FALLBACKS:
            return self._less(self.structured)
        return None

    def _less(self, name: str) -> "Dialect | None":
        dropped = (*self.dropped, name)
        if name in PARAMETERS:
            return None if name in self.dropped else replace(self, dropped=dropped)
        if name in self.optional:
            kept = {k: v for k, v in self.optional.items() if k != name}
            return replace(self, optional=kept, dropped=dropped)
        if name == self.structured:
            return replace(self, structured=_FALLBACKS[self.structured], dropped=dropped)
        if name == self.limit_name:
            other = _OTHER_NAME[name]
            return (
                None if other in self.dropped else replace(self, limit_name=other, dropped=dropped)
            )
        if name == _COUNTS:
            return replace(self, counts=False, dropped=dropped) if self.counts else None
        if name == "temperature":
            return replace(self, temperature=False, dropped=dropped)
        return None

    def after(self, dropped: tuple[str, ...]) -> "Dialect":
        """The dialect without what was dropped before; parameters it never had are ignored."""
        dialect = self
        for name in dropped:
            dialect = dialect._less(name) or dialect
        return dialect

    def describe(self) -> str:
        """What is sent, in a few words."""
        parts = [{"none": "plain text"}.get(self.structured, self.structured), self.limit_name]
        parts.append("temperature" if self.temperature else "no temperature")
        parts += [*self.optional, *self.extra]
        return ", ".join(parts)


@cache
def _hosts() -> dict[str, dict[str, Any]]:
    text = resources.files("autointerp.llm.wire").joinpath("hosts.toml").read_text()
    return tomllib.loads(text)


def dialect_for(
    base_url: str,
    *,
    structured: Structured | Literal["auto"] = "auto",
    think: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> Dialect:
    """What the host is known to want; `think` leaves a model's thinking as the endpoint has it."""
    host = urlsplit(base_url).hostname or ""
    known = _hosts()["default"] | next(
        (entry for name, entry in _hosts().items() if host == name or host.endswith("." + name)),
        {},
    )
    return Dialect(
        structured=known["structured"] if structured == "auto" else structured,
        limit_name=known["limit_name"],
        optional={} if think else known["no_thinking"],
        dropped=tuple(known["lacks"]),
        extra=extra or {},
    )


def _response_format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    named = {"name": name, "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": named}
