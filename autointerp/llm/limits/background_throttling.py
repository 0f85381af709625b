"""Throttling that does not depend on how many requests are in flight.

Another user of the account, or a router's upstream, may get some requests throttled at any limit.
Cutting the limit for those only costs time, and repeated cuts end at one request at a time. They
are recognized by their share: if it stays the same after the limit has been halved, it is noise.
"""

import math

# The share of throttled requests at half the limit or less is judged, given at least so many
# outcomes and so many throttled. If hardly any are throttled in a long time, there is no noise.
JUDGED_OUTCOMES = 64
MIN_THROTTLED = 4
OUTCOMES_PER_THROTTLED = 50
# If the limit is cut again before it is so many times that at which noise was found, it was not.
TRIED = 4
# Of the share at the higher limit that must remain at half of it: requests throttled for being
# too many are not throttled at all at half the limit.
LEFT_SHARE = 0.5
# A larger share is an outage, to which the answer is to ask less.
MAX_SHARE = 0.3
# Scatter of a count beyond what is expected of it, which is tested after every throttled request.
SIGMAS = 3
REMEMBERED = 512  # outcomes of an epoch, of which the older half counts ever less


class BackgroundThrottling:
    """Estimates `share`, the share of requests throttled at any limit; 0 until it shows."""

    def __init__(self) -> None:
        self.share = 0.0
        self._top = 0  # the highest limit since the last judgment
        self._high, self._low = [0, 0], [0, 0]  # outcomes and throttled above half of it, and below
        self._epoch = [0, 0]
        self._needed = MIN_THROTTLED
        self._learned_at = 0

    def begin_epoch(self, throttled_at: int) -> None:
        """The limit has been taken back from `throttled_at`: what comes of it is counted anew."""
        if self.share and throttled_at < TRIED * self._learned_at:
            # It was for being too much after all: to believe in noise again takes more.
            self.share = 0.0
            self._needed *= 4
        self._epoch = [0, 0]

    def count(self, limit: int, *, throttled: bool, stale: bool) -> bool:
        """Count an outcome at this limit, or a `stale` one of an epoch before, of a higher limit.

        True when the throttling turns out to be noise.
        """
        self._top = max(self._top, limit)
        level = self._high if stale or 2 * limit > self._top else self._low
        level[0] += 1
        level[1] += throttled
        if not stale:
            self._epoch[0] += 1
            self._epoch[1] += throttled
        if self._epoch[0] >= REMEMBERED:
            self._epoch = [n // 2 for n in self._epoch]
        # Of a long good time at the higher limit only the end is to be compared.
        if self._high[0] >= 2 * JUDGED_OUTCOMES:
            self._high = [n // 2 for n in self._high]
        if self.share and self._epoch[0] >= JUDGED_OUTCOMES:
            # Only ever less: if it was for being too much after all, this epoch shows little of it.
            self.share = min(self.share, _at_most(*self._epoch))
            if self._epoch[0] >= REMEMBERED // 2 and not self._epoch[1]:
                self.share = 0.0
        outcomes, count = self._low
        enough = count >= self._needed or outcomes >= OUTCOMES_PER_THROTTLED * self._needed
        return enough and outcomes >= JUDGED_OUTCOMES and self._judge(limit)

    def explains(self) -> bool:
        """Whether no more was throttled in this epoch than noise accounts for."""
        outcomes, count = self._epoch
        expected = self.share * outcomes
        return self.share > 0 and count <= expected + SIGMAS * math.sqrt(expected) + 1

    def _judge(self, limit: int) -> bool:
        high, low = (count / max(1, n) for n, count in (self._high, self._low))
        is_noise = self._low[1] >= self._needed and low <= MAX_SHARE and low >= LEFT_SHARE * high
        if is_noise:
            self.share = _at_most(*self._low)
            self._learned_at = limit
        self._top = limit
        self._high, self._low = [0, 0], [0, 0]
        return is_noise


def _at_most(outcomes: int, throttled: int) -> float:
    """A share that is hardly ever exceeded by the true one (two standard deviations)."""
    return (throttled + 2 * math.sqrt(throttled) + 2) / outcomes
