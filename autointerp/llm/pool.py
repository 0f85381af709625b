"""A bounded set of workers that sends requests, journals replies and retries what failed.

It knows nothing of what the requests are about. A job renders its request and reduces the reply to
results and, where something is missing, further jobs; both are pure, so that a run that starts
again renders the same requests and finds the replies in the journal.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import tenacity

from autointerp.errors import UserError
from autointerp.llm.client import ChatClient
from autointerp.llm.errors import CALL_ERRORS, UnreadableReply, classify
from autointerp.llm.journal import Journal
from autointerp.llm.limits import Pace
from autointerp.llm.prices import Price
from autointerp.llm.reply import CallFailure, ChatReply, Usage, read_reply, usage_of
from autointerp.llm.request import ChatRequest
from autointerp.llm.retry import Failed, StopAfterCounted, backoff_s, decision_of, retryable

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Step(Generic[R_co]):
    """What came of a reply: finished results, and jobs for what is still missing."""

    results: "Sequence[R_co]" = ()
    follow_ups: "Sequence[Job[R_co]]" = ()


class Job(Protocol[R_co]):
    def request(self) -> ChatRequest: ...

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[R_co]: ...


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`max_wait_s` bounds the time one request is retried, refusals for rate included."""

    concurrency: int = 16
    requests_per_minute: float | None = None
    max_attempts: int = 6
    max_wait_s: float = 900.0


@dataclass(slots=True)
class PoolTotals:
    """Counters that a progress display may read at any time."""

    requests: int = 0  # replies received over the network
    from_journal: int = 0
    retries: int = 0
    rate_limited: int = 0
    failures: int = 0
    in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    trouble: str = ""  # why the last call failed, until one succeeds


class RunStopped(UserError):
    """The endpoint refused for good (key, model, quota, bad request): asking on is pointless."""


class _Stopped(Exception):
    """Another worker has met an error that ends the run: this one's job is left undone."""


class _Pool(Generic[R]):
    def __init__(
        self,
        jobs: Iterable[Job[R]],
        client: ChatClient,
        journal: Journal,
        price: Price | None,
        settings: PoolSettings,
        on_result: Callable[[R], None],
        on_retry: Callable[[], None],
        totals: PoolTotals,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._fresh: Iterator[Job[R]] = iter(jobs)
        # Follow-ups finish what is begun, so they go before fresh jobs.
        self._follow_ups: deque[Job[R]] = deque()
        self._client, self._journal, self._price = client, journal, price
        self._settings, self._totals, self._sleep = settings, totals, sleep
        self._on_result, self._on_retry = on_result, on_retry
        self._pace = Pace(settings.requests_per_minute)
        self._asking: dict[str, asyncio.Future[ChatReply | CallFailure]] = {}
        self._buying: set[asyncio.Task[ChatReply]] = set()
        self._busy = 0
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._error: Exception | None = None
        self._random = random.Random()

    async def run(self) -> None:
        workers = [asyncio.create_task(self._work()) for _ in range(self._settings.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            # Cancelled (Ctrl-C): what is in flight may be paid for, so it is awaited and journaled.
            for worker in workers:
                worker.cancel()
            if self._buying:
                await asyncio.wait(self._buying)
        if self._error is not None:
            raise self._error

    def _stop(self, error: Exception) -> None:
        self._error = self._error or error
        self._stopping.set()
        self._changed.set()

    async def _work(self) -> None:
        """Take jobs until none is left and none is on its way, or the run is stopped."""
        while self._error is None:
            try:
                job = self._follow_ups.popleft() if self._follow_ups else next(self._fresh, None)
            except Exception as error:
                self._stop(error)
                return
            if job is None:
                if self._busy == 0:
                    self._changed.set()
                    return
                self._changed.clear()
                await self._changed.wait()
                continue
            self._busy += 1
            try:
                step = job.reduce(await self._outcome(job.request()))
                self._follow_ups.extend(step.follow_ups)
                for result in step.results:
                    self._on_result(result)
            except _Stopped:
                return
            except Exception as error:
                self._stop(error)
            finally:
                self._busy -= 1
                self._changed.set()
            # A stretch of journal hits never waits for the network: let others run.
            await asyncio.sleep(0)

    async def _outcome(self, request: ChatRequest) -> ChatReply | CallFailure:
        """The reply to a request, from the journal, from an equal request in flight, or bought."""
        key = request.key(self._client.base_url)
        known = self._known(key)
        if known is not None:
            return known
        if key in self._asking:
            outcome = await asyncio.shield(self._asking[key])
            if isinstance(outcome, ChatReply):
                return replace(outcome, usage=Usage(), cost_usd=0.0, from_journal=True)
            return outcome
        future = asyncio.get_running_loop().create_future()
        self._asking[key] = future
        try:
            outcome = await self._ask(request, key)
            future.set_result(outcome)
            return outcome
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else _Stopped())
            future.exception()  # nobody else may be waiting for it
            raise
        finally:
            del self._asking[key]

    def _known(self, key: str) -> ChatReply | None:
        raw = self._journal.get(key)
        if raw is None:
            return None
        try:
            reply = read_reply(raw)
        except UnreadableReply:
            return None
        self._totals.from_journal += 1
        cost = self._book(reply.usage)
        return replace(reply, cost_usd=cost, from_journal=True)

    async def _ask(self, request: ChatRequest, key: str) -> ChatReply | CallFailure:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(retryable),
            wait=self._wait,
            stop=StopAfterCounted(self._settings.max_attempts)
            | tenacity.stop_after_delay(self._settings.max_wait_s),
            sleep=self._pause,
            before_sleep=self._before_sleep,
            reraise=True,
        )
        try:
            return await retrying(self._send_once, request, key)
        except Failed as failed:
            decision = failed.decision
            # A server that has been away for so long is away for every other request too, and one
            # that has taken none so far will not take the next.
            none_taken = self._totals.requests + self._totals.from_journal == 0
            if (
                decision.action == "stop"
                or decision.kind == "unreachable"
                or (decision.kind == "bad_request" and none_taken)
            ):
                raise RunStopped(f"endpoint {self._client.base_url}: {decision.message}") from None
            self._totals.failures += 1
            return CallFailure(decision.kind, decision.message)

    async def _pause(self, seconds: float) -> None:
        """Wait out a backoff, unless the run is stopped meanwhile."""
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        sleeping.cancel()
        stopping.cancel()

    async def _send_once(self, request: ChatRequest, key: str) -> ChatReply:
        await self._pace.wait()
        if self._stopping.is_set():
            raise _Stopped
        self._journal.sending(key)
        self._totals.in_flight += 1
        buying = asyncio.create_task(self._buy(request, key))
        self._buying.add(buying)
        buying.add_done_callback(self._buying.discard)
        try:
            # A reply on its way must reach the journal even if this worker is cancelled.
            return await asyncio.shield(buying)
        except CALL_ERRORS as error:
            raise Failed(classify(error)) from error
        finally:
            self._totals.in_flight -= 1

    async def _buy(self, request: ChatRequest, key: str) -> ChatReply:
        try:
            raw = await self._client.send(request.body)
        except CALL_ERRORS as error:
            if not classify(error).maybe_billed:
                self._journal.settle(key)
            raise
        # Before anything is made of it: a reply that cannot be read was paid for as well.
        self._journal.put(key, raw, model=request.model)
        cost = self._book(usage_of(raw))
        reply = read_reply(raw)
        self._totals.requests += 1
        self._totals.trouble = ""
        return replace(reply, cost_usd=cost)

    def _book(self, usage: Usage) -> float:
        cost = 0.0 if self._price is None else self._price.cost(usage)
        self._totals.prompt_tokens += usage.prompt_tokens
        self._totals.completion_tokens += usage.completion_tokens
        self._totals.cached_tokens += usage.cached_tokens
        self._totals.cost_usd += cost
        return cost

    def _wait(self, state: tenacity.RetryCallState) -> float:
        decision = decision_of(state)
        return backoff_s(decision, state.attempt_number, self._random.random())

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        self._totals.retries += 1
        self._totals.trouble = decision_of(state).message
        if decision_of(state).kind == "rate_limit":
            self._totals.rate_limited += 1
        self._on_retry()


async def run_jobs(
    jobs: Iterable[Job[R]],
    *,
    send: ChatClient,
    journal: Journal,
    price: Price | None,
    settings: PoolSettings,
    on_result: Callable[[R], None],
    totals: PoolTotals,
    on_retry: Callable[[], None] = lambda: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run all jobs and their follow-ups; `jobs` is pulled only as workers are free.

    `on_result` is called in the order replies come, `on_retry` before each wait. Raises RunStopped
    when the endpoint refuses for good and whatever a job raises; in both cases replies in flight
    are journaled first.
    """
    await _Pool(jobs, send, journal, price, settings, on_result, on_retry, totals, sleep).run()
