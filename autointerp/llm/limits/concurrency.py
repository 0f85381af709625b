"""How many requests may be in flight to one endpoint, learned from replies and throttling.

A pure state machine. The pool reports what it sends and what comes of it; there is no clock, no
timer and no chance here, so that a simulator can drive it through hours of traffic in a second.

The limit doubles until the first request is throttled. That cuts it by a fixed share, and where
it was is remembered as the wall: the limit halves its distance to it each round, stays just below
until it has been measured, then probes beyond in growing steps (TCP BIC, whose curve CUBIC smooths;
whole steps suit limits as low as 5). Some servers never throttle but queue: there, a limit that
makes replies slower without making more of them is taken back.
"""

import math
import statistics
from dataclasses import dataclass

from autointerp.llm.limits.background_throttling import BackgroundThrottling

# A cut leaves this share. TCP's 0.7 is for emptying a router's queue; a server that throttles keeps
# none, and the sends that the cut holds back give a token bucket time to refill.
KEPT_BY_CUT = 0.85
# A round whose peak in flight is below this share of the limit says nothing for a higher one.
FULL_SHARE = 0.8
# The least successes of a round near the wall: the time in which a bucket of tokens that has run
# dry refills, where a round of a low limit would be over at once.
CAREFUL_SUCCESSES = 32
# A step beyond the wall is at most this share of the limit: its throttling comes a round late.
PROBE_SHARE = 0.25
# A wall passed by this factor is none any more, and the limit doubles again.
WALL_PASSED = 2
# Successes for a median and a rate: of lognormal latencies, sigma 1, it is right within 16 %.
MEASURED_SUCCESSES = 64
# How much longer the median reply must take to look like a queue, and how much the limit must have
# grown for that: no queue of ours lengthens replies by more.
QUEUEING_FACTOR = 1.5
# Up to which it is free of a queue. Between the two a lucky rate must not make it the measure.
STEADY_FACTOR = 1.35
# The share of the added requests that must show as throughput: half way between a server that
# scales (1) and one that queues (0) leaves the most room for noise.
GAIN_SHARE = 0.5
# A step back leaves this much of the need: a short queue costs latency, an idle server throughput.
QUEUE_HEADROOM = 1.25


@dataclass(frozen=True, slots=True)
class _Level:
    """What the endpoint did at one limit; `rate` is successes a second."""

    limit: int
    median_s: float
    rate: float


class ConcurrencyLimit:
    """The present limit, `limit`, of requests in flight, and those that are, `in_flight`.

    Each request is sent in an epoch, which ends when the limit is taken back. The outcomes of
    requests of an earlier epoch are news of the old limit and only free their place: so one
    overload, however many requests it throttles, cuts once.
    """

    def __init__(self, start: int, least: int, most: int) -> None:
        if not 1 <= least <= start <= most:
            raise ValueError(f"not 1 <= least {least} <= start {start} <= most {most}")
        self.limit = start
        self.in_flight = 0
        self._least = least
        self._most = most
        self._epoch = 0
        self._peak = 0  # in flight at once, in this round
        self._wall: int | None = None  # the limit last throttled; None in slow start
        self._grew = False  # in this epoch
        self._noise = BackgroundThrottling()
        self._base: _Level | None = None  # the last level known to be free of queueing
        self._begin_epoch()

    def sent(self) -> int:
        """Count a request in flight; the epoch goes back in with its outcome."""
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)
        return self._epoch

    def succeeded(self, epoch: int, latency_s: float, now: float) -> None:
        """Count a clean reply; `now` is a reading of a monotonic clock, in seconds."""
        self.in_flight -= 1
        self._count_outcome(epoch, throttled=False)
        if epoch != self._epoch:
            return
        self._latencies.append(latency_s)
        self._successes += 1
        if self._successes >= self._round_length():
            self._end_round(now)

    def throttled(self, epoch: int) -> None:
        """Count a request throttled for load: 429, overloaded, timed out."""
        self.in_flight -= 1
        self._count_outcome(epoch, throttled=True)
        if epoch != self._epoch or self._noise.explains():
            return
        tried = min(self.limit, self._peak)
        if self._wall is None or self._grew:
            # Cuts that follow each other are one storm, and what worked before it is the wall.
            self._wall = tried
        self._noise.begin_epoch(self.limit)
        self._take_back_to(math.floor(KEPT_BY_CUT * tried))

    def _count_outcome(self, epoch: int, *, throttled: bool) -> None:
        if self._noise.count(self.limit, throttled=throttled, stale=epoch != self._epoch):
            # What was taken for a wall was not one.
            self._wall = None

    def ended(self, epoch: int) -> None:
        """Count any other outcome, which says nothing of the limit."""
        self.in_flight -= 1

    def _begin_epoch(self) -> None:
        self._epoch += 1
        self._grew = False
        self._step = 1  # the next one beyond the wall, in requests
        self._begin_level()

    def _begin_level(self) -> None:
        self._measured_from: float | None = None
        self._latencies: list[float] = []  # since then
        self._begin_round()

    def _begin_round(self) -> None:
        self._successes = 0
        self._peak = self.in_flight

    def _round_length(self) -> int:
        """The clean replies that make a round: a limit's worth, and more near the wall."""
        near = self._wall is not None and self._wall < 2 * self.limit
        return max(self.limit, CAREFUL_SUCCESSES) if near else self.limit

    def _end_round(self, now: float) -> None:
        if self._peak < FULL_SHARE * self.limit:
            self._begin_level()
            return
        level = self._level(now)
        need = self._need(level) if level else None
        if need is not None:
            self._take_back_to(math.ceil(QUEUE_HEADROOM * need))
            self._wall = self.limit + 1
            return
        grown = min(self._most, self._grown(measured=level is not None))
        if grown > self.limit:
            self.limit = grown
            self._grew = True
            self._begin_level()
            return
        if level or self._measured_from is None:
            self._measured_from = now
            self._latencies = []
        self._begin_round()

    def _take_back_to(self, limit: int) -> None:
        self.limit = max(self._least, min(limit, self.limit))
        self._begin_epoch()

    def _grown(self, measured: bool) -> int:
        """The limit after a clean round."""
        if self._wall is None or self.limit >= WALL_PASSED * self._wall:
            # A larger server may queue, which shows only against a measure of the lower limit.
            return 2 * self.limit if measured or self.limit < MEASURED_SUCCESSES else self.limit
        below = self._wall - 1
        if self.limit < below:
            return min(2 * self.limit, self.limit + math.ceil((below - self.limit) / 2))
        if not measured:
            return self.limit
        step = min(self._step, math.ceil(PROBE_SHARE * self.limit))
        self._step *= 2
        return self.limit + step

    def _level(self, now: float) -> _Level | None:
        """What the present limit does, once enough is known of it.

        Its first round is left out: that starts with many fresh requests, none near its end.
        """
        took_s = 0.0 if self._measured_from is None else now - self._measured_from
        if took_s <= 0 or len(self._latencies) < MEASURED_SUCCESSES:
            return None
        median_s = statistics.median(self._latencies)
        return _Level(self.limit, median_s, len(self._latencies) / took_s)

    def _need(self, level: _Level) -> float | None:
        """The requests in flight that would do as well as the present limit, if some queue."""
        base = self._base
        if base is None or level.limit <= base.limit:
            self._base = level
            return None
        growth, gain = level.limit / base.limit, level.rate / base.rate
        if growth < QUEUEING_FACTOR:
            return None
        hastened = gain >= 1 + GAIN_SHARE * (growth - 1)
        if hastened and level.median_s <= STEADY_FACTOR * base.median_s:
            self._base = level
        queues = not hastened and level.median_s > QUEUEING_FACTOR * base.median_s
        # By Little's law: the base kept `base.limit` requests for its rate, without a queue.
        return base.limit * gain if queues else None
