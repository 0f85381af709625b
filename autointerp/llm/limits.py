"""Pacing: at most so many requests a minute."""

import asyncio

from asyncio_throttle import Throttler


class Pace:
    """Lets requests through at no more than `per_minute`; at once when that is None.

    A throttler of a whole minute would let the minute's requests through in one burst, which
    servers that count in shorter windows refuse; so it is given a window of about a second. It
    polls, and does not queue: only one waiter at a time may ask it.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._turn = asyncio.Lock()
        self._throttler: Throttler | None = None
        if per_minute is not None:
            at_once = max(1, round(per_minute / 60))
            self._throttler = Throttler(rate_limit=at_once, period=at_once * 60 / per_minute)

    async def wait(self) -> None:
        if self._throttler is not None:
            async with self._turn:
                await self._throttler.acquire()
