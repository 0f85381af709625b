"""What tokens cost."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from autointerp.llm.reply import Usage


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens."""

    input: float
    cached_input: float
    output: float

    def cost(self, usage: Usage) -> float:
        """Dollars for one reply."""
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (
            fresh * self.input
            + usage.cached_tokens * self.cached_input
            + usage.completion_tokens * self.output
        ) / 1e6


@cache
def _known() -> dict[str, Price]:
    text = resources.files("autointerp.llm").joinpath("prices.toml").read_text()
    return {
        model: Price(row["input"], row.get("cached_input", row["input"]), row["output"])
        for model, row in tomllib.loads(text).items()
    }


def price_of(model: str, input_price: float | None, output_price: float | None) -> Price | None:
    """The given prices, else the table's for `model` or `owner/model`, else None."""
    if input_price is not None and output_price is not None:
        return Price(input_price, input_price, output_price)
    return _known().get(model) or _known().get(model.rpartition("/")[2])
