"""The HTTP client of one endpoint: raw request bodies in, raw reply bodies out."""

import asyncio
import functools
import importlib
import resource
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import openai

from autointerp.errors import ConfigurationError, MissingPackageError
from autointerp.llm.wire.call_errors import OversizedReply, Redirected, UnreadableReply, read_object
from autointerp.llm.wire.guarded import GuardedAiohttp, GuardedHttpx
from autointerp.llm.wire.request import PATH
from autointerp.secrets import hide, masked, masked_bytes, masked_errors

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
# Endpoints under load send blank lines to keep a connection open: not a failure, up to this.
_MAX_WAITS = 5
_SPARE_CONNECTIONS = 8
_OTHER_FILES = 64  # that a process has open beside its connections
MAX_REPLY_BYTES = 16 * 2**20  # of a reply, decompressed
_MAX_FILE_BYTES = 512 * 2**20  # of a batch's results
_MAX_FILE_S = 3600.0


@functools.cache
def certificates() -> ssl.SSLContext:
    """The trusted certificates, shared by all connections: reading them takes 30 ms."""
    try:
        context: ssl.SSLContext = _make_certificates()
    except OSError as error:
        # ssl.SSLError is one, too.
        reason = error.strerror or str(error)
        raise ConfigurationError(
            f"the certificates named by SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {reason}"
        ) from None
    return context


class RawReply(NamedTuple):
    """A reply of good status: its bytes, and its headers in lower case."""

    raw: bytes
    headers: Mapping[str, str]


class Client(Protocol):
    """Sends chat completions: to an endpoint, or to a model in this process."""

    base_url: str

    async def send(self, body: bytes) -> RawReply:
        """Raises one of CALL_ERRORS for any outcome but a good status."""

    async def close(self) -> None: ...


@dataclass(slots=True)
class _Shard:
    """A client of its own connections."""

    sdk: openai.AsyncOpenAI
    in_flight: int = 0


class ChatClient:
    """Sends requests to one OpenAI-compatible endpoint. It never retries: the pool does.

    Whatever the server says, in replies, headers and errors, has its secrets masked: a server may
    quote the key that it was sent. `timeout_s` is for silence; a reply that keeps coming may take
    five times as long. With `follow_redirects` an endpoint may send requests on to another host,
    without the key.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_s: float,
        max_connections: int,
        transport: Transport = "httpx",
        follow_redirects: bool = False,
    ) -> None:
        self.base_url = base_url
        self._key = api_key
        self._timeout_s = timeout_s
        hide(api_key)
        self._total_s = timeout_s * _MAX_WAITS
        self._transport, self._follow_redirects = transport, follow_redirects
        # httpx looks through all its connections for each request, so it gets them in parts.
        shards = 1 if transport == "aiohttp" else -(-max_connections // _CONNECTIONS_A_SHARD)
        connections = -(-max_connections // shards) + _SPARE_CONNECTIONS
        self._shards = [_Shard(self._sdk(connections, MAX_REPLY_BYTES)) for _ in range(shards)]

    def _sdk(self, connections: int, most_bytes: int) -> openai.AsyncOpenAI:
        make: Any = GuardedAiohttp if self._transport == "aiohttp" else GuardedHttpx
        try:
            http_client = make(
                most_bytes=most_bytes,
                to_other_hosts=self._follow_redirects,
                limits=_Limits(
                    max_connections=connections,
                    max_keepalive_connections=connections,
                    keepalive_expiry=_IDLE_CONNECTION_S,
                ),
                timeout=_Timeout(self._timeout_s, connect=min(_CONNECT_S, self._timeout_s)),
                verify=certificates(),
            )
        except RuntimeError:
            raise MissingPackageError(
                "--transport aiohttp needs an extra package: pip install 'autointerp[aiohttp]'"
            ) from None
        return openai.AsyncOpenAI(
            base_url=self.base_url, api_key=self._key, max_retries=0, http_client=http_client
        )

    @functools.cached_property
    def _batches(self) -> openai.AsyncOpenAI:
        """For batches, whose files are larger than replies."""
        return self._sdk(_SPARE_CONNECTIONS, _MAX_FILE_BYTES)

    async def send(self, body: bytes) -> RawReply:
        """A chat completion.

        Raises one of CALL_ERRORS for any outcome but a good status.
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
        try:
            async with _call(self._total_s):
                response = await call(
                    path,
                    cast_to=_Response,
                    options={"headers": {"Content-Type": content_type}},
                    **sent,
                )
        finally:
            shard.in_flight -= 1
        headers = {name.lower(): masked(value) for name, value in response.headers.items()}
        return RawReply(masked_bytes(response.content), headers)

    async def upload(self, file: Path) -> str:
        """Hand over a file of requests for a batch; its id. Raises as `send` does."""
        async with _call(_MAX_FILE_S):
            files = self._batches.files.with_raw_response
            response = await files.create(file=file, purpose="batch")
        return id_of(read_object(masked_bytes(response.content)))

    async def create_batch(self, file_id: str, name: str, path: str) -> str:
        """Hand in an uploaded file; the batch's id. `name` finds it again among the others."""
        async with _call(self._total_s):
            response = await self._batches.batches.with_raw_response.create(
                input_file_id=file_id,
                endpoint=f"/v1{path}",  # type: ignore[arg-type]
                completion_window="24h",
                metadata={"autointerp": name},
            )
        return masked(id_of(read_object(masked_bytes(response.content))))

    async def batch(self, id: str) -> dict[str, Any]:
        async with _call(self._total_s):
            response = await self._batches.batches.with_raw_response.retrieve(id)
        return read_object(masked_bytes(response.content))

    async def list_batches(self, most: int) -> list[dict[str, Any]]:
        """The newest batches of the account."""
        async with _call(self._total_s):
            response = await self._batches.batches.with_raw_response.list(limit=most)
        listed = read_object(masked_bytes(response.content)).get("data")
        if not isinstance(listed, list):
            raise UnreadableReply("the list of batches has no data")
        return [batch for batch in listed if isinstance(batch, dict)]

    async def file(self, id: str) -> bytes:
        """A file's content."""
        async with _call(_MAX_FILE_S):
            response = await self._batches.files.with_raw_response.content(id)
        return masked_bytes(response.content)

    async def close(self) -> None:
        for shard in self._shards:
            await shard.sdk.close()
        if "_batches" in self.__dict__:
            await self._batches.close()


def id_of(what: Mapping[str, Any]) -> str:
    """Raises UnreadableReply where it has none."""
    id = what.get("id")
    if not isinstance(id, str) or not id:
        raise UnreadableReply("the reply has no id")
    return id


@asynccontextmanager
async def _call(longest_s: float) -> AsyncIterator[None]:
    """Bounds how long a call takes.

    What it raises is among CALL_ERRORS on any transport, and quotes no secret.
    """
    try:
        with masked_errors():
            async with asyncio.timeout(longest_s):
                yield
    except Exception as error:
        # openai 2 makes of whatever `send` raises a connection that failed.
        if isinstance(error.__cause__, OversizedReply | Redirected):
            raise error.__cause__ from None
        # The aiohttp transport lets some of its library's own errors through, and calls a
        # connection that broke after the request was sent one that could not be made.
        own = _aiohttp_error(error)
        # And no library expects all that may stand in a head: a reason that is not text, say.
        if own is None and isinstance(error, ValueError | RecursionError):
            own = error
        if own is None or isinstance(own, TimeoutError):
            raise
        raise openai.APIConnectionError(message=str(own), request=_NO_REQUEST) from own


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
