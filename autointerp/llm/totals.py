"""What a pool has done so far."""

from dataclasses import dataclass

from autointerp.llm.wire.reply import Usage


@dataclass(slots=True)
class PoolTotals:
    """Counters that a progress display may read at any time."""

    requests: int = 0  # replies received over the network and read
    from_journal: int = 0
    unreadable: int = 0  # replies received and paid for that could not be read
    unread: int = 0  # replies in which nothing was found of what was asked
    retries: int = 0
    rate_limited: int = 0
    unconfirmed: int = 0  # sends that may have been paid for without a reply
    failures: int = 0  # requests that were given up
    limit: int = 0  # requests that may be on their way at once, at present
    in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0  # of all replies used, those of earlier runs among them
    spent_usd: float = 0.0  # since the journal was begun, sends in doubt at their worst
    trouble: str = ""  # why the last call failed, until one succeeds

    def add(self, usage: Usage, cost_usd: float) -> None:
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.cached_tokens += usage.cached_tokens
        self.cost_usd += cost_usd
