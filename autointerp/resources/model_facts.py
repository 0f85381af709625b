"""What settings come to for the labeling model: its name, address, keys, price and dialect."""

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from autointerp.config.settings import RunConfig
from autointerp.errors import ConfigurationError
from autointerp.held import is_held
from autointerp.identity import fingerprint
from autointerp.llm.limits.prices import Price, price_of, read_prices
from autointerp.llm.local.local_client import LOCAL
from autointerp.llm.wire.dialect import Dialect, dialect_for
from autointerp.llm.wire.logprobs import PARAMETERS
from autointerp.resources import local_model
from autointerp.secrets import hide

_NO_KEY_NEEDED = {"localhost", "127.0.0.1", "::1"}


def model_name(config: RunConfig) -> str:
    if config.is_local():
        return local_model.model_name(config)
    assert config.model is not None
    return config.model


def address(config: RunConfig) -> str:
    """Where the model is asked, as the journal knows it: the first of several endpoints."""
    return LOCAL if config.is_local() else config.base_urls()[0]


def identity(config: RunConfig) -> str:
    """What decides a reply, apart from the prompt. The first endpoint stands for all of them."""
    return fingerprint(
        model=model_name(config),
        base_url=address(config),
        temperature=config.temperature,
        response_format=config.response_format,
        thinking=config.thinking,
        extra_body=config.extra_parameters(),
    )


def endpoints(config: RunConfig) -> list[tuple[str, str]]:
    """Base URL and key of each; a server on this machine may do without a key.

    A model of this process has neither. Raises AutointerpError where a key, or the model, is
    missing.
    """
    if config.is_local():
        local_model.check(config)
        return [(LOCAL, "")]
    urls, variables = config.base_urls(), config.key_variables()
    found = []
    for url, variable in zip(urls, variables * len(urls), strict=False):
        key = os.environ.get(variable, "").strip()
        hide(key)
        if not key and urlsplit(url).hostname not in _NO_KEY_NEEDED:
            raise ConfigurationError(
                f"no API key for {url}: set the environment variable {variable}, or name another "
                "with --api-key-env"
            )
        found.append((url, key or "none"))
    return found


def dialect(config: RunConfig) -> Dialect:
    found = dialect_for(
        address(config),
        structured=config.response_format,
        think=config.thinking == "default",
        extra=config.extra_parameters(),
    )
    # A function of this process returns text alone.
    is_function = config.is_local() and is_held(config.local_model)
    return replace(found, dropped=(*found.dropped, *PARAMETERS)) if is_function else found


def price(config: RunConfig) -> Price | None:
    """What the settings say, else the user's table, else ours. Raises AutointerpError for a bad
    table.

    A model on this machine costs nothing.
    """
    if config.is_local():
        return Price(0.0, 0.0, 0.0)
    if config.input_price is not None and config.output_price is not None:
        cached = config.cached_input_price
        return Price(
            config.input_price,
            config.input_price if cached is None else cached,
            config.output_price,
        )
    own = read_prices(Path(config.prices)) if config.prices else None
    return price_of(model_name(config), own)


def is_priced(config: RunConfig) -> bool:
    """Whether costs can be known: no model costs nothing, a model needs a price."""
    return not config.uses_model() or price(config) is not None
