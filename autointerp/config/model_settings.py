"""The labeling and judging model: where it is, how it is called, what it costs."""

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import field_validator

from autointerp.config.section import Section, names_in, setting

LOCAL_MODEL = "Qwen/Qwen3-4B-Instruct-2507"
_MAX_CONCURRENCY = 256
# Parameters of a request on which reading its reply, or its worst cost, depends.
_OURS = ("model", "messages", "stream", "n", "best_of")


class ModelSettings(Section):
    SECTION: ClassVar[str] = "model"

    model: str | None = setting(None, "The labeling and judging model, as the endpoint names it.")
    local_model: str | None = setting(
        None,
        "A model on this machine (extra local), without a key or a server: a folder, a Hugging "
        "Face id, a .gguf file, or owner/repository/file.gguf (default of labeler local: "
        f"{LOCAL_MODEL}).",
        min_length=1,
    )
    base_url: str = setting(
        "https://api.openai.com/v1",
        "An OpenAI-compatible endpoint. Several, comma-separated, share the requests for one "
        "model; the journal files their replies under the first.",
    )
    api_key_env: str = setting(
        "OPENAI_API_KEY",
        "The environment variable that holds the API key; comma-separated, one per endpoint, if "
        "keys differ. Servers on this machine need no key.",
        min_length=1,
    )
    temperature: float = setting(0.0, "Sampling temperature.", ge=0, le=2)
    concurrency: int = setting(
        16,
        "Initial number of requests in flight per endpoint; it grows while requests succeed and "
        "shrinks when the endpoint throttles. For a local model, the maximum batch size "
        "(default: 64 on a GPU, else 8; 4 with llama.cpp).",
        ge=1,
    )
    min_concurrency: int = setting(1, "Lower bound of adaptive concurrency.", ge=1)
    max_concurrency: int | None = setting(
        None,
        f"Upper bound of adaptive concurrency (default: {_MAX_CONCURRENCY}, or concurrency if "
        "that is higher).",
        ge=1,
    )
    requests_per_minute: float | None = setting(
        None,
        "Maximum requests per minute (default: the limit in the endpoint's headers).",
        gt=0,
    )
    tokens_per_minute: float | None = setting(
        None,
        "Maximum tokens per minute, counting each reply at its token limit (default: likewise).",
        gt=0,
    )
    max_attempts: int = setting(6, "Attempts per request; throttled ones (429) do not count.", ge=1)
    timeout: float = setting(
        120.0,
        "Seconds without data after which a request is abandoned; one that keeps sending data, "
        "blank lines included, may take five times as long. Ctrl-C waits this long for requests "
        "in flight.",
        gt=0,
    )
    transport: Literal["httpx", "aiohttp"] = setting(
        "httpx",
        "The HTTP library. aiohttp is faster, for servers of your own, but less precise about "
        "broken connections.",
    )
    follow_redirects: bool = setting(
        False,
        "Follow redirects to another host, without sending it the key.",
    )
    response_format: Literal["auto", "json_schema", "json_object", "none"] = setting(
        "auto",
        "How structured replies are requested. auto: by what the endpoint is known to support, "
        "falling back if it rejects that.",
    )
    thinking: Literal["off", "default"] = setting(
        "off", "off: disable reasoning where possible; default: leave it to the endpoint."
    )
    extra_body: str | None = setting(None, "A JSON object of parameters to add to every request.")
    budget: float | None = setting(
        None,
        "Maximum total cost of the run in dollars, including earlier calls; features beyond it "
        "get the status over_budget. Needs a known price.",
        gt=0,
    )
    prices: str | None = setting(
        None, "A TOML file of prices, for models whose price is not known.", min_length=1
    )
    input_price: float | None = setting(
        None, "Dollars per million prompt tokens (default: the known price).", ge=0
    )
    cached_input_price: float | None = setting(
        None, "Dollars per million cached prompt tokens (default: input_price).", ge=0
    )
    output_price: float | None = setting(None, "Dollars per million completion tokens.", ge=0)
    tokenizer: str | None = setting(
        None,
        "The labeling model's tokenizer, used to estimate token counts: a folder or an id "
        "(default: the model's own, if it is on this machine).",
        min_length=1,
    )
    batch: bool = setting(
        False,
        "Use the endpoint's batch API: half the price, results within a day. Requests that a batch "
        "leaves unanswered are sent individually.",
    )

    @field_validator("base_url")
    @classmethod
    def _are_urls(cls, value: str) -> str:
        for url in names_in(value):
            # Before it is quoted in an error, and whether or not it is an address.
            if "@" in url.rpartition("://")[2].partition("/")[0] or "?" in url or "#" in url:
                raise ValueError(
                    "base_url must not contain a key: put the key in an environment variable and "
                    "name it with api_key_env"
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
            raise ValueError(f"{value!r} is not a JSON object")
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
        return self.max_concurrency or max(_MAX_CONCURRENCY, self.concurrency)

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
                f"{len(self.base_urls())} endpoints: give one for all, or one per endpoint"
            )
        if self.batch and len(self.base_urls()) > 1:
            yield "batch works with one endpoint: give one base_url"
