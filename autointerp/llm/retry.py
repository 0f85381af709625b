"""When a failed call is tried again and after how long: the policy the pool gives tenacity."""

import tenacity
from tenacity.stop import stop_base

from autointerp.llm.errors import Decision

FIRST_BACKOFF_S = 2.0
LONGEST_BACKOFF_S = 60.0


class Failed(Exception):
    """Carries the decision on a failed call through tenacity."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.message)
        self.decision = decision


def decision_of(state: tenacity.RetryCallState) -> Decision:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, Failed)
    return error.decision


def retryable(error: BaseException) -> bool:
    return isinstance(error, Failed) and error.decision.action == "retry"


def backoff_s(decision: Decision, failures: int, draw: float) -> float:
    """Full jitter over a doubling bound, on top of what the server asked for."""
    bound: float = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** max(0, failures - 1))
    asked = min(decision.retry_after_s or 0.0, LONGEST_BACKOFF_S)
    return asked + draw * bound


class StopAfterCounted(stop_base):
    """Stop after so many failures that count: refusals for the sake of a rate limit do not."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        counted: int = getattr(state, "counted_failures", 0)
        counted += decision_of(state).counted
        state.counted_failures = counted  # type: ignore[attr-defined]
        return counted >= self._attempts
