"""What the journal knows of a request, in whatever dialect it was put when it was answered.

An endpoint's dialect loses the parameters that it refuses. All that was ever lost is remembered, so
that a reply is found again under the bytes that were sent for it.
"""

import json
from dataclasses import dataclass

from autointerp.llm.dialect import Dialect
from autointerp.llm.errors import UnreadableReply
from autointerp.llm.journal import Journal
from autointerp.llm.reply import ChatReply, read_reply
from autointerp.llm.request import ChatRequest, request_key


@dataclass(frozen=True, slots=True)
class Recalled:
    """A reply from the journal, and what it cost where that is known."""

    key: str
    reply: ChatReply
    cost_usd: float | None


class Recall:
    """One journal's knowledge of an endpoint, which names all endpoints of a run together.

    `dialect` is the one to begin with, before anything was refused.
    """

    def __init__(self, journal: Journal, endpoint: str, dialect: Dialect) -> None:
        self._journal, self._endpoint, self._first = journal, endpoint.rstrip("/"), dialect
        self._dialects: dict[str, list[Dialect]] = {}  # by model, the present one first

    def dialect(self, model: str) -> Dialect:
        """The present dialect: less what the doctor, or any run, found that is refused."""
        return self._all(model)[0]

    def lose(self, model: str, lost: tuple[str, ...]) -> None:
        """From now on these parameters are left out; what was lost before is not forgotten."""
        kept = [*(one for one in self._lost(model) if one != lost), lost]
        self._journal.set_fact(self._fact(model), json.dumps(kept))
        self._dialects.pop(model, None)

    def put(self, request: ChatRequest) -> tuple[str, bytes]:
        """The request's key, and its bytes, in the present dialect."""
        return self._put(request, self.dialect(request.model))

    def find(self, request: ChatRequest) -> Recalled | None:
        """A readable reply to the request, in any dialect."""
        for dialect in self._all(request.model):
            key, _ = self._put(request, dialect)
            found = self._journal.get(key)
            if found is None:
                continue
            try:
                return Recalled(key, read_reply(found[0]), found[1])
            except UnreadableReply:
                continue
        return None

    def _put(self, request: ChatRequest, dialect: Dialect) -> tuple[str, bytes]:
        body = dialect.body(request)
        return request_key(self._endpoint, body, request.attempt), body

    def _all(self, model: str) -> list[Dialect]:
        if model not in self._dialects:
            remembered = self._lost(model) or [()]
            steps = [lost[:n] for lost in remembered for n in range(len(lost) + 1)]
            every = dict.fromkeys([remembered[-1], *steps])
            dialects = [self._first.after(lost) for lost in every]
            # A journal of an earlier version knows no other requests.
            earlier = [one for d in dialects if (one := d.without_counts()) is not None]
            self._dialects[model] = [*dialects, *earlier]
        return self._dialects[model]

    def _lost(self, model: str) -> list[tuple[str, ...]]:
        known = self._journal.fact(self._fact(model))
        return [tuple(lost) for lost in json.loads(known)] if known else []

    def _fact(self, model: str) -> str:
        return f"dialect of {self._endpoint} for {model}"
