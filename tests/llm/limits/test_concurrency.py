"""The limit of requests in flight: each rule by hand, then whole runs in virtual time."""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.limits.concurrency import ConcurrencyLimit

WORKERS = 320
MAX_LIMIT = 256
START = 16


# --- by hand ------------------------------------------------------------------------------------


def has_room(limit):
    return limit.in_flight < limit.limit


class Hand:
    """A client that is always full and whose replies take as long as it is told."""

    def __init__(self, start: int, least: int = 1, most: int = MAX_LIMIT):
        self.limit = ConcurrencyLimit(start, least, most)
        self.now = 0.0
        self.open: deque[int] = deque()

    def fill(self) -> None:
        while has_room(self.limit):
            self.open.append(self.limit.sent())

    def reply(self, latency_s: float = 1.0) -> None:
        """The oldest request is answered, at the pace of a limit's worth each latency."""
        self.fill()
        self.now += latency_s / len(self.open)
        self.limit.succeeded(self.open.popleft(), latency_s, self.now)

    def round(self, latency_s: float = 1.0) -> int:
        for _ in range(self.limit.limit):
            self.reply(latency_s)
        return self.limit.limit

    def refuse(self) -> int:
        """The newest request is refused, and the older ones are answered."""
        self.fill()
        self.limit.throttled(self.open.pop())
        while self.open:
            self.now += 0.01
            self.limit.succeeded(self.open.popleft(), 1.0, self.now)
        return self.limit.limit

    def changes(self, replies: int) -> list[int]:
        """The limits passed through in so many replies."""
        limits = [self.limit.limit]
        for _ in range(replies):
            self.reply()
            if self.limit.limit != limits[-1]:
                limits.append(self.limit.limit)
        return limits


def test_room_is_what_the_limit_leaves():
    limit = ConcurrencyLimit(2, 1, 8)
    epochs = [limit.sent(), limit.sent()]
    assert not has_room(limit)
    limit.ended(epochs[0])
    assert (has_room(limit), limit.in_flight, limit.limit) == (True, 1, 2)


@pytest.mark.parametrize(("start", "least", "most"), [(0, 0, 4), (1, 2, 4), (5, 2, 4)])
def test_bounds_out_of_order_are_refused(start, least, most):
    with pytest.raises(ValueError, match="least"):
        ConcurrencyLimit(start, least, most)


def test_slow_start_doubles_each_clean_round_up_to_the_most():
    hand = Hand(2, most=20)
    assert [hand.round() for _ in range(5)] == [4, 8, 16, 20, 20]


def test_a_round_that_did_not_fill_the_limit_grows_nothing():
    limit = ConcurrencyLimit(10, 1, MAX_LIMIT)
    for at in range(100):
        epochs = [limit.sent() for _ in range(7)]
        for epoch in epochs:
            limit.succeeded(epoch, 1.0, float(at))
    assert limit.limit == 10


def test_other_outcomes_neither_cut_nor_grow():
    limit = ConcurrencyLimit(4, 1, MAX_LIMIT)
    for _ in range(100):
        limit.ended(limit.sent())
    assert (limit.limit, limit.in_flight) == (4, 0)


def test_one_epoch_is_cut_once():
    limit = ConcurrencyLimit(40, 1, MAX_LIMIT)
    epochs = [limit.sent() for _ in range(40)]
    for epoch in epochs:
        limit.throttled(epoch)
    assert (limit.limit, limit.in_flight) == (34, 0)
    limit.throttled(limit.sent())
    assert limit.limit == 28
    limit.throttled(limit.sent())
    assert limit.limit == 1  # no more than one was in flight in this epoch


def test_a_cut_is_taken_from_what_was_in_flight_and_stops_at_the_least():
    limit = ConcurrencyLimit(40, 6, MAX_LIMIT)
    epochs = [limit.sent() for _ in range(20)]
    limit.throttled(epochs[0])
    assert limit.limit == 17
    limit.throttled(limit.sent())
    for _ in range(20):
        limit.throttled(limit.sent())
    assert limit.limit == 6


def test_successes_of_an_earlier_epoch_grow_nothing():
    limit = ConcurrencyLimit(8, 1, MAX_LIMIT)
    epochs = [limit.sent() for _ in range(8)]
    limit.throttled(epochs.pop())
    for epoch in epochs:
        limit.succeeded(epoch, 1.0, 1.0)
    assert limit.limit == 6


def test_the_wall_is_approached_kept_below_and_then_probed_in_growing_steps():
    hand = Hand(100)
    assert hand.refuse() == 85
    limits = hand.changes(4000)
    assert limits[:11] == [85, 92, 96, 98, 99, 100, 102, 106, 114, 130, 162]
    assert hand.limit.limit == MAX_LIMIT


def test_just_below_the_wall_the_limit_stays_for_several_rounds():
    hand = Hand(20)
    hand.refuse()
    while hand.limit.limit < 19:
        hand.reply()
    rounds = 0
    while hand.limit.limit == 19:
        hand.reply()
        rounds += 1 / 19
    assert 4 <= rounds <= 10


def test_after_a_storm_what_worked_is_back_in_ten_rounds():
    hand = Hand(MAX_LIMIT)
    while hand.limit.limit > 1:
        hand.refuse()
    limits = [hand.round() for _ in range(10)]
    assert all(after <= 2 * before for before, after in itertools.pairwise([1, *limits]))
    assert limits[-1] >= 0.8 * MAX_LIMIT


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_refusals_that_come_whatever_the_limit_do_not_hold_it_down(share):
    rng = random.Random(0)
    hand = Hand(16)
    limits = []
    for _ in range(20_000):
        hand.fill()
        hand.now += 1.0 / len(hand.open)
        epoch = hand.open.popleft()
        if rng.random() < share:
            hand.limit.throttled(epoch)
        else:
            hand.limit.succeeded(epoch, 1.0, hand.now)
        limits.append(hand.limit.limit)
    assert mean(limits[10_000:]) >= 0.5 * MAX_LIMIT
    # Once nothing is refused any more, the next refusals count again.
    hand.changes(4000)
    hand.fill()
    for _ in range(10):
        hand.limit.throttled(hand.open.pop())
    assert hand.limit.limit < MAX_LIMIT


def test_a_limit_that_only_lengthens_the_replies_is_taken_back():
    hand = Hand(64)
    hand.changes(3 * 64)
    assert hand.limit.limit == 128
    for _ in range(3):
        hand.round(latency_s=2.0)  # twice as long at twice the limit: the same rate
    assert 64 <= hand.limit.limit <= 96


def test_longer_replies_alone_are_no_queue():
    hand = Hand(64)
    hand.changes(3 * 64)
    for _ in range(3):
        hand.round(latency_s=1.2)
    assert hand.limit.limit == MAX_LIMIT


outcomes = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "succeed", "succeed", "refuse", "end"]),
        st.integers(0, 10**6),
        st.floats(0.0, 100.0),
    ),
    max_size=400,
)


@given(outcomes, st.integers(1, 6), st.integers(0, 6), st.integers(0, 60))
def test_any_calls_keep_the_bounds_and_cut_an_epoch_once(calls, least, above, more):
    start, most = least + above, least + above + more
    limit = ConcurrencyLimit(start, least, most)
    open_epochs: list[int] = []
    cut_epochs: list[int] = []
    now = 0.0
    for kind, pick, seconds in calls:
        before = limit.limit
        if kind == "send":
            open_epochs.append(limit.sent())
        elif open_epochs:
            epoch = open_epochs.pop(pick % len(open_epochs))
            now += seconds
            if kind == "succeed":
                limit.succeeded(epoch, seconds, now)
            elif kind == "refuse":
                limit.throttled(epoch)
            else:
                limit.ended(epoch)
            if limit.limit < before:
                cut_epochs.append(epoch)
        assert least <= limit.limit <= most
        assert limit.in_flight == len(open_epochs)
    assert len(cut_epochs) == len(set(cut_epochs))
    if least == most:
        assert limit.limit == start


# --- the simulator ------------------------------------------------------------------------------

Draw = Callable[[random.Random], float]


def lognormal(median_s: float, sigma: float) -> Draw:
    return lambda rng: median_s * math.exp(rng.gauss(0, sigma))


def long_tail(rng: random.Random) -> float:
    """300 ms, and 10 s for one reply in twenty."""
    return 10.0 if rng.random() < 0.05 else rng.uniform(0.25, 0.35)


class Scaling:
    """Takes everything; a reply takes as long under any load."""

    def __init__(self, latency: Draw):
        self.latency = latency

    def arrive(self, now: float, rng: random.Random) -> float | None:
        return self.latency(rng)


class Capped:
    """At most `cap(now)` in flight; more are refused."""

    def __init__(self, cap: Callable[[float], int], latency: Draw):
        self.cap, self.latency = cap, latency
        self.ends: list[float] = []

    def arrive(self, now, rng):
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
        if len(self.ends) >= self.cap(now):
            return None
        latency = self.latency(rng)
        heapq.heappush(self.ends, now + latency)
        return latency


class Bucket:
    """A bucket of tokens; with `counts`, a refused request takes what is left."""

    def __init__(self, rpm: float, burst: float, latency: Draw, counts: bool):
        self.rate, self.burst, self.latency, self.counts = rpm / 60, burst, latency, counts
        self.tokens, self.at = burst, 0.0

    def arrive(self, now, rng):
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return self.latency(rng)
        if self.counts:
            self.tokens = max(0.0, self.tokens - 1)
        return None


class Slots:
    """Never refuses: `slots` requests run at a time, the others queue."""

    def __init__(self, slots: int, latency: Draw):
        self.free = [0.0] * slots
        self.latency = latency

    def arrive(self, now, rng):
        end = max(now, self.free[0]) + self.latency(rng)
        heapq.heapreplace(self.free, end)
        return end - now


class Batch:
    """Never refuses: a reply takes longer in proportion to what is in flight beyond `width`."""

    def __init__(self, width: int, latency: Draw):
        self.width, self.latency = width, latency
        self.ends: list[float] = []

    def arrive(self, now, rng):
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
        latency = self.latency(rng) * max(1.0, (len(self.ends) + 1) / self.width)
        heapq.heappush(self.ends, now + latency)
        return latency


@dataclass
class Run:
    sends: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    successes: list[float] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)  # at each change
    worst_excess: int = 0  # of requests in flight over the limit, at a send

    def rate(self, since: float, until: float) -> float:
        return sum(since <= at < until for at in self.successes) / (until - since)

    def refused_share(self, since: float, until: float) -> float:
        sends = sum(since <= at < until for at in self.sends)
        return sum(since <= at < until for at in self.refusals) / max(1, sends)

    def limits_in(self, since: float, until: float) -> list[int]:
        before = [limit for at, limit in self.limits if at <= since]
        return before[-1:] + [limit for at, limit in self.limits if since < at < until]

    def mean_limit(self, since: float, until: float) -> float:
        total, marks = 0.0, [*self.limits, (until, 0)]
        for (at, limit), (end, _) in itertools.pairwise(marks):
            total += limit * max(0.0, min(end, until) - max(at, since))
        return total / (until - since)


def simulate(
    server, until: float, seed: int, retry_after: float = 0.0, down: tuple[float, float] = (0, 0)
) -> Run:
    """320 workers of the pool against a server; within `down`, a span, all is refused."""
    rng = random.Random(seed)
    limit = ConcurrencyLimit(START, 1, MAX_LIMIT)
    run = Run(limits=[(0.0, START)])
    ready = deque([0] * WORKERS)  # how often each waiting request was refused
    events: list[tuple[float, int, str, int, int, float]] = []
    order = itertools.count()
    now = 0.0
    while now < until:
        while ready and has_room(limit):
            refusals = ready.popleft()
            epoch = limit.sent()
            run.sends.append(now)
            run.worst_excess = max(run.worst_excess, limit.in_flight - limit.limit)
            latency = None if down[0] <= now < down[1] else server.arrive(now, rng)
            kind = "refused" if latency is None else "reply"
            takes = rng.uniform(0.05, 0.15) if latency is None else latency
            heapq.heappush(events, (now + takes, next(order), kind, epoch, refusals, takes))
        now, _, kind, epoch, refusals, latency = heapq.heappop(events)
        if kind == "reply":
            limit.succeeded(epoch, latency, now)
            run.successes.append(now)
            ready.append(0)
        elif kind == "refused":
            limit.throttled(epoch)
            run.refusals.append(now)
            wait = min(60.0, retry_after) + rng.uniform(0, min(60.0, 2 * 2.0**refusals))
            heapq.heappush(events, (now + wait, next(order), "again", 0, refusals + 1, 0.0))
        else:
            ready.appendleft(refusals)  # before those never sent
        if limit.limit != run.limits[-1][1]:
            run.limits.append((now, limit.limit))
    return run


# --- whole runs ---------------------------------------------------------------------------------

SEEDS = range(4)


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def mean_latency(median_s: float, sigma: float) -> float:
    return median_s * math.exp(sigma**2 / 2)


def constant(cap: int) -> Callable[[float], int]:
    return lambda now: cap


@pytest.mark.parametrize(("median_s", "until"), [(7.0, 1200.0), (0.3, 180.0)])
def test_a_cap_on_requests_in_flight_is_found(median_s, until):
    for seed in SEEDS:
        run = simulate(Capped(constant(50), lognormal(median_s, 0.5)), until, seed)
        assert run.rate(120, until) >= 0.9 * 50 / mean_latency(median_s, 0.5)
        assert run.refused_share(120, until) < 0.02


# Replies whose latency varies more (sigma 1) make bursts that a second's worth of tokens cannot
# take: a limit of requests in flight then gets 80 to 85 % of the rate. And where refused requests
# take tokens too, replies of 0.3 s need a limit of 3, which one step either way misses by a third.
@pytest.mark.parametrize(
    ("median_s", "counts", "share", "throttled"),
    [
        (0.3, False, 0.9, 0.02),
        (2.0, False, 0.9, 0.02),
        (2.0, True, 0.9, 0.02),
        (0.3, True, 0.75, 0.06),
    ],
)
def test_a_rate_of_requests_is_found(median_s, counts, share, throttled):
    runs = [simulate(Bucket(600, 10, lognormal(median_s, 0.5), counts), 720, s) for s in SEEDS]
    assert mean(run.rate(120, 720) / 10 for run in runs) >= share
    assert max(run.refused_share(120, 720) for run in runs) < throttled


@pytest.mark.parametrize(("median_s", "phase"), [(7.0, 900.0), (0.3, 90.0)])
def test_a_cap_that_changes_is_followed_both_ways(median_s, phase):
    def cap(now: float) -> int:
        return 6 if phase <= now < 2 * phase else 50

    for seed in SEEDS:
        run = simulate(Capped(cap, lognormal(median_s, 0.5)), 3 * phase, seed)
        for end, allowed in ((phase, 50), (2 * phase, 6), (3 * phase, 50)):
            possible = allowed / mean_latency(median_s, 0.5)
            assert run.rate(end - phase / 2, end) >= 0.85 * possible
            assert run.refused_share(end - phase / 2, end) < 0.02


@pytest.mark.parametrize("retry_after", [0.0, 2.0, 89.0])
def test_a_storm_is_followed_by_no_stampede(retry_after):
    for seed in SEEDS:
        server = Capped(constant(200), lognormal(2.0, 0.5))
        run = simulate(server, 300, seed, retry_after, down=(90, 120))
        assert run.worst_excess == 0
        assert min(run.limits_in(90, 120)) == 1
        assert max(run.limits_in(120, 121)) <= 4
        assert run.refused_share(120, 300) < 0.02
        # A round lasts about a latency; with Retry-After the workers sleep a minute more.
        assert max(run.limits_in(120, 120 + min(60, retry_after) + 30)) >= 0.8 * 190


@pytest.mark.parametrize("latency", [lognormal(2.0, 1.0), lognormal(0.3, 1.0), long_tail])
def test_a_server_that_scales_is_given_the_most(latency):
    for seed in SEEDS:
        run = simulate(Scaling(latency), 60, seed)
        assert min(run.limits_in(30, 60)) >= 0.95 * MAX_LIMIT


@pytest.mark.parametrize("server", [Slots, Batch])
@pytest.mark.parametrize(("median_s", "sigma"), [(2.0, 0.3), (7.0, 0.5)])
def test_a_server_that_queues_is_not_overfilled(server, median_s, sigma):
    until = 200 * median_s
    for seed in SEEDS:
        run = simulate(server(64, lognormal(median_s, sigma)), until, seed)
        limits = run.limits_in(until / 4, until)
        assert min(limits) >= 50
        assert max(limits) <= 140
        assert run.mean_limit(until / 4, until) <= 110
        assert run.rate(until / 4, until) >= 0.95 * 64 / mean_latency(median_s, sigma)
