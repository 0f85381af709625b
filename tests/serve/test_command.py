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
                visited = {
                    n: httpx.get(f"{address}api/run", headers=h, timeout=60) for n, h in sent
                }
                replies.append((address, visited))
            finally:
                os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=visit).start()
        return bound

    monkeypatch.setattr(server, "listening", heard)
    monkeypatch.setattr(server.secrets, "token_urlsafe", lambda _bytes: "drawn")
    sent = [("none", {}), ("token", {"Authorization": "Bearer drawn"})]
    for flags, query in (([], "?token=drawn"), (["--no-token"], "")):
        replies.clear()
        code, said, complained = cli("serve", str(finished.path), "--port", "0", *flags)
        ((address, visited),) = replies
        assert visited["token"].json()["total"] == 14
        assert visited["none"].status_code == (401 if query else 200)
        assert code in (0, 130)
        assert said.splitlines() == [
            f"{finished.path} is served at {address}{query} (Ctrl-C stops it)"
        ]
        assert complained == ""


def test_a_port_in_use_is_one_line(cli, finished):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, said = cli("serve", str(finished.path), "--port", str(port))
    assert code == 2
    assert said.startswith(f"autointerp: port {port} of 127.0.0.1 is not available")
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
