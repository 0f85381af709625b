"""Listening on this machine's loopback until Ctrl-C."""

import secrets
import socket

import uvicorn

from autointerp.config.settings import RunConfig
from autointerp.errors import InputError
from autointerp.plain_text import line_for_person
from autointerp.runs.directory import Run
from autointerp.serve.app import create_app

_LOOPBACK = "127.0.0.1"
_TOKEN_BYTES = 24
_PATIENCE_S = 5  # for requests in flight when the server is stopped


def listening(port: int) -> socket.socket:
    """A socket on the loopback; port 0 takes a free one. Raises AutointerpError."""
    # With the protocol named, asyncio switches Nagle's algorithm off: 40 ms an answer.
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((_LOOPBACK, port))
        found.listen()  # who comes before the server is up waits for it
    except OSError as error:
        found.close()
        raise InputError(
            f"port {port} of {_LOOPBACK} is not available ({error.strerror}): choose "
            "another with --port, 0 for any"
        ) from None
    return found


def server_of(run: Run, port: int, own: RunConfig, token: str | None) -> uvicorn.Server:
    """The server, not running yet. Raises AutointerpError where the run cannot be served."""
    config = uvicorn.Config(
        create_app(run, port, own, token),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_PATIENCE_S,
    )
    return uvicorn.Server(config)


def serve(run: Run, port: int, own: RunConfig, *, with_token: bool) -> None:
    """Serve a run's pages until it is interrupted, which raises KeyboardInterrupt.

    The token, if there is to be one, is new each time.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES) if with_token else None
    with listening(port) as bound:
        port = bound.getsockname()[1]
        server = server_of(run, port, own, token)
        address = f"http://{_LOOPBACK}:{port}/" + (f"?token={token}" if token else "")
        print(line_for_person(f"{run.path} is served at {address} (Ctrl-C stops it)"), flush=True)
        server.run(sockets=[bound])
