"""A real server over a copy of a finished run."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from autointerp.config.settings import RunConfig
from autointerp.runs.directory import Run
from autointerp.serve.server import listening, server_of

TOKEN = "the-token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@contextmanager
def serving(run: Run, token: str | None = TOKEN, **own: object) -> Iterator[httpx.Client]:
    """The run behind a real server on the loopback, and a client that keeps to its origin.

    `own` are settings of the person who serves it.
    """
    with listening(0) as bound:
        port = bound.getsockname()[1]
        server = server_of(run, port, RunConfig(**own), token)
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            address = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=address, headers=HEADERS, timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def entrance(client: httpx.Client) -> str:
    """The address that a browser is let in by."""
    return f"{client.base_url}/?token={TOKEN}"


@pytest.fixture
def client(copied, planted) -> Iterator[httpx.Client]:
    with serving(copied, cache=str(planted.cache)) as found:
        yield found
