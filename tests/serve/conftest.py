"""A real server over a copy of a finished run."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from autointerp.runs import Run
from autointerp.serve.server import listening, server_of


@pytest.fixture
def copied(finished, tmp_path) -> Run:
    """A copy that may be written to."""
    shutil.copytree(finished.path, tmp_path / "run")
    return Run(tmp_path / "run")


@contextmanager
def serving(run: Run) -> Iterator[httpx.Client]:
    """The run behind a real server on the loopback, and a client that keeps to its origin."""
    with listening(0) as bound:
        port = bound.getsockname()[1]
        server = server_of(run, port)
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def client(copied) -> Iterator[httpx.Client]:
    with serving(copied) as found:
        yield found
