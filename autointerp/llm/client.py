"""One endpoint over HTTP: bodies are sent as they are, replies come back as they came."""

import asyncio
import functools
import importlib
import resource
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import openai

from autointerp.errors import UserError
from autointerp.llm.request import PATH
from autointerp.secrets import hide, masked, masked_bytes, masked_errors, masked_value

Transport = Literal["httpx", "aiohttp"]

# openai 2 stands on httpx, openai 3 on httpx2: its own defaults say which, and mixing them fails.
_Limits: Any = type(openai.DEFAULT_CONNECTION_LIMITS)
_Timeout: Any = type(openai.DEFAULT_TIMEOUT)
_FAMILY = _Limits.__module__.partition(".")[0]
_Response: Any = importlib.import_module(_FAMILY).Response
_NO_REQUEST: Any = importlib.import_module(_FAMILY).Request("POST", "http://unknown")
_make_certificates: Any = importlib.import_module(_FAMILY).create_ssl_context

_CONNECT_S = 10.0
_IDLE_CONNECTION_S = 30.0  # servers close idle connections after about a minute
_CONNECTIONS_A_SHARD = 32
# Endpoints under load send blank lines to keep a connection open: that is no failure, up to this.
_LONGEST_WAITS = 5
_SPARE_CONNECTIONS = 8
_OTHER_FILES = 64  # that a process has open beside its connections


@functools.cache
def certificates() -> ssl.SSLContext:
    """Whom to trust. All connections share it: each time it takes 30 ms to read the system's."""
    context: ssl.SSLContext = _make_certificates()
    return context


class RawReply(NamedTuple):
    """A reply of good status: its bytes, and its headers in lower case."""

    raw: bytes
    headers: Mapping[str, str]


@dataclass(slots=True)
class _Shard:
    """A client of its own connections."""

    sdk: openai.AsyncOpenAI
    in_flight: int = 0


class ChatClient:
    """Sends requests to one OpenAI-compatible endpoint. It never retries: the pool does.

    Whatever the server says, in replies, headers and errors, has its secrets masked: a server may
    quote the key that it was sent.
    `timeout_s` is for silence; a reply that keeps coming may take five times as long.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_s: float,
        max_connections: int,
        transport: Transport = "httpx",
    ) -> None:
        self.base_url = base_url
        hide(api_key)
        self._total_s = timeout_s * _LONGEST_WAITS
        # httpx looks through all its connections for each request, so it gets them in parts.
        shards = 1 if transport == "aiohttp" else -(-max_connections // _CONNECTIONS_A_SHARD)
        connections = -(-max_connections // shards) + _SPARE_CONNECTIONS
        limits = _Limits(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_IDLE_CONNECTION_S,
        )
        timeout = _Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s))
        make: Any = functools.partial(openai.DefaultAsyncHttpxClient, verify=certificates())
        if transport == "aiohttp":
            make = openai.DefaultAioHttpClient
        self._shards = []
        for _ in range(shards):
            try:
                http_client = make(limits=limits, timeout=timeout)
            except RuntimeError:
                raise UserError(
                    "transport aiohttp needs a package that is not installed: "
                    "pip install 'autointerp[aiohttp]'"
                ) from None
            sdk = openai.AsyncOpenAI(
                base_url=base_url, api_key=api_key, max_retries=0, http_client=http_client
            )
            self._shards.append(_Shard(sdk))
        self._sdk = self._shards[0].sdk

    async def send(self, body: bytes) -> RawReply:
        """A chat completion.

        Raises openai.APIError for any outcome but a good status, and TimeoutError when the whole
        took too long.
        """
        return await self.request("post", PATH, body)

    async def request(
        self,
        method: Literal["get", "post"],
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> RawReply:
        """Any other call to the endpoint; raises as `send` does."""
        shard = min(self._shards, key=lambda s: s.in_flight)
        call: Any = shard.sdk.get if method == "get" else shard.sdk.post
        shard.in_flight += 1
        sent = {} if body is None else {"content": body}
        with masked_errors():
            try:
                async with asyncio.timeout(self._total_s):
                    response = await call(
                        path,
                        cast_to=_Response,
                        options={"headers": {"Content-Type": content_type}},
                        **sent,
                    )
            except Exception as error:
                # The aiohttp transport lets some of its library's own errors through, and calls a
                # connection that broke after the request was sent one that could not be made.
                own = _aiohttp_error(error)
                if own is None or isinstance(own, TimeoutError):
                    raise
                raise openai.APIConnectionError(message=str(own), request=_NO_REQUEST) from own
            finally:
                shard.in_flight -= 1
        headers = {name.lower(): masked(value) for name, value in response.headers.items()}
        return RawReply(masked_bytes(response.content), headers)

    async def submit_batch(self, file: Path, name: str, path: str) -> str:
        """Hand in a file of requests; the batch's id. `name` finds it again among the others."""
        with masked_errors():
            uploaded = await self._sdk.files.create(file=file, purpose="batch")
            batch = await self._sdk.batches.create(
                input_file_id=uploaded.id,
                endpoint=f"/v1{path}",  # type: ignore[arg-type]
                completion_window="24h",
                metadata={"autointerp": name},
            )
        return masked(batch.id)

    async def batch(self, id: str) -> dict[str, Any]:
        with masked_errors():
            found: dict[str, Any] = masked_value((await self._sdk.batches.retrieve(id)).to_dict())
        return found

    async def list_batches(self, most: int) -> list[dict[str, Any]]:
        """The newest batches of the account."""
        with masked_errors():
            found = (await self._sdk.batches.list(limit=most)).data
        return [masked_value(batch.to_dict()) for batch in found]

    async def file(self, id: str) -> bytes:
        """A file's content."""
        with masked_errors():
            return masked_bytes((await self._sdk.files.content(id)).content)

    async def close(self) -> None:
        for shard in self._shards:
            await shard.sdk.close()


def _aiohttp_error(error: BaseException | None) -> BaseException | None:
    """The error of aiohttp itself that this one stands for, if any."""
    while error is not None and not type(error).__module__.startswith("aiohttp"):
        error = error.__cause__
    return error


def connections_allowed(wanted: int) -> int:
    """How many connections this process may have open, `wanted` at most.

    Asks the system for more where it gives too few.
    """
    needed = wanted + _SPARE_CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - _SPARE_CONNECTIONS - _OTHER_FILES))
