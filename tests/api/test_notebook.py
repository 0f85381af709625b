"""In a kernel of Jupyter: the notebook of the documentation, and an interrupted cell."""

import itertools
import threading
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_client.manager import KernelManager

from tests.support import scripted
from tests.support.fake_server import FakeServer

NOTEBOOK = Path(__file__).parents[2] / "docs" / "examples" / "notebook.ipynb"


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A running kernel with its manager and a client."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")
    manager = KernelManager()
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def outcome(client, asked: str) -> tuple[str, str]:
    """What a cell printed, and the name of the error that it raised."""
    printed, error = "", ""
    while True:
        message = client.get_iopub_msg(timeout=120)
        if message["parent_header"].get("msg_id") != asked:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            printed += content["text"]
        elif message["msg_type"] == "error":
            error = content["ename"]
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            return printed, error


def test_the_notebook_runs(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [str(cell.get("outputs", "")) for cell in notebook.cells]
    assert "<pre" in shown[1]
    assert "30 of 30 features" in shown[1]
    assert "text/html" in shown[5]
    assert "[10, 10]" in shown[7]
    assert "no run at outputs/no-such-run" in shown[9]


def test_an_interrupted_cell_stops_cleanly(kernel, planted):
    manager, client = kernel
    under_way, asked = threading.Event(), itertools.count(1)

    def answer(request):
        if next(asked) == 3:
            under_way.set()
        return scripted.answer(request)

    with FakeServer(answer) as server:
        cell = f"""
import autointerp as ai
run = ai.run(sae={str(planted.coder)!r}, cache={str(planted.cache)!r}, out="out",
             model="test-model", base_url={server.url!r}, features_per_request=1, concurrency=1,
             max_concurrency=1)
print((run.labels()["status"] == "labeled").sum(), "labeled")
"""
        cell_id = client.execute(cell)
        assert under_way.wait(120)
        manager.interrupt_kernel()
        _, error = outcome(client, cell_id)
        assert error == "KeyboardInterrupt"
        before = len(server.requests)
        printed, error = outcome(client, client.execute(cell))
        assert not error
        assert "12 labeled" in printed
        bodies = [str(request) for request in server.requests]
        assert 3 <= before < len(bodies)
        assert len(set(bodies)) == len(bodies)
