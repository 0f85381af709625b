"""Sends one request once: budget, rate limit, in-flight log, call, journal, parsing."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from autointerp.llm.journal.in_flight import Send
from autointerp.llm.journal.journal import Journal, Received
from autointerp.llm.limits.budget import Budget, cost_usd, worst_usd
from autointerp.llm.limits.endpoints import Endpoint, Endpoints, EndpointSlot
from autointerp.llm.limits.prices import Price
from autointerp.llm.limits.retry import Failed
from autointerp.llm.totals import PoolTotals
from autointerp.llm.wire.call_errors import CALL_ERRORS, Decision, UnreadableReply, classify
from autointerp.llm.wire.reply import ChatReply, read_reply, usage_of
from autointerp.llm.wire.request import ChatRequest

_BYTES_A_TOKEN = 3.5  # for pacing by tokens, where a guess will do


class Stopping(Exception):
    """The run is being stopped, so the request was not sent."""


class OverBudget(Exception):
    """The request may cost more than is left of the budget."""


class Exchange:
    """Sends requests to the endpoints; once `stopping` is set, no new one.

    `sending` has the tasks with a request in flight.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        journal: Journal,
        price: Price | None,
        budget: Budget,
        totals: PoolTotals,
        on_event: Callable[[str], None],
    ) -> None:
        self._endpoints, self._journal = endpoints, journal
        self._price, self._budget, self._totals = price, budget, totals
        self._on_event = on_event
        self._settled = asyncio.Event()
        self._last_success = time.monotonic()
        self.sending: set[asyncio.Task[object]] = set()
        self.stopping = False
        self.any_read = False  # whether the endpoints have answered anything at all
        totals.spent_usd = budget.spent_usd

    def stuck_s(self, tried_s: float) -> float:
        """For how long a request that was tried for so long has seen nothing succeed at all.

        Time in which every endpoint is down, and hardly anything is sent, is not counted.
        """
        if self._endpoints.all_down():
            return 0.0
        return min(tried_s, time.monotonic() - self._last_success)

    def down_s(self) -> float:
        """For how long there has been no endpoint that is up."""
        return self._endpoints.down_s()

    async def send_once(
        self, request: ChatRequest, body: bytes, key: str, slot: EndpointSlot
    ) -> ChatReply:
        """Send the request once. Raises Failed, OverBudget, Stopping, or AutointerpError."""
        if self.stopping:
            raise Stopping
        endpoint = await slot.acquire()
        worst = worst_usd(self._price, body, len(request.messages), request.max_tokens)
        await self._afford(worst)
        spent = 0.0
        try:
            await endpoint.rate_limiter.wait(round(len(body) / _BYTES_A_TOKEN) + request.max_tokens)
            if self.stopping:
                raise Stopping
            send = Send(key, worst)
            # Until its outcome is known it counts as spent.
            spent = worst
            task = asyncio.current_task()
            assert task is not None
            self.sending.add(task)
            try:
                epoch, sent_at = endpoint.limit.sent(), time.monotonic()
                raw = await self._sent(endpoint, body, send, epoch)
                reply = self._read(endpoint, raw, epoch, sent_at)
                self._totals.limit = self._endpoints.limit()
                # The next request may leave while this reply is written down.
                slot.release()
                reply, spent = await self._written(request, raw, reply, send)
            finally:
                self.sending.discard(task)
            if isinstance(reply, Decision):
                raise Failed(self._elsewhere(endpoint, reply))
            return reply
        except Failed as failed:
            if failed.nothing_billed:
                spent = 0.0
            raise
        finally:
            self._budget.settle(worst, spent)
            self._totals.spent_usd = self._budget.spent_usd
            self._settled.set()
            # A backoff does not hold a slot.
            slot.release()

    async def _afford(self, worst: float) -> None:
        """Reserve the most the request can cost, waiting for requests in flight to leave room."""
        while not self._budget.reserve(worst):
            if not self._budget.reservations:
                raise OverBudget
            self._settled.clear()
            await self._settled.wait()

    async def _sent(self, endpoint: Endpoint, body: bytes, send: Send, epoch: int) -> bytes:
        """The raw reply. Raises Failed."""
        self._journal.sending(send)
        self._totals.in_flight += 1
        try:
            raw, headers = await endpoint.client.send(body)
        except CALL_ERRORS as error:
            decision = classify(error)
            if decision.too_much:
                endpoint.limit.throttled(epoch)
            else:
                endpoint.limit.ended(epoch)
            if decision.maybe_billed:
                self._totals.unconfirmed += 1
            else:
                self._journal.settle(send, answered=False)
            self._on_failure(endpoint, decision)
            raise Failed(
                self._elsewhere(endpoint, decision), nothing_billed=not decision.maybe_billed
            ) from error
        finally:
            self._totals.in_flight -= 1
        endpoint.rate_limiter.heed_headers(headers)
        return raw

    def _read(
        self, endpoint: Endpoint, raw: bytes, epoch: int, sent_at: float
    ) -> ChatReply | Decision:
        """The reply, or why it cannot be read; heard at once, since what comes later is newer."""
        try:
            reply = read_reply(raw)
        except UnreadableReply as error:
            decision = classify(error)
            if decision.too_much:
                endpoint.limit.throttled(epoch)
            else:
                endpoint.limit.ended(epoch)
            self._on_failure(endpoint, decision)
            return decision
        now = time.monotonic()
        endpoint.limit.succeeded(epoch, now - sent_at, now)
        self.any_read = True
        self._on_success(endpoint)
        return reply

    async def _written(
        self, request: ChatRequest, raw: bytes, reply: ChatReply | Decision, send: Send
    ) -> tuple[ChatReply | Decision, float]:
        """The reply once it is in the journal, readable or not, and what it cost."""
        readable = isinstance(reply, ChatReply)
        usage = reply.usage if isinstance(reply, ChatReply) else usage_of(raw)
        cost = cost_usd(self._price, raw, send.worst_usd, readable=readable)
        received = Received(send.key, request.model, raw, usage, cost, readable, request)
        await self._journal.put(received)
        self._journal.settle(send, answered=True)
        if isinstance(reply, ChatReply):
            self._totals.requests += 1
            reply = replace(reply, cost_usd=cost or 0.0)
        else:
            self._totals.unreadable += 1
        return reply, cost or 0.0

    def _on_success(self, endpoint: Endpoint) -> None:
        self._last_success = time.monotonic()
        endpoint.troubled = False
        self._totals.trouble = ""
        if self._endpoints.succeeded(endpoint):
            self._on_event(f"{endpoint.name} answers again")

    def _on_failure(self, endpoint: Endpoint, decision: Decision) -> None:
        endpoint.troubled |= decision.action == "retry"
        if decision.action != "retry" or decision.kind == "rate_limit":
            # A rejection is an answer: the endpoint is up.
            self._endpoints.succeeded(endpoint)
        elif self._endpoints.failed(endpoint):
            self._on_event(
                f"{endpoint.name} has failed {endpoint.breaker.failures} times in a "
                f"row ({decision.message}): paused, and probed now and then"
            )

    def _elsewhere(self, endpoint: Endpoint, decision: Decision) -> Decision:
        """Drop an endpoint that rejects everything, if there are others, and retry elsewhere."""
        was_out = endpoint.out
        if decision.action == "stop" and self._endpoints.leave_out(endpoint):
            if not was_out:
                self._on_event(f"no longer using {endpoint.name}: {decision.message}")
            return replace(decision, action="retry", counted=False)
        if endpoint.breaker.is_open:
            # While an endpoint is down its failures say nothing of a request.
            return replace(decision, counted=False)
        return decision
