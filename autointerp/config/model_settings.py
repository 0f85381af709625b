"""The model that labels and judges: where it is, how it is asked, what it costs."""

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import field_validator

from autointerp.config.section import Section, names_in, setting

LOCAL_MODEL = "Qwen/Qwen3-4B-Instruct-2507"
_MOST_CONCURRENT = 256
# Parameters of a request on which reading its reply, or its worst cost, depends.
_OURS = ("model", "messages", "stream", "n", "best_of")


class ModelSettings(Section):
    SECTION: ClassVar[str] = "model"

    model: str | None = setting(None, "The model that labels and judges, as the endpoint names it.")
    local_model: str | None = setting(
        None,
        "The model on this machine (extra local): a folder, a Hugging Face id, a .gguf file, or "
        f"owner/repository/file.gguf (default with labeler or judge local: {LOCAL_MODEL}). It "
        "needs no key and no server.",
        min_length=1,
    )
    base_url: str = setting(
        "https://api.openai.com/v1",
        "An OpenAI-compatible endpoint, or several of one model with commas, which share the "
        "requests; the first names them all in the journal.",
    )
    api_key_env: str = setting(
        "OPENAI_API_KEY",
        "The environment variable that holds the key; one for each endpoint, with commas, where "
        "they differ. A server on this machine needs none.",
        min_length=1,
    )
    temperature: float = setting(0.0, "Sampling temperature.", ge=0, le=2)
    concurrency: int = setting(
        16,
        "Requests in flight at each endpoint at the start. It grows while replies are clean and "
        "shrinks when the endpoint refuses. A local model takes at most so many at once (default: "
        "64 on a GPU, else 8; 4 for llama.cpp).",
        ge=1,
    )
    min_concurrency: int = setting(1, "It never shrinks below this.", ge=1)
    max_concurrency: int | None = setting(
        None,
        f"It never grows beyond this (default: {_MOST_CONCURRENT}, or concurrency where that is "
        "more).",
        ge=1,
    )
    requests_per_minute: float | None = setting(
        None,
        "At most so many requests a minute (default: what the endpoint's headers say).",
        gt=0,
    )
    tokens_per_minute: float | None = setting(
        None,
        "At most so many tokens a minute, the bound on replies included (default: likewise).",
        gt=0,
    )
    max_attempts: int = setting(
        6, "Tries of one request before it is given up; refusals (429) do not count.", ge=1
    )
    timeout: float = setting(
        120.0,
        "Seconds of silence until a request is given up; one whose reply keeps coming, if only in "
        "blank lines, may take five times as long. After Ctrl-C what is in flight has so long.",
        gt=0,
    )
    transport: Literal["httpx", "aiohttp"] = setting(
        "httpx",
        "aiohttp is faster, for servers of your own; what it says of broken connections is less "
        "exact.",
    )
    follow_redirects: bool = setting(
        False,
        "Send prompts on, without the key, to another host that the endpoint redirects to.",
    )
    response_format: Literal["auto", "json_schema", "json_object", "none"] = setting(
        "auto",
        "How a reply's form is asked for. auto: as the endpoint is known to take it; what it "
        "refuses is given up by itself.",
    )
    thinking: Literal["off", "default"] = setting(
        "off", "off: ask models that think before they answer not to; default: as it is."
    )
    extra_body: str | None = setting(None, "A JSON object of parameters to put into every request.")
    budget: float | None = setting(
        None,
        "Dollars that the run may cost in all, over all its calls; what it cannot afford is "
        "over_budget. The model's price must be known.",
        gt=0,
    )
    prices: str | None = setting(
        None, "A TOML file of prices, for models that have none here.", min_length=1
    )
    input_price: float | None = setting(
        None, "Dollars per million prompt tokens (known models have a price).", ge=0
    )
    cached_input_price: float | None = setting(
        None, "Of those the endpoint had cached (default: input_price).", ge=0
    )
    output_price: float | None = setting(None, "Dollars per million completion tokens.", ge=0)
    tokenizer: str | None = setting(
        None,
        "The labeling model's tokenizer, to count tokens in estimates: a folder or an id (default: "
        "the model's, where it is on this machine).",
        min_length=1,
    )
    batch: bool = setting(
        False,
        "Send requests through the endpoint's batch API: half the price, up to a day's wait. What "
        "no batch answers is asked online.",
    )

    @field_validator("base_url")
    @classmethod
    def _are_urls(cls, value: str) -> str:
        for url in names_in(value):
            # Before it is quoted in an error, and whether or not it is an address.
            if "@" in url.rpartition("://")[2].partition("/")[0] or "?" in url or "#" in url:
                raise ValueError(
                    "a key does not belong in base_url: name the variable that holds it with "
                    "api_key_env"
                )
            try:
                parts = urlsplit(url)
                # The port and the host are checked as they are read.
                host, _ = (parts.hostname or "").encode("idna"), parts.port
                is_url = parts.scheme in ("http", "https") and bool(host)
                is_url &= url.isprintable() and " " not in url
            except ValueError:
                is_url = False
            if not is_url:
                raise ValueError(f"{url!r} is not a valid http or https address")
        return value

    @field_validator("extra_body")
    @classmethod
    def _is_object(cls, value: str | None) -> str | None:
        try:
            parameters = json.loads(value or "{}")
        except ValueError:
            parameters = None
        if not isinstance(parameters, dict):
            raise ValueError(f"{value!r} is no JSON object")
        for name in _OURS:
            if name in parameters:
                raise ValueError(f"{name!r} is set by autointerp itself")
        return value

    def base_urls(self) -> list[str]:
        """The endpoints, without the slash that some end in."""
        return [url.rstrip("/") for url in names_in(self.base_url)]

    def key_variables(self) -> list[str]:
        return names_in(self.api_key_env)

    def most_concurrent(self) -> int:
        return self.max_concurrency or max(_MOST_CONCURRENT, self.concurrency)

    def start_concurrency(self) -> int:
        return min(max(self.concurrency, self.min_concurrency), self.most_concurrent())

    def extra_parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = json.loads(self.extra_body or "{}")
        return parameters

    def local_model_name(self) -> str:
        return self.local_model or LOCAL_MODEL

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if (self.input_price is None) != (self.output_price is None):
            yield "give both input_price and output_price, or neither"
        if self.cached_input_price is not None and self.input_price is None:
            yield "cached_input_price needs input_price and output_price"
        if self.min_concurrency > self.most_concurrent():
            yield (
                f"min_concurrency ({self.min_concurrency}) is more than max_concurrency "
                f"({self.most_concurrent()})"
            )
        if len(self.key_variables()) not in (1, len(self.base_urls())):
            yield (
                f"api_key_env names {len(self.key_variables())} variables for "
                f"{len(self.base_urls())} endpoints: one for all, or one for each"
            )
        if self.batch and len(self.base_urls()) > 1:
            yield "batch goes to one endpoint: name one base_url"
