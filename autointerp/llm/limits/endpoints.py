"""One or several endpoints of one model: which of them takes the next request, and when."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from autointerp.llm.limits.breaker import Breaker
from autointerp.llm.limits.concurrency import ConcurrencyLimit
from autointerp.llm.limits.rate_limiter import RateLimiter
from autointerp.llm.wire.client import Client

_MAX_FAILURES_TO_OPEN = 100
_MIN_FAILURES_TO_OPEN = 10
_TIMER_SLACK_S = 0.01  # a timer may fire a moment before its time


class Endpoint:
    """The state of one endpoint: its limits, the requests in flight, and whether it is up."""

    def __init__(
        self,
        client: Client,
        limit: ConcurrencyLimit,
        rate_limiter: RateLimiter,
        first_pause_s: float,
    ) -> None:
        self.client = client
        self.limit = limit
        self.rate_limiter = rate_limiter
        # With few requests at once a hundred failures would use up the attempts of them all.
        to_open = min(_MAX_FAILURES_TO_OPEN, max(_MIN_FAILURES_TO_OPEN, 2 * limit.limit))
        self.breaker = Breaker(to_open, first_pause_s)
        self.held = 0  # slots given out: requests in flight, and those about to be sent
        self.troubled = False  # its last outcome was throttling or a failure
        self.out = False  # for good

    @property
    def name(self) -> str:
        return self.client.base_url

    def room(self, now: float) -> int:
        if self.out:
            return 0
        if self.breaker.is_open:
            return 1 if self.breaker.lets_through(now) and self.held == 0 else 0
        return self.limit.limit - self.held


class EndpointSlot:
    """One worker's permission to have a request in flight, at the endpoint it was given."""

    def __init__(self, endpoints: "Endpoints") -> None:
        self._endpoints = endpoints
        self.endpoint: Endpoint | None = None

    async def acquire(self) -> Endpoint:
        if self.endpoint is None:
            self.endpoint = await self._endpoints._acquire()
        return self.endpoint

    def release(self) -> None:
        if self.endpoint is not None:
            self.endpoint.held -= 1
            self.endpoint = None
            self._endpoints.wake()


class Endpoints:
    """Hands out slots, first come first served, at the endpoint with the most room.

    One that throttled or failed last is used only if no other has room; being idle, it would
    otherwise get every request.

    `clock` reads monotonic seconds.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.all = list(endpoints)
        self._clock = clock
        self._waiting: deque[asyncio.Future[Endpoint]] = deque()
        self.down_since: float | None = None  # when the last of them went down

    def limit(self) -> int:
        """How many requests may be in flight, over all endpoints."""
        return sum(e.limit.limit for e in self.all if not e.out)

    def all_down(self) -> bool:
        return self.down_since is not None

    def down_s(self) -> float:
        """For how long there has been no endpoint that is up."""
        return 0.0 if self.down_since is None else self._clock() - self.down_since

    def leave_out(self, endpoint: Endpoint) -> bool:
        """Drop an endpoint for good; False, without effect, if it is the last."""
        if all(e.out or e is endpoint for e in self.all):
            return False
        endpoint.out = True
        self.wake()
        return True

    async def _acquire(self) -> Endpoint:
        best = self._best()
        if best is not None and not self._waiting:
            best.held += 1
            return best
        given: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self._waiting.append(given)
        try:
            return await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                given.result().held -= 1
                self.wake()
            raise

    def _best(self) -> Endpoint | None:
        now = self._clock()
        with_room = [e for e in self.all if e.room(now) > 0]
        return max(
            with_room,
            key=lambda e: (not e.troubled, e.room(now) / max(1, e.limit.limit)),
            default=None,
        )

    def wake(self) -> None:
        """Hand free slots to waiting workers; to be called whenever one may be free."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            best = self._best()
            if best is None:
                return
            best.held += 1
            self._waiting.popleft().set_result(best)

    def succeeded(self, endpoint: Endpoint) -> bool:
        """An answer came. True if the endpoint was down before."""
        was_down = endpoint.breaker.succeeded()
        if was_down:
            self.down_since = None
            self.wake()
        return was_down

    def failed(self, endpoint: Endpoint) -> bool:
        """No reply, or none of use. True if the endpoint is taken for down from now on."""
        now = self._clock()
        opened = endpoint.breaker.failed(now)
        if endpoint.breaker.is_open:
            pause_s = max(0.0, endpoint.breaker.probe_at - now)
            asyncio.get_running_loop().call_later(pause_s + _TIMER_SLACK_S, self.wake)
        if self.down_since is None and all(e.out or e.breaker.is_open for e in self.all):
            self.down_since = now
        return opened
