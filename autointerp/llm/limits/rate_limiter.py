"""Client-side rate limiting: requests and tokens per minute."""

import asyncio
import math
from collections.abc import Mapping

from aiolimiter import AsyncLimiter
from asyncio_throttle import Throttler

# Servers count in shorter windows than the minute they speak of, so a minute's worth is let through
# in parts: the requests of about a second, the tokens of a few.
_REQUEST_WINDOW_S = 1.0
_TOKEN_WINDOW_S = 5.0
# Of what a server says it allows, for the differences between its clock and this one.
_SHARE_OF_ALLOWED = 0.95
_MIN_PER_MINUTE = 1  # a minute: less would be to wait for ever


class RateLimiter:
    """Delays requests to stay within requests and tokens per minute.

    What the user sets is kept. Where nothing is set, what a server's `x-ratelimit-limit-*` headers
    say is taken, less a twentieth; until it says something there is no limit.
    """

    def __init__(self, requests: float | None, tokens: float | None) -> None:
        self._set = (requests is not None, tokens is not None)
        self.requests_per_minute: float | None = None
        self.tokens_per_minute: float | None = None
        self._throttler: Throttler | None = None
        self._tokens: AsyncLimiter | None = None
        # The throttler polls and does not queue: only one waiter at a time may ask it.
        self._turn = asyncio.Lock()
        self._limit_requests(requests)
        self._limit_tokens(tokens)

    async def wait(self, tokens: int) -> None:
        """Wait until a request of so many tokens, reply included, may be sent."""
        if self._tokens is not None:
            # More than a window holds would never come through.
            await self._tokens.acquire(min(tokens, self._tokens.max_rate))
        if self._throttler is not None:
            async with self._turn:
                await self._throttler.acquire()

    def heed_headers(self, headers: Mapping[str, str]) -> None:
        """Adopt the limits that a reply's headers declare."""
        requests = _allowed(headers, "x-ratelimit-limit-requests")
        if requests is not None and not self._set[0] and requests != self.requests_per_minute:
            self._limit_requests(requests)
        tokens = _allowed(headers, "x-ratelimit-limit-tokens")
        if tokens is not None and not self._set[1] and tokens != self.tokens_per_minute:
            self._limit_tokens(tokens)

    def _limit_requests(self, per_minute: float | None) -> None:
        self.requests_per_minute = per_minute
        if per_minute is not None:
            at_once = max(1, round(per_minute * _REQUEST_WINDOW_S / 60))
            self._throttler = Throttler(
                rate_limit=at_once, period=at_once * 60 / per_minute, retry_interval=0.005
            )

    def _limit_tokens(self, per_minute: float | None) -> None:
        self.tokens_per_minute = per_minute
        if per_minute is not None:
            self._tokens = AsyncLimiter(per_minute * _TOKEN_WINDOW_S / 60, _TOKEN_WINDOW_S)


def _allowed(headers: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(headers.get(name, ""))
    except ValueError:
        return None
    return value * _SHARE_OF_ALLOWED if math.isfinite(value) and value >= _MIN_PER_MINUTE else None
