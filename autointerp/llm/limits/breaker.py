"""A circuit breaker: while an endpoint is down, one request now and then instead of all of them."""

FIRST_PAUSE_S = 2.0
MAX_PAUSE_S = 60.0


class Breaker:
    """Opens after so many failures in a row; while it is open, requests are let through singly.

    Pauses between them double up to a minute. A pure state machine: times are readings of a
    monotonic clock, in seconds.
    """

    def __init__(self, failures_to_open: int, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._to_open = failures_to_open
        self._first_pause_s = self._pause_s = first_pause_s
        self.failures = 0  # in a row
        self.opened_at: float | None = None
        self.probe_at = 0.0

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None

    def lets_through(self, now: float) -> bool:
        """Whether a request may leave: while open, only when the pause is over."""
        return self.opened_at is None or now >= self.probe_at

    def succeeded(self) -> bool:
        """An answer came: the endpoint is there. True if that closes the circuit."""
        was_open = self.is_open
        self.failures, self.opened_at = 0, None
        self._pause_s = self._first_pause_s
        return was_open

    def failed(self, now: float) -> bool:
        """No reply came, or none of use. True if that opens the circuit."""
        self.failures += 1
        if self.opened_at is not None:
            # What left before it opened, and fails within the pause, says nothing new.
            if now >= self.probe_at:
                self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
                self.probe_at = now + self._pause_s
            return False
        if self.failures < self._to_open:
            return False
        self.opened_at, self.probe_at = now, now + self._pause_s
        return True
