"""A bound on what a run may cost, kept even if every request costs the most it can."""

from autointerp.llm.limits.prices import Price
from autointerp.llm.wire.reply import Usage, usage_of, was_cut

_GARBLED = 10  # times the most that a request can cost
_TOKENS_A_MESSAGE = 16  # what chat templates put around each message, at most


def worst_usd(price: Price | None, body: bytes, messages: int, max_tokens: int) -> float:
    """The most one request can cost: a token is at least a byte, and replies are bounded."""
    if price is None:
        return 0.0
    prompt = len(body) + _TOKENS_A_MESSAGE * messages
    return price.worst(prompt, max_tokens)


def cost_usd(price: Price | None, raw: bytes, worst: float, *, readable: bool) -> float | None:
    """What a reply cost, by its own account; None where the price is not known.

    `worst` where it has none, though tokens were made, or one that no server would bill.
    """
    if price is None:
        return None
    usage = usage_of(raw)
    if usage == Usage() and (readable or was_cut(raw)):
        return worst
    cost = price.cost(usage)
    return worst if cost > _GARBLED * worst else cost


class Budget:
    """Dollars: `spent` so far, `reserved` for requests in flight, and the limit of both."""

    def __init__(self, limit_usd: float | None, spent_usd: float) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.reserved_usd = 0.0
        self.reservations = 0

    def reserve(self, usd: float) -> bool:
        """Reserve what a request may cost; False if that could exceed the limit."""
        if self.limit_usd is not None and self.spent_usd + self.reserved_usd + usd > self.limit_usd:
            return False
        self.reserved_usd += usd
        self.reservations += 1
        return True

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Release a reservation and book what was spent."""
        self.reservations -= 1
        # Rounding errors of many sums must not hold anything back.
        self.reserved_usd = self.reserved_usd - reserved_usd if self.reservations else 0.0
        self.spent_usd += spent_usd
