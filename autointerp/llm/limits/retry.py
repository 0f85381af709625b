"""The retry policy that the pool gives tenacity: which failures, and after how long."""

from collections.abc import Callable

import tenacity
from tenacity.stop import stop_base

from autointerp.llm.wire.call_errors import Decision

FIRST_BACKOFF_S = 2.0
MAX_BACKOFF_S = 60.0
_MAX_DOUBLINGS = 10  # one request may be throttled without end


class Failed(Exception):
    """Carries the decision on a failed call through tenacity."""

    def __init__(self, decision: Decision, *, nothing_billed: bool = False) -> None:
        super().__init__(decision.message)
        self.decision = decision
        self.nothing_billed = nothing_billed


def decision_of(state: tenacity.RetryCallState) -> Decision:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, Failed)
    return error.decision


def retryable(error: BaseException) -> bool:
    return isinstance(error, Failed) and error.decision.action == "retry"


def backoff_s(decision: Decision, failures: int, draw: float) -> float:
    """Full jitter over a doubling bound, on top of what the server asked for."""
    doublings = min(max(0, failures - 1), _MAX_DOUBLINGS)
    bound: float = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2**doublings)
    asked = min(decision.retry_after_s or 0.0, MAX_BACKOFF_S)
    return asked + draw * bound


class StopAfterCounted(stop_base):
    """Stop after so many failures that count, or after so long.

    Throttling does not count, since it says nothing about the request. It
    is bounded by the time since anything has succeeded, as `stuck_s` tells it for a request that
    has been tried for so many seconds; it does not count time in which nothing was sent at all.
    """

    def __init__(self, attempts: int, longest_s: float, stuck_s: Callable[[float], float]) -> None:
        self._attempts, self._longest_s, self._stuck_s = attempts, longest_s, stuck_s
        self._counted = 0

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        self._counted += decision_of(state).counted
        tried_s = state.seconds_since_start or 0.0
        return self._counted >= self._attempts or self._stuck_s(tried_s) >= self._longest_s
