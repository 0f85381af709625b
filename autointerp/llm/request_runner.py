"""One request, from its rendering to a reply or a failure: cache, retries, fallbacks."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import tenacity

from autointerp.errors import EndpointError, EndpointRejectedError, EndpointUnreachableError
from autointerp.llm.exchange import Exchange, OverBudget, Stopping
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.reply_cache import CachedReply, ReplyCache
from autointerp.llm.limits.budget import Budget
from autointerp.llm.limits.endpoints import EndpointSlot
from autointerp.llm.limits.prices import Price
from autointerp.llm.limits.retry import Failed, StopAfterCounted, backoff_s, decision_of, retryable
from autointerp.llm.totals import PoolTotals
from autointerp.llm.wire.call_errors import Decision
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.logprobs import NO_LOGPROBS, Logprobs
from autointerp.llm.wire.reply import CallFailure, ChatReply, Usage
from autointerp.llm.wire.request import ChatRequest

Outcome = ChatReply | CallFailure
_MAX_REJECTIONS = 20  # bad requests in a row: it is not the requests


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """`longest_s` bounds the time in which nothing succeeds, throttling included."""

    max_attempts: int = 6
    longest_s: float = 900.0


class RequestRunner:
    """Answers a request from the journal, from an equal one in flight, or by sending it.

    `endpoint` stands for all endpoints: a request is the same whichever of them gets it.
    """

    def __init__(
        self,
        endpoint: str,
        reply_cache: ReplyCache,
        journal: Journal,
        price: Price | None,
        budget: Budget,
        exchange: Exchange,
        settings: RetrySettings,
        totals: PoolTotals,
        on_event: Callable[[str], None],
        on_retry: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._endpoint, self._journal, self._exchange = endpoint, journal, exchange
        self._price, self._budget, self._settings = price, budget, settings
        self._totals, self._on_event, self._on_retry = totals, on_event, on_retry
        self._sleep = sleep
        self._reply_cache = reply_cache
        self._in_flight: dict[str, asyncio.Future[Outcome]] = {}
        self._rejections = 0  # bad requests since the last reply
        # The first request for log probabilities finds out whether they are supported.
        self._finding_out: dict[Logprobs, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._given: set[Logprobs] = set()
        self._random = random.Random()

    async def outcome(
        self, request: ChatRequest, slot: EndpointSlot, after: str | None = None
    ) -> Outcome:
        """Raises EndpointError, Stopping, or AutointerpError where the journal cannot be used.

        `after` is the key of the reply that this request follows up on.
        """
        while True:
            dialect = self._reply_cache.dialect(request.model)
            try:
                return await self._answer(request, dialect, slot, after)
            except Failed as failed:
                if not self._adapt(dialect, request, failed.decision):
                    key, _ = self._reply_cache.put(request)
                    return self._given_up(key, "bad_request", failed.decision.message)

    def _adapt(self, rejected: Dialect, request: ChatRequest, decision: Decision) -> bool:
        """Drop the rejected parameter; False if only this request is rejected."""
        # Another request may have found out the same in the meantime.
        if self._reply_cache.dialect(request.model) is not rejected:
            return True
        fallback = rejected.without(decision.message, request.logprobs)
        if fallback is None:
            if self._anything_taken():
                return False
            raise self._stopped(decision)
        self._drop(request.model, fallback)
        return True

    def _stopped(self, decision: Decision) -> EndpointError:
        """Asking on is pointless."""
        away = decision.kind in ("unreachable", "certificate")
        kind = EndpointUnreachableError if away else EndpointRejectedError
        return kind(f"endpoint {self._endpoint}: {decision.message}")

    def _drop(self, model: str, fallback: Dialect) -> None:
        self._reply_cache.drop(model, fallback.dropped)
        self._on_event(
            f"{self._endpoint} does not support {fallback.dropped[-1]}: no longer sending it"
        )

    def _anything_taken(self) -> bool:
        """Whether the endpoints have answered any request at all."""
        return self._exchange.any_read or self._totals.from_journal > 0

    async def _answer(
        self, request: ChatRequest, dialect: Dialect, slot: EndpointSlot, after: str | None
    ) -> Outcome:
        known = self._reply_cache.find(request)
        if known is not None and known.key == after:
            # What it asks for differently is not sent, as where the user bounds all replies: it is
            # the same reply, which is paid for.
            return replace(known.reply, usage=Usage(), cost_usd=0.0, key=known.key, recalled=True)
        if known is not None:
            self._totals.from_journal += 1
            # It may be from before prompts were kept, or have been asked for something else.
            await self._journal.note(known.key, request)
            return self._booked(known.key, replace(self._priced(known), recalled=True))
        if request.logprobs is None:
            return await self._take(request, dialect, slot)
        return await self._take_with(request.logprobs, request, slot)

    async def _take_with(
        self, logprobs: Logprobs, request: ChatRequest, slot: EndpointSlot
    ) -> Outcome:
        """The reply with log probabilities; the first request finds out if they are supported."""
        if logprobs not in self._given:
            # Those who wait for what it finds out do not hold a slot.
            slot.release()
            async with self._finding_out[logprobs]:
                if logprobs not in self._given:
                    return await self._try_with(logprobs, request, slot)
        return await self._try_with(logprobs, request, slot)

    async def _try_with(
        self, logprobs: Logprobs, request: ChatRequest, slot: EndpointSlot
    ) -> Outcome:
        dialect = self._reply_cache.dialect(request.model)
        if not dialect.takes(logprobs):
            return CallFailure(
                NO_LOGPROBS, f"endpoint {self._endpoint} does not support {logprobs}"
            )
        outcome = await self._take(request, dialect, slot)
        if isinstance(outcome, ChatReply) and not outcome.ignores(logprobs):
            self._given.add(logprobs)
        elif isinstance(outcome, ChatReply) or (
            # Rejected without a reason, and no request for them was accepted so far.
            outcome.kind == "bad_request" and logprobs not in self._given
        ):
            fallback = self._reply_cache.dialect(request.model).without(logprobs, logprobs)
            if fallback is not None:
                self._drop(request.model, fallback)
            if isinstance(outcome, CallFailure):
                outcome = replace(outcome, kind=NO_LOGPROBS)
        return outcome

    async def _take(self, request: ChatRequest, dialect: Dialect, slot: EndpointSlot) -> Outcome:
        """The reply to a request that the journal does not answer. Raises as `_ask` does."""
        key, body = self._reply_cache.put(request)
        if key in self._in_flight:
            slot.release()
            outcome = await asyncio.shield(self._in_flight[key])
            if isinstance(outcome, ChatReply):
                await self._journal.note(key, request)
            return replace(outcome, usage=Usage(), cost_usd=0.0)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._in_flight[key] = future
        try:
            bounded = replace(request, max_tokens=dialect.most_tokens(request))
            outcome = await self._ask(bounded, body, key, slot)
            future.set_result(outcome)
            return outcome
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else Stopping())
            future.exception()  # nobody else may be waiting for it
            raise
        finally:
            del self._in_flight[key]

    def _priced(self, known: CachedReply) -> ChatReply:
        """The reply with its cost, by today's price where none was known when it came."""
        cost = known.cost_usd
        if cost is None:
            cost = 0.0 if self._price is None else self._price.cost(known.reply.usage)
        return replace(known.reply, cost_usd=cost)

    async def _ask(
        self, request: ChatRequest, body: bytes, key: str, slot: EndpointSlot
    ) -> Outcome:
        """The reply, or why there is none. Raises Failed if the body must be changed."""
        try:
            try:
                reply = await self._exchange.send_once(request, body, key, slot)
            except Failed as failed:
                reply = await self._again(failed, request, body, key, slot)
            self._rejections = 0
            return self._booked(key, reply)
        except OverBudget:
            message = f"the budget of ${self._budget.limit_usd:g} is used up"
            return self._given_up(key, "over_budget", message)
        except Failed as failed:
            decision = failed.decision
            if decision.action == "adapt":
                raise
            # One that has taken none so far will not take the next.
            rejected_first = decision.kind == "bad_request" and not self._anything_taken()
            rejected_first &= request.logprobs is None
            if decision.action == "stop" or decision.kind == "unreachable" or rejected_first:
                raise self._stopped(decision) from None
            self._totals.failures += 1
            return self._given_up(key, decision.kind, decision.message)

    async def _again(
        self, failed: Failed, request: ChatRequest, body: bytes, key: str, slot: EndpointSlot
    ) -> ChatReply:
        """Retry after a first failure. Raises Failed, OverBudget, Stopping.

        Most requests never get here, which saves them tenacity's overhead.
        """
        failures = [failed]
        attempts, longest_s = self._settings.max_attempts, self._settings.longest_s
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(retryable),
            wait=self._wait,
            stop=StopAfterCounted(attempts, longest_s, self._exchange.stuck_s),
            sleep=self._sleep,
            before_sleep=self._before_sleep,
            reraise=True,
        )

        async def attempt() -> ChatReply:
            if failures:
                raise failures.pop()
            return await self._exchange.send_once(request, body, key, slot)

        reply: ChatReply = await retrying(attempt)
        return reply

    def _booked(self, key: str, reply: ChatReply) -> ChatReply:
        """The reply, with the usage of unreadable replies to the same request added."""
        usage, cost = self._journal.unreadable_usage(key)
        whole = replace(
            reply,
            usage=reply.usage.plus(usage),
            cost_usd=reply.cost_usd + cost,
            key=key,
            repeated=self._journal.has_unreadable(key),
        )
        self._totals.add(whole.usage, whole.cost_usd)
        return whole

    def _given_up(self, key: str, kind: str, message: str) -> CallFailure:
        self._rejections += kind == "bad_request"
        if self._rejections >= _MAX_REJECTIONS:
            raise EndpointRejectedError(f"endpoint {self._endpoint}: {message}")
        usage, cost = self._journal.unreadable_usage(key)
        self._totals.add(usage, cost)
        return CallFailure(kind, message, usage, cost)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        decision = decision_of(state)
        return backoff_s(decision, state.attempt_number, self._random.random())

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        if self._exchange.stopping:
            raise Stopping
        down_s = self._exchange.down_s()
        if down_s > self._settings.longest_s:
            message = decision_of(state).message
            raise EndpointUnreachableError(
                f"endpoint {self._endpoint} has been down for {down_s / 60:.0f} minutes: {message}"
            )
        self._totals.retries += 1
        self._totals.trouble = decision_of(state).message
        if decision_of(state).kind == "rate_limit":
            self._totals.rate_limited += 1
        self._on_retry()
