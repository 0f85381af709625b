"""Each thing the load server does, as it looks on the wire, and what it counts."""

import asyncio
import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autointerp.prompting.prompts import load_prompt
from tests.support.load_server import Behavior, ServerState, load_server

_PROMPTS = Path(__file__).parents[2] / "prompts"
PATIENCE_S = 60
_CHAT = "/v1/chat/completions"
_REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHOST: x\r\ncontent-LENGTH: %d\r\n\r\n%b"


def _body(text="hi", model="test-model"):
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()


def _port(server):
    return int(server.url.removesuffix("/v1").rpartition(":")[2])


def _http(server):
    return http.client.HTTPConnection("127.0.0.1", _port(server), timeout=PATIENCE_S)


def _raw(server, sent=None, timeout=PATIENCE_S):
    """Send one request, or the given bytes, and read till the server closes or the time is over."""
    with socket.create_connection(("127.0.0.1", _port(server)), timeout=timeout) as connection:
        connection.sendall(_REQUEST % (len(_body()), _body()) if sent is None else sent)
        got, ends = b"", time.monotonic() + timeout
        try:
            while piece := connection.recv(65536):
                got += piece
                connection.settimeout(max(0.001, ends - time.monotonic()))
        except TimeoutError:
            return got, "open"
        return got, "closed"


def _ask(connection, body):
    connection.request("POST", _CHAT, body)
    reply = connection.getresponse()
    return reply, reply.read()


def test_good_replies_are_counted_by_body():
    with load_server(Behavior()) as server:
        connection = _http(server)
        text = 'a "quoted"\nline, é and \U0001f600'
        for body in (_body(text, "m"), _body("two"), _body("two"), _body("two")):
            reply, raw = _ask(connection, body)
            assert reply.status == 200
        reply, raw = _ask(connection, _body(text, "m"))
        stats = server.stats()
        connection.request("GET", "/v1/models")
        models = json.load(connection.getresponse())
    completion = json.loads(raw)
    content = f"re: {text}"
    assert completion["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": content},
            "finish_reason": "stop",
        }
    ]
    assert completion["object"] == "chat.completion"
    assert completion["model"] == "m"
    assert completion["id"]
    assert completion["usage"]["prompt_tokens"] == len(_body(text, "m")) // 4
    assert completion["usage"]["completion_tokens"] == len(content) // 4
    assert completion["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert [m["id"] for m in models["data"]] == ["test-model"]
    assert (stats["requests"], stats["served"], stats["distinct"]) == (5, 5, 2)
    assert (stats["served_more_than_once"], stats["most_served"]) == (2, 3)
    assert (stats["refused"], stats["peak_in_flight"], stats["by_fault"]) == (0, 1, {})
    assert stats["cpu_s"] > 0
    assert stats["arrivals"] == sorted(stats["arrivals"])
    assert 0 <= time.monotonic() - stats["arrivals"][0] < 60
    assert stats["refused_at"] == []


def test_a_request_may_come_in_pieces_and_ask_to_close():
    with load_server(Behavior()) as server:
        body = _body("long " * 100_000)
        address = ("127.0.0.1", _port(server))
        with socket.create_connection(address, timeout=PATIENCE_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = _REQUEST % (len(body), body)
            for start, end in ((0, 30), (30, 90), (90, 5000), (5000, None)):
                connection.sendall(request[start:end])
            reply = http.client.HTTPResponse(connection)
            reply.begin()
            assert (
                json.load(reply)["choices"][0]["message"]["content"] == f"re: {'long ' * 100_000}"
            )
        got, end = _raw(server, b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert end == "closed"
        assert b"test-model" in got
        assert _raw(server, b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n")[0].startswith(
            b"HTTP/1.1 404 Not Found"
        )
        assert _ask(_http(server), b"{")[0].status == 400
        assert server.stats()["by_fault"] == {"bad_request": 1}


def _head(got):
    head, _, body = got.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ") for line in lines), body


@pytest.mark.parametrize(
    ("fault", "end"),
    [("dropped", "closed"), ("half", "closed"), ("hang", "open")],
)
def test_replies_that_never_come_in_full(fault, end):
    with load_server(Behavior(**{fault: 1.0})) as server:
        got, ended = _raw(server, timeout=0.2 if end == "open" else PATIENCE_S)
        stats = server.stats()
    assert ended == end
    if fault == "half":
        status, headers, body = _head(got)
        assert status == 200
        assert int(headers["Content-Length"]) // 2 == len(body) > 0
    else:
        assert got == b""
    assert (stats["requests"], stats["served"], stats["distinct"]) == (1, 0, 0)
    assert stats["by_fault"] == {fault: 1}


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("rate_limited", 429),
        ("server_error", 500),
        ("overloaded", 503),
        ("empty", 200),
        ("html", 200),
        ("malformed", 200),
        ("length", 200),
        ("refusal", 200),
    ],
)
def test_spoiled_replies_leave_the_connection_open(fault, status):
    behavior = Behavior(**{fault: 1.0}, retry_after="7")
    with load_server(behavior) as server:
        connection = _http(server)
        for _ in range(2):
            reply, raw = _ask(connection, _body("0123456789"))
        stats = server.stats()
    assert reply.status == status
    assert (stats["requests"], stats["served"], stats["by_fault"]) == (2, 0, {fault: 2})
    refused = 2 if fault == "rate_limited" else 0
    assert stats["refused"] == len(stats["refused_at"]) == refused
    assert reply.getheader("Retry-After") == ("7" if refused else None)
    if status != 200:
        assert json.loads(raw)["error"]["message"]
    elif fault == "empty":
        assert raw == b""
    elif fault == "html":
        assert reply.getheader("Content-Type") == "text/html"
        assert raw.startswith(b"<!DOCTYPE html>")
    else:
        choice = json.loads(raw)["choices"][0]
        assert choice["finish_reason"] == ("length" if fault == "length" else "stop")
        content = choice["message"]["content"]
        assert content == (None if fault == "refusal" else "re: 0123456789"[:7])
        assert bool(choice["message"].get("refusal")) == (fault == "refusal")


def test_blank_lines_come_slowly_before_a_good_reply():
    with load_server(Behavior(blank_lines=1.0)) as server:
        started = time.monotonic()
        connection = _http(server)
        reply, raw = _ask(connection, _body())
        assert 0.28 < time.monotonic() - started < 20
        connection.request("GET", "/stats")  # the connection is still good
        stats = json.load(connection.getresponse())
        sent = _REQUEST.replace(b"HOST: x", b"CONNECTION: Close") % (len(_body()), _body())
        status, headers, wire = _head(_raw(server, sent)[0])
    assert reply.status == status == 200
    assert headers["Transfer-Encoding"] == "chunked"
    assert wire.startswith(b"1\r\n\n\r\n" * 6)
    assert raw.startswith(b"\n" * 6 + b"{")
    assert json.loads(raw)["choices"][0]["message"]["content"] == "re: hi"
    assert (stats["served"], stats["by_fault"]) == (1, {"blank_lines": 1})


def _statuses(behavior, requests):
    with load_server(behavior) as server:
        connection = _http(server)
        return [_ask(connection, _body(str(i)))[0].status for i in range(requests)]


def test_shares_are_kept_and_a_seed_repeats():
    behavior = Behavior(server_error=0.2, overloaded=0.1, rate_limited=0.1, seed=1)
    statuses = _statuses(behavior, 1000)
    assert statuses.count(500) == pytest.approx(200, abs=50)
    assert statuses.count(503) == pytest.approx(100, abs=40)
    assert statuses.count(429) == pytest.approx(100, abs=40)
    assert _statuses(behavior, 100) == statuses[:100]
    with pytest.raises(ValueError, match="more than 1"):
        Behavior(half=0.6, empty=0.5)


def test_the_budget_lets_its_rate_through():
    per_minute, burst, lasting_s = 6000, 100, 0.8
    refused = None
    with load_server(Behavior(requests_per_minute=per_minute, headers=True)) as server:
        connection = _http(server)
        reply, _ = _ask(connection, _body())
        assert reply.getheader("x-ratelimit-limit-requests") == "6000"
        assert reply.getheader("x-ratelimit-remaining-requests") == "99"
        assert reply.getheader("x-ratelimit-reset-requests") == "10ms"
        started = time.monotonic()
        while refused is None or time.monotonic() < started + lasting_s:
            reply, _ = _ask(connection, _body())
            refused = reply if reply.status == 429 else refused
        stats = server.stats()
    lasted = stats["arrivals"][-1] - started
    assert refused.getheader("x-ratelimit-remaining-requests") == "0"
    # A machine that is busy for a second does not use what the bucket would have held more.
    assert burst < stats["served"] <= burst + lasted * per_minute / 60 + 1
    assert stats["refused"] == stats["requests"] - stats["served"]
    assert stats["by_fault"] == {"over_budget": stats["refused"]}


def test_no_more_than_so_many_in_flight():
    behavior = Behavior(latency="fixed", mean_s=1.0, max_in_flight=3)
    with load_server(behavior) as server:
        connections = [_http(server) for _ in range(5)]
        started = time.monotonic()
        for connection in connections:
            connection.request("POST", _CHAT, _body())
        # In whatever order the server reads them, three are let in.
        statuses = sorted(c.getresponse().status for c in connections)
        lasted = time.monotonic() - started
        stats = server.stats()
    assert statuses == [200, 200, 200, 429, 429]
    assert lasted >= 1
    assert stats["peak_in_flight"] == 3
    assert stats["by_fault"] == {"over_in_flight": 2}


def test_a_client_that_leaves_is_not_in_flight_and_not_served():
    behavior = Behavior(latency="fixed", mean_s=0.1, max_in_flight=1)
    with load_server(behavior) as server:
        with socket.create_connection(("127.0.0.1", _port(server))) as connection:
            connection.sendall(_REQUEST % (len(_body()), _body()))
            while server.stats()["requests"] < 1:
                pass
        before_s = time.monotonic()
        while _ask(_http(server), _body())[0].status != 200:
            assert time.monotonic() - before_s < PATIENCE_S
        assert server.stats()["served"] == 1


def latencies_of(behavior, n):
    async def drawn():
        state = ServerState(behavior)
        return [state.latency_s() for _ in range(n)]

    return asyncio.run(drawn())


def test_lognormal_latencies_have_the_mean_and_a_longest():
    behavior = Behavior(latency="lognormal", mean_s=0.2, longest_s=0.4, sigma=0.5)
    drawn = latencies_of(behavior, 2000)
    assert sum(drawn) / len(drawn) == pytest.approx(0.2, rel=0.1)  # 0.4 is 1.5 sigma away
    assert 0 < min(drawn) < 0.1
    assert max(drawn) == 0.4


def test_requests_are_answered_beside_each_other_each_after_its_latency():
    behavior = Behavior(latency="lognormal", mean_s=0.2, longest_s=0.4, sigma=0.5)
    taken = []
    with load_server(behavior) as server, selectors.DefaultSelector() as selector:
        for _ in range(100):
            connection = _http(server)
            connection.connect()
            selector.register(connection.sock, selectors.EVENT_READ, (connection, time.monotonic()))
            connection.request("POST", _CHAT, _body())
        while selector.get_map():
            for key, _ in selector.select(timeout=PATIENCE_S):
                connection, sent_at = key.data
                taken.append(time.monotonic() - sent_at)
                selector.unregister(key.fileobj)
                assert connection.getresponse().status == 200
        stats = server.stats()
    least = sorted(latencies_of(behavior, 100))
    assert all(took >= drawn for took, drawn in zip(sorted(taken), least, strict=True))
    assert stats["served"] == 100
    assert stats["peak_in_flight"] > 1


def test_a_storm_refuses_everything():
    with load_server(Behavior(storm_s=(0.05, 1.0))) as server:
        connection = _http(server)
        statuses, first = [], time.monotonic()
        while 429 not in statuses or statuses[-1] != 200:  # until it is over
            statuses.append(_ask(connection, _body())[0].status)
            assert time.monotonic() - first < PATIENCE_S
        last = time.monotonic()
        stats = server.stats()
    assert set(statuses) == {200, 429}
    assert stats["by_fault"] == {"storm": statuses.count(429)}
    assert first + 0.05 <= stats["refused_at"][0]
    assert stats["refused_at"][-1] <= last
    assert stats["refused_at"][-1] - stats["refused_at"][0] <= 0.95


def shout(request):
    print("a responder may print")
    return request["messages"][-1]["content"].upper()


def test_another_function_may_answer():
    with load_server(Behavior(respond=f"{__name__}:shout")) as server:
        _, raw = _ask(_http(server), _body("hi"))
    assert json.loads(raw)["choices"][0]["message"]["content"] == "HI"


def test_labels_answers_the_prompts():
    windows = [{"number": 1, "text": "a <<cat>> sat", "peak": "'cat'", "strength": 10}]
    feature = {"number": 1, "density_percent": "1", "top_tokens": ["'cat'"], "windows": windows}
    none = ("near_misses", "negatives", "raised_tokens", "lowered_tokens")
    feature |= {name: [] for name in none}
    marks = {"open_mark": "<<", "close_mark": ">>", "numbers": False, "most_meanings": 1}
    cases = {
        "label": (
            {"features": [feature]} | marks,
            {"labels": [{"n": 1, "label": "cat", "reason": "marked", "confidence": 0.9}]},
        ),
        "detection": (
            {"label": "cat", "form": "lists", "windows": [{"number": 1, "text": "a cat"}]},
            {"match": [1], "no_match": []},
        ),
        "simulation": (
            {"label": "cat", "windows": [{"number": 1, "length": 2, "tokens": '["a", " cat"]'}]},
            {"windows": [{"w": 1, "activations": [0, 8]}]},
        ),
    }
    with load_server(Behavior(respond="labels")) as server:
        connection = _http(server)
        for name, (variables, expected) in cases.items():
            messages = load_prompt(name, _PROMPTS).messages(**variables)
            body = json.dumps({"model": "test-model", "messages": messages}).encode()
            _, raw = _ask(connection, body)
            assert json.loads(json.loads(raw)["choices"][0]["message"]["content"]) == expected


def test_it_ends_with_its_process():
    code = (
        "import time; from tests.support.load_server import *\n"
        "with load_server(Behavior()) as s: print(s.url, flush=True); time.sleep(60)"
    )
    root = str(Path(__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE) as parent:
        url = parent.stdout.readline().decode().strip()
        os.kill(parent.pid, signal.SIGKILL)
    address = ("127.0.0.1", int(url.removesuffix("/v1").rpartition(":")[2]))
    for _ in range(100):
        try:
            socket.create_connection(address, timeout=1).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass  # it was closing at that moment
        time.sleep(0.02)
    pytest.fail("the server outlived its process")
