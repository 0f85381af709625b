"""What tokens cost."""

import math
import time
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from autointerp.errors import InputError
from autointerp.llm.wire.reply import Usage

_KEYS = {"input", "cached_input", "output", "peak_factor", "peak_hours_utc"}
_WEEKDAYS = 5
BATCH_SHARE = 0.5  # of the price, where requests go through a batch endpoint


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens; `peak_factor` times that in the peak hours of working days."""

    input: float
    cached_input: float
    output: float
    peak_factor: float = 1.0
    peak_hours_utc: tuple[int, ...] = ()

    def cost(self, usage: Usage, at: float | None = None) -> float:
        """Dollars for one reply, received at a time (seconds since 1970; default: now).

        What the endpoint itself says that it cost goes before the table.
        """
        if usage.cost_usd is not None:
            return usage.cost_usd
        fresh = usage.prompt_tokens - usage.cached_tokens
        base = (
            fresh * self.input
            + usage.cached_tokens * self.cached_input
            + usage.completion_tokens * self.output
        ) / 1e6
        return base * self._factor(time.gmtime(at))

    def worst(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The most that so many tokens can cost."""
        dear = max(self.input, self.cached_input)
        factor = max(1.0, self.peak_factor)
        return factor * (prompt_tokens * dear + completion_tokens * self.output) / 1e6

    def _factor(self, utc: time.struct_time) -> float:
        at_peak = utc.tm_wday < _WEEKDAYS and utc.tm_hour in self.peak_hours_utc
        return self.peak_factor if at_peak else 1.0

    def in_batches(self) -> "Price":
        """The price of requests that go through a batch endpoint."""
        return replace(
            self,
            input=self.input * BATCH_SHARE,
            cached_input=self.cached_input * BATCH_SHARE,
            output=self.output * BATCH_SHARE,
        )


def _price(row: dict[str, Any]) -> Price:
    """Raises ValueError or TypeError that says what is wrong with the row."""
    unknown = set(row) - _KEYS
    if unknown:
        raise ValueError(f"unknown entry {sorted(unknown)[0]!r}")
    if "input" not in row or "output" not in row:
        raise ValueError("input and output are required")
    numbers = {k: float(v) for k, v in row.items() if k != "peak_hours_utc"}
    if not all(math.isfinite(v) and v >= 0 for v in numbers.values()):
        raise ValueError("a price must be a number that is not negative")
    hours = tuple(int(hour) for hour in row.get("peak_hours_utc", ()))
    return Price(
        numbers["input"],
        numbers.get("cached_input", numbers["input"]),
        numbers["output"],
        numbers.get("peak_factor", 1.0),
        hours,
    )


@cache
def _known() -> dict[str, Price]:
    text = resources.files("autointerp.llm.limits").joinpath("prices.toml").read_text()
    return {model: _price(row) for model, row in tomllib.loads(text).items()}


def read_prices(path: Path) -> dict[str, Price]:
    """A user's table, like prices.toml: one section a model. Raises AutointerpError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"prices {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"prices {path} is not TOML: {error}") from None
    prices = {}
    for model, row in tables.items():
        try:
            prices[model] = _price(row)
        except (ValueError, TypeError) as error:
            raise InputError(f"prices {path}, model {model}: {error}") from None
    return prices


def price_of(model: str, own: dict[str, Price] | None = None) -> Price | None:
    """The model's price by the user's own table, else by the one here; `owner/model` is `model`."""
    for table in (own or {}, _known()):
        for name in (model, model.rpartition("/")[2]):
            if name in table:
                return table[name]
    return None
