"""HTTP clients with a limit on response sizes, and without redirects to other hosts.

They are the SDK's own, of the library that its version stands on, with another `send`.
"""

from typing import Any

import openai

from autointerp.llm.wire.call_errors import OversizedReply, Redirected

_MAX_REDIRECTS = 5
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HIGHEST_PORT = 65535
# Of the body as it was sent, which differs from the body that was read.
_FRAMING = ("content-encoding", "content-length", "transfer-encoding")


class _Guarded:
    def __init__(self, *, most_bytes: int, to_other_hosts: bool, **more: Any) -> None:
        super().__init__(**more)
        self._most_bytes, self._to_other_hosts = most_bytes, to_other_hosts

    async def send(self, request: Any, *, stream: bool = False, **more: Any) -> Any:
        """The response, read to its end. Raises OversizedReply and Redirected beside the library's.

        Whether it should be streamed is ignored.
        """
        more["follow_redirects"] = False
        for _ in range(_MAX_REDIRECTS + 1):
            response = await super().send(request, stream=True, **more)  # type: ignore[misc]
            try:
                if not response.has_redirect_location:
                    return await self._read(response)
                request = self._redirected(response)
            finally:
                await response.aclose()
        raise Redirected(f"it redirects more than {_MAX_REDIRECTS} times: check the base URL")

    async def _read(self, response: Any) -> Any:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._most_bytes:
                most = self._most_bytes // 2**20
                raise OversizedReply(f"the reply is larger than {most} MB")
            parts.append(part)
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in _FRAMING
        ]
        return type(response)(
            response.status_code, headers=headers, content=b"".join(parts), request=response.request
        )

    def _redirected(self, response: Any) -> Any:
        """The request that follows a redirect. Raises Redirected where it is not to be followed."""
        sent, following = response.request, response.next_request
        url = following.url if following is not None else None
        if url is None or not _is_usable(url):
            raise Redirected("it redirects to an invalid address: check the base URL")
        place = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"
        if not self._to_other_hosts and not _is_same_host(sent.url, url):
            raise Redirected(
                f"it redirects to {place}, another host: use that as the base URL, or "
                "allow it with --follow-redirects"
            )
        if following.method != sent.method:
            # As browsers do it, which leaves the question behind.
            raise Redirected(
                f"it redirects to {place} with status {response.status_code}, which "
                "drops the request: check the base URL"
            )
        return following


def _is_usable(url: Any) -> bool:
    return url.scheme in _DEFAULT_PORTS and bool(url.host) and 0 < _port(url) <= _HIGHEST_PORT


def _is_same_host(one: Any, other: Any) -> bool:
    """The same server, or its own door with TLS."""
    if one.host != other.host:
        return False
    if (one.scheme, _port(one)) == (other.scheme, _port(other)):
        return True
    return (one.scheme, _port(one)) == ("http", 80) and (other.scheme, _port(other)) == (
        "https",
        443,
    )


def _port(url: Any) -> int:
    port: int | None = url.port
    return _DEFAULT_PORTS.get(url.scheme, 0) if port is None else port


class GuardedHttpx(_Guarded, openai.DefaultAsyncHttpxClient):
    pass


class GuardedAiohttp(_Guarded, openai.DefaultAioHttpClient):
    pass
