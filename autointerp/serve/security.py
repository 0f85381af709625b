"""Keeps other sites' pages, other accounts and other machines away from the server.

It listens on the loopback alone. A page from elsewhere could still reach it by having its own name
resolve to 127.0.0.1 (DNS rebinding), so the Host header must name this machine; and it could send
forms, so whatever changes something must be JSON and come from our own pages. Other accounts of
this machine reach the loopback too, so that every request needs the token that is in the address
the server prints: from there it goes into a cookie, and programs send it in a header.
"""

import hmac
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autointerp.serve.shapes import Problem, answer

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_READS = ("GET", "HEAD")
_COOKIE = "Path=/; HttpOnly; SameSite=Strict"
_NO_TOKEN = (
    "the token is missing or wrong: open the address that `autointerp serve` "
    "printed, or send the header Authorization: Bearer TOKEN"
)


def _hosts(port: int) -> frozenset[str]:
    """What a Host header may say; browsers leave out the port where it is 80."""
    names = ("127.0.0.1", "localhost", "[::1]")
    return frozenset([f"{name}:{port}" for name in names] + (list(names) if port == 80 else []))


class Guard:
    """Rejects what is not meant for us, and puts security headers on every answer.

    Without a `token` none is asked for.
    """

    def __init__(self, app: ASGIApp, port: int, token: str | None) -> None:
        self._app = app
        self._hosts = _hosts(port)
        self._token = token
        # Cookies of one host are shared by all its ports, where others may be served.
        self._cookie = f"autointerp-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Websockets have no routes; what is left are the server's own start and end.
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        in_address = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        problem = self._problem(scope["method"], Headers(scope=scope), in_address)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._token and problem is None and in_address:
                    headers.append("Set-Cookie", f"{self._cookie}={self._token}; {_COOKIE}")
                if problem is not None and problem[0] == 401:
                    headers.append("WWW-Authenticate", "Bearer")
            await send(message)

        if problem is None:
            await self._app(scope, receive, guarded)
        else:
            status, why = problem
            await answer(Problem(why), status)(scope, receive, guarded)

    def _problem(
        self, method: str, headers: Headers, in_address: list[str]
    ) -> tuple[int, str] | None:
        named = headers.getlist("host")
        if len(named) != 1 or named[0].lower() not in self._hosts:
            return 421, "the Host header names another server"
        if self._token and not _holds([*in_address, *self._sent(headers)], self._token):
            return 401, _NO_TOKEN
        if method in _READS:
            return None
        origins = headers.getlist("origin")
        if origins and (len(origins) > 1 or not self._is_ours(origins[0])):
            return 403, "requests from other sites' pages are rejected"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return 415, "the Content-Type must be application/json"
        return None

    def _sent(self, headers: Headers) -> list[str]:
        """What stands where a token may stand in the headers."""
        found = [
            value
            for header in headers.getlist("cookie")
            for name, _, value in (pair.strip().partition("=") for pair in header.split(";"))
            if name == self._cookie
        ]
        for header in headers.getlist("authorization"):
            scheme, _, value = header.partition(" ")
            if scheme.lower() == "bearer":
                found.append(value.strip())
        return found

    def _is_ours(self, origin: str) -> bool:
        scheme, _, host = origin.lower().partition("://")
        return scheme == "http" and host in self._hosts


def _holds(given: list[str], token: str) -> bool:
    """Whether the token is among them, in a time that says nothing of it."""
    matches = [hmac.compare_digest(one.encode(), token.encode()) for one in given]
    return any(matches)
