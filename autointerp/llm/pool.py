"""A bounded set of workers that sends requests, journals replies and retries what failed.

It knows nothing of what the requests are about. A job renders its request and reduces the reply to
results and, where something is missing, further jobs; both are pure, so that a run that starts
again renders the same requests and finds the replies in the journal.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Protocol, TypeVar

from autointerp.errors import UnreadableRepliesError
from autointerp.llm.exchange import Exchange, Stopping
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.reply_cache import ReplyCache
from autointerp.llm.limits.breaker import FIRST_PAUSE_S
from autointerp.llm.limits.budget import Budget
from autointerp.llm.limits.concurrency import ConcurrencyLimit
from autointerp.llm.limits.endpoints import Endpoint, Endpoints, EndpointSlot
from autointerp.llm.limits.prices import Price
from autointerp.llm.limits.rate_limiter import RateLimiter
from autointerp.llm.request_runner import Outcome, RequestRunner, RetrySettings
from autointerp.llm.totals import PoolTotals
from autointerp.llm.unread import UnreadStreak
from autointerp.llm.wire.client import Client
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.reply import ChatReply
from autointerp.llm.wire.request import ChatRequest

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

# Beside those that may send, for those that wait out a backoff or for the journal.
_SPARE_SHARE, _MIN_SPARE = 0.25, 16
_MAX_MADE_AT_ONCE = 16  # jobs pulled in one visit to the thread that makes them


@dataclass(frozen=True, slots=True)
class Step(Generic[R_co]):
    """The outcome of a reply: finished results, and jobs for what is still missing.

    `unread` says that nothing in the reply could be parsed. `unreadable` has chains of request
    keys that asked for the same thing repeatedly without success; a later run sends them again.
    """

    results: "Sequence[R_co]" = ()
    follow_ups: "Sequence[PoolJob[R_co]]" = ()
    unread: bool = False
    unreadable: Sequence[Sequence[str]] = ()


class PoolJob(Protocol[R_co]):
    """One request and the parsing of its reply, both pure: a rerun renders the same request."""

    def request(self) -> ChatRequest:
        """The request to send."""

    def reduce(self, outcome: Outcome) -> Step[R_co]:
        """What the reply, or the failure, leads to."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`concurrency` is the initial limit of requests in flight, at each endpoint.

    `drain_s` bounds the wait for those in flight once the pool is asked to stop.
    """

    concurrency: int = 16
    min_concurrency: int = 1
    max_concurrency: int = 256
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    retry: RetrySettings = field(default_factory=RetrySettings)
    budget_usd: float | None = None
    first_pause_s: float = FIRST_PAUSE_S
    drain_s: float = 60.0


class Drained(Exception):
    """The pool was asked to stop: requests in flight are finished, the rest are not sent."""


class _Pool(Generic[R]):
    def __init__(
        self,
        jobs: Iterable[PoolJob[R]],
        workers: int,
        endpoints: Endpoints,
        runner: RequestRunner,
        exchange: Exchange,
        on_result: Callable[[R], None],
        journal: Journal,
        totals: PoolTotals,
    ) -> None:
        self._journal, self._totals = journal, totals
        self._streak = UnreadStreak()
        self._fresh: Iterator[PoolJob[R]] = iter(jobs)
        self._made: deque[PoolJob[R]] = deque()
        self._all_made = False
        # Follow-ups finish what is begun, so they go before fresh jobs; each with the key of the
        # reply that it follows.
        self._follow_ups: deque[tuple[PoolJob[R], str | None]] = deque()
        self._endpoints, self._runner, self._exchange = endpoints, runner, exchange
        self._on_result = on_result
        self._busy = 0
        self._idle: deque[asyncio.Future[None]] = deque()  # workers that wait for a job
        self._wanted = asyncio.Event()  # jobs are, by the one who makes them
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]
        self._error: BaseException | None = None

    async def run(self, stop: asyncio.Event | None, drain_s: float) -> None:
        making = asyncio.create_task(self._make())
        stopping = asyncio.create_task(self._stop_when(stop, drain_s)) if stop else None
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            # Cancelled from without: nothing is waited for but what is being written down.
            for task in (making, stopping, *self._tasks):
                if task is not None:
                    task.cancel()
            await asyncio.gather(making, *self._tasks, return_exceptions=True)
        if self._streak.is_all() or isinstance(self._error, UnreadableRepliesError):
            # None of it was made up for, and asked in ever smaller groups it would cost more.
            self._journal.mark_unreadable(self._streak.chains())
        if self._error is not None:
            raise self._error

    async def _stop_when(self, stop: asyncio.Event, drain_s: float) -> None:
        await stop.wait()
        self._stop(Drained())
        await asyncio.sleep(drain_s)
        for task in self._tasks:
            task.cancel()

    def _stop(self, error: BaseException) -> None:
        """Begin nothing new, and wait for requests in flight."""
        if self._error is not None:
            return
        self._error = error
        self._exchange.stopping = True
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current and task not in self._exchange.sending:
                task.cancel()

    async def _make(self) -> None:
        """Pull jobs in a thread of their own, as they are wanted: making them reads the disk."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        try:
            while not self._all_made:
                at_once = max(1, min(_MAX_MADE_AT_ONCE, self._endpoints.limit()))
                if len(self._made) >= at_once:
                    self._wanted.clear()
                    await self._wanted.wait()
                    continue
                made = await loop.run_in_executor(thread, _take, self._fresh, at_once)
                self._all_made = len(made) < at_once
                self._made.extend(made)
                self._rouse()
        except Exception as error:
            self._stop(error)
        finally:
            thread.shutdown(wait=True)

    async def _next(self, slot: EndpointSlot) -> tuple[PoolJob[R], bool, str | None] | None:
        """The next job with a slot to send it, whether it is a fresh one, and what it follows.

        None when none is left or in flight.
        """
        while True:
            if self._follow_ups or self._made:
                # A job is taken only when it may be sent, so that few wait in memory.
                await slot.acquire()
                if self._follow_ups:
                    job, after = self._follow_ups.popleft()
                    return job, False, after
                if self._made:
                    self._wanted.set()
                    return self._made.popleft(), True, None
                continue
            # Others may have retries to send meanwhile.
            slot.release()
            if self._is_over():
                self._rouse()
                return None
            roused = asyncio.get_running_loop().create_future()
            self._idle.append(roused)
            await roused

    def _is_over(self) -> bool:
        return self._all_made and not self._busy and not self._made and not self._follow_ups

    def _rouse(self) -> None:
        """Wake as many idle workers as there are jobs, and all of them at the end."""
        wanted = len(self._idle) if self._is_over() else len(self._made) + len(self._follow_ups)
        while wanted > 0 and self._idle:
            roused = self._idle.popleft()
            if not roused.done():
                roused.set_result(None)
                wanted -= 1

    async def _work(self) -> None:
        slot = EndpointSlot(self._endpoints)
        try:
            while self._error is None:
                found = await self._next(slot)
                if found is None:
                    return
                job, is_fresh, after = found
                self._busy += 1
                try:
                    outcome = await self._runner.outcome(job.request(), slot, after)
                    step = job.reduce(outcome)
                    self._heed(outcome, step, is_fresh)
                    key = outcome.key if isinstance(outcome, ChatReply) else None
                    self._follow_ups.extend((follow_up, key) for follow_up in step.follow_ups)
                    for result in step.results:
                        self._on_result(result)
                finally:
                    self._busy -= 1
                    self._rouse()
                # A stretch of journal hits never waits for the network: let others run.
                await asyncio.sleep(0)
        except Stopping:
            return
        except Exception as error:
            self._stop(error)
        finally:
            slot.release()

    def _heed(self, outcome: Outcome, step: Step[R], is_fresh: bool) -> None:
        """Mark what a later run is to request again, and stop if going on is pointless."""
        self._totals.unread += step.unread
        if step.unreadable:
            self._journal.mark_unreadable(step.unreadable)
        if isinstance(outcome, ChatReply) and not outcome.declined:
            self._streak.add(outcome, unread=step.unread, is_fresh=is_fresh)
            if self._streak.is_hopeless():
                self._stop(self._streak.error())


def _take(jobs: Iterator[PoolJob[R]], n: int) -> list[PoolJob[R]]:
    return list(islice(jobs, n))


async def run_jobs(
    jobs: Iterable[PoolJob[R]],
    *,
    clients: Sequence[Client],
    dialect: Dialect,
    journal: Journal,
    price: Price | None,
    settings: PoolSettings,
    on_result: Callable[[R], None],
    totals: PoolTotals,
    on_event: Callable[[str], None] = lambda _: None,
    on_retry: Callable[[], None] = lambda: None,
    stop: asyncio.Event | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run all jobs and their follow-ups; `jobs` is pulled, in a thread, only as workers are free.

    `on_result` is called in the order replies come, `on_retry` before each wait, `on_event` with a
    line for the user when something about an endpoint changes. Once `stop` is set nothing is begun,
    what is in flight is finished, and Drained is raised. Raises EndpointError when the endpoints
    reject for good, and whatever a job or the journal raises; what was received is journaled first.
    """
    endpoints = Endpoints(
        [
            Endpoint(
                client,
                ConcurrencyLimit(
                    settings.concurrency, settings.min_concurrency, settings.max_concurrency
                ),
                RateLimiter(settings.requests_per_minute, settings.tokens_per_minute),
                settings.first_pause_s,
            )
            for client in clients
        ]
    )
    totals.limit = endpoints.limit()
    budget = Budget(settings.budget_usd, journal.spent_usd())
    exchange = Exchange(endpoints, journal, price, budget, totals, on_event)
    runner = RequestRunner(
        clients[0].base_url,
        ReplyCache(journal, clients[0].base_url, dialect),
        journal,
        price,
        budget,
        exchange,
        settings.retry,
        totals,
        on_event,
        on_retry,
        sleep,
    )
    most = settings.max_concurrency * len(clients)
    workers = most + max(_MIN_SPARE, round(_SPARE_SHARE * most))
    pool = _Pool(jobs, workers, endpoints, runner, exchange, on_result, journal, totals)
    await pool.run(stop, settings.drain_s)
