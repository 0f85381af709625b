"""Looks up replies in the journal, in every dialect in which a request may have been sent.

A dialect drops the parameters that the endpoint rejects. All that was ever dropped is remembered,
so that a reply is found under the content that was sent for it.
"""

import json
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from autointerp.llm.journal.journal import Journal
from autointerp.llm.wire.call_errors import UnreadableReply
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.reply import ChatReply, read_reply
from autointerp.llm.wire.request import ChatRequest, request_key

_DROPPED = TypeAdapter(list[tuple[str, ...]])


@dataclass(frozen=True, slots=True)
class CachedReply:
    """A reply from the journal, and what it cost where that is known."""

    key: str
    reply: ChatReply
    cost_usd: float | None


class ReplyCache:
    """One journal's replies of an endpoint, which stands for all endpoints of a run.

    `dialect` is the initial one, before anything was rejected.
    """

    def __init__(self, journal: Journal, endpoint: str, dialect: Dialect) -> None:
        self._journal, self._endpoint, self._first = journal, endpoint.rstrip("/"), dialect
        self._dialects: dict[str, list[Dialect]] = {}  # by model, the present one first

    def dialect(self, model: str) -> Dialect:
        """The current dialect, without what the doctor, or any run, found to be rejected."""
        return self._all(model)[0]

    def drop(self, model: str, dropped: tuple[str, ...]) -> None:
        """Stop sending these parameters; what was dropped before stays on record."""
        kept = [*(one for one in self._dropped(model) if one != dropped), dropped]
        self._journal.set_fact(self._fact(model), json.dumps(kept))
        self._dialects.pop(model, None)

    def put(self, request: ChatRequest) -> tuple[str, bytes]:
        """The request's key, and its bytes, in the present dialect."""
        dialect = self.dialect(request.model)
        return self._key(request, dialect), dialect.body(request)

    def find(self, request: ChatRequest) -> CachedReply | None:
        """A readable reply to the request, in any dialect."""
        for dialect in self._all(request.model):
            key = self._key(request, dialect)
            found = self._journal.get(key)
            if found is None:
                continue
            try:
                return CachedReply(key, read_reply(found[0]), found[1])
            except UnreadableReply:
                continue
        return None

    def _key(self, request: ChatRequest, dialect: Dialect) -> str:
        return request_key(self._endpoint, dialect.content(request), request.attempt)

    def _all(self, model: str) -> list[Dialect]:
        if model not in self._dialects:
            remembered = self._dropped(model) or [()]
            steps = [dropped[:n] for dropped in remembered for n in range(len(dropped) + 1)]
            every = dict.fromkeys([remembered[-1], *steps])
            self._dialects[model] = [self._first.after(dropped) for dropped in every]
        return self._dialects[model]

    def _dropped(self, model: str) -> list[tuple[str, ...]]:
        known = self._journal.fact(self._fact(model))
        try:
            return _DROPPED.validate_json(known) if known else []
        except ValidationError:  # a damaged journal, or one of who knows whom
            return []

    def _fact(self, model: str) -> str:
        return f"dialect of {self._endpoint} for {model}"
