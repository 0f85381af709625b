"""`autointerp serve` as a person starts and ends it."""

import os
import signal
import socket
import sys
import threading

import httpx

from autointerp.serve import server
from autointerp.serve.server import listening


def test_it_says_where_it_is_and_ends_quietly_on_ctrl_c(cli, finished, monkeypatch):
    replies = []

    def heard(port):
        bound = listening(port)
        address = f"http://127.0.0.1:{bound.getsockname()[1]}/"

        def visit():
            try:
                replies.append((address, httpx.get(f"{address}api/run", timeout=60).json()))
            finally:
                os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=visit).start()
        return bound

    monkeypatch.setattr(server, "listening", heard)
    code, said, complained = cli("serve", str(finished.path), "--port", "0")
    ((address, info),) = replies
    assert info["total"] == 14
    assert code in (0, 130)
    assert said.splitlines() == [f"{finished.path} is at {address} (Ctrl-C ends it)"]
    assert complained == ""


def test_a_port_in_use_is_one_line(cli, finished):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, said = cli("serve", str(finished.path), "--port", str(port))
    assert code == 2
    assert said.startswith(f"autointerp: port {port} of 127.0.0.1 cannot be had")
    assert len(said.splitlines()) == 1


def test_no_run_and_no_extra_are_one_line(cli, finished, tmp_path, monkeypatch):
    assert "no run at" in cli("serve", str(tmp_path))[2]
    monkeypatch.setitem(sys.modules, "autointerp.serve.server", None)
    for name in ("duckdb", "fastapi", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)
    for module in [m for m in sys.modules if m.startswith("autointerp.serve")]:
        monkeypatch.delitem(sys.modules, module)
    code, _, said = cli("serve", str(finished.path))
    assert code == 2
    assert "pip install 'autointerp[serve]'" in said
    assert len(said.splitlines()) == 1
