"""A fast OpenAI-compatible chat endpoint in a process of its own, for benchmarks and soaks.

It is one event loop on raw transports, so that the client under test is what limits the speed.
`python -m tests.support.load_server '{"latency": "fixed"}'` serves by hand until its input is
closed.
"""

import asyncio
import contextlib
import hashlib
import http.client
import importlib
import itertools
import json
import math
import os
import random
import re
import resource
import subprocess
import sys
import time
import urllib.request
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

_ROOT = Path(__file__).parents[2]
_RECENT = 10_000  # arrivals and refusals whose times are kept
_BACKLOG = 4096  # connections that may wait to be accepted: clients open thousands at once
_BLANK_EVERY_S = 0.05
_BLANK_LINES = 6  # 0.3 s of them
_STATS_TIMEOUT_S = 30.0
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_LABELS = "tests.support.scripted:answer"  # what "labels" stands for
_JSON = "Content-Type: application/json\r\n"
_HTML = b"<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"
_MODELS = {"object": "list", "data": [{"id": "test-model", "object": "model"}]}
_REFUSALS = {"storm", "over_in_flight", "over_budget", "rate_limited"}  # all are answered with 429

Respond = Callable[[dict[str, Any]], str]
Share = Annotated[float, "of the requests meets this fault"]


@dataclass(frozen=True)
class Behavior:
    """All that the server does. The shares of faults are probabilities, drawn for each request.

    Refusals (429) and `overloaded` are sent at once; every other reply comes after the latency.
    """

    latency: Literal["none", "fixed", "lognormal"] = "none"
    mean_s: float = 0.3
    sigma: float = 1.0
    longest_s: float = 10.0  # a longer lognormal latency is cut to this
    seed: int = 0

    rate_limited: Share = 0.0  # 429
    server_error: Share = 0.0  # 500
    overloaded: Share = 0.0  # 503
    dropped: Share = 0.0  # closed before any reply
    half: Share = 0.0  # closed after half the body
    hang: Share = 0.0  # never answered
    empty: Share = 0.0  # 200 without a body
    html: Share = 0.0  # 200 with a page
    malformed: Share = 0.0  # a valid completion whose content is cut in the middle
    length: Share = 0.0  # the same, and it says so
    refusal: Share = 0.0
    blank_lines: Share = 0.0  # a good reply after blank lines, as some proxies send to keep alive

    retry_after: str | None = None  # this header of every 429
    requests_per_minute: float | None = None  # 429 beyond, after a burst of one second's worth
    headers: bool = False  # whether the x-ratelimit headers are sent
    max_in_flight: int | None = None  # 429 above
    storm_s: tuple[float, float] | None = None  # from the first request on: all are refused then
    respond: str = "echo"  # "echo", "labels", or "package.module:function"

    def __post_init__(self) -> None:
        if sum(getattr(self, name) for name in _FAULTS) > 1 + 1e-9:
            raise ValueError("the shares of the faults add up to more than 1")


_FAULTS = [f.name for f in fields(Behavior) if f.type == Share]


class LoadServer:
    """A running server: `url` for a client, `stats` for what it has seen."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self._stats = f"http://127.0.0.1:{port}/stats"
        # A proxy named in the environment is not asked.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def stats(self) -> dict[str, Any]:
        """`ServerState.stats`. Times are `time.monotonic`, the same in all processes."""
        with self._opener.open(self._stats, timeout=_STATS_TIMEOUT_S) as reply:
            return json.load(reply)


@contextlib.contextmanager
def load_server(behavior: Behavior) -> Iterator[LoadServer]:
    """Serve from a process of its own; it also ends when this process dies, however it dies."""
    path = [str(_ROOT), *(p for p in sys.path if p)]  # a dotted `respond` is found as it is here
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.load_server", json.dumps(asdict(behavior))],
        stdin=subprocess.PIPE,  # its end tells the server that this process is gone
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        start_new_session=True,  # ctrl-C, or a kill of this process's group, is not for it
    ) as process:
        try:
            port = process.stdout.readline()
            if not port:
                raise RuntimeError("the load server did not start: see standard error")
            yield LoadServer(int(port))
        finally:
            process.terminate()


def echo(request: dict[str, Any]) -> str:
    return f"re: {request['messages'][-1]['content']}"


def _responder(name: str) -> Respond:
    if name == "echo":
        return echo
    module, function = (_LABELS if name == "labels" else name).split(":")
    respond: Respond = getattr(importlib.import_module(module), function)
    return respond


class _Bucket:
    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self._rate_s = per_minute / 60
        self._burst = max(1.0, self._rate_s)
        self._tokens = self._burst
        self._filled_at = time.monotonic()

    def take(self, now: float) -> bool:
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate_s)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def headers(self) -> str:
        full_in_ms = math.ceil(1000 * (self._burst - self._tokens) / self._rate_s)
        return (
            f"x-ratelimit-limit-requests: {self.per_minute:.0f}\r\n"
            f"x-ratelimit-remaining-requests: {int(self._tokens)}\r\n"
            f"x-ratelimit-reset-requests: {full_in_ms}ms\r\n"
        )


class ServerState:
    """What the connections share: the behavior, its random numbers, and the counts."""

    def __init__(self, behavior: Behavior) -> None:
        self.behavior = behavior
        self.respond = _responder(behavior.respond)
        self.loop = asyncio.get_running_loop()
        self.requests = 0
        self.refused = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.by_fault: Counter[str] = Counter()
        self._served: dict[bytes, int] = {}
        self._arrivals: deque[float] = deque(maxlen=_RECENT)
        self._refused_at: deque[float] = deque(maxlen=_RECENT)
        self._first_at: float | None = None
        per_minute = behavior.requests_per_minute
        self._bucket = None if per_minute is None else _Bucket(per_minute)
        self._faults = [name for name in _FAULTS if getattr(behavior, name) > 0]
        self._edges = list(itertools.accumulate(getattr(behavior, f) for f in self._faults))
        # Apart, so that a seed gives the same faults whatever the latency.
        self._fault_rng = random.Random(f"faults {behavior.seed}")
        self._latency_rng = random.Random(f"latency {behavior.seed}")
        self._mu = math.log(behavior.mean_s) - behavior.sigma**2 / 2 if behavior.mean_s else 0.0

    def arrived(self) -> str | None:
        """Count a request, and say why it is refused or which fault it meets."""
        now = time.monotonic()
        self.requests += 1
        self._arrivals.append(now)
        # Drawn for refused ones too: the fault of the n-th request depends on the seed alone.
        drawn = bisect_right(self._edges, self._fault_rng.random())
        fault = self._refusal(now)
        if fault is None and drawn < len(self._faults):
            fault = self._faults[drawn]
        if fault is not None:
            self.by_fault[fault] += 1
            if fault in _REFUSALS:
                self.refused += 1
                self._refused_at.append(now)
        return fault

    def _refusal(self, now: float) -> str | None:
        if self._first_at is None:
            self._first_at = now
        storm, limit = self.behavior.storm_s, self.behavior.max_in_flight
        if storm is not None and storm[0] <= now - self._first_at < storm[1]:
            return "storm"
        if limit is not None and self.in_flight >= limit:
            return "over_in_flight"
        if self._bucket is not None and not self._bucket.take(now):
            return "over_budget"
        return None

    def latency_s(self) -> float:
        match self.behavior.latency:
            case "fixed":
                return self.behavior.mean_s
            case "lognormal":
                drawn = self._latency_rng.lognormvariate(self._mu, self.behavior.sigma)
                return min(drawn, self.behavior.longest_s)
        return 0.0

    def count_served(self, raw: bytes) -> None:
        name = hashlib.blake2b(raw, digest_size=8).digest()
        self._served[name] = self._served.get(name, 0) + 1

    def limit_headers(self) -> str:
        if self._bucket is None or not self.behavior.headers:
            return ""
        return self._bucket.headers()

    def stats(self) -> dict[str, Any]:
        times = self._served.values()
        return {
            "requests": self.requests,
            "served": sum(times),  # replies sent in full with no fault that spoils them
            "distinct": len(times),  # bodies that got one
            "served_more_than_once": sum(n > 1 for n in times),  # bodies that got several
            "most_served": max(times, default=0),
            "refused": self.refused,
            "peak_in_flight": self.peak_in_flight,
            "by_fault": self.by_fault,
            "cpu_s": time.process_time(),
            "arrivals": list(self._arrivals),
            "refused_at": list(self._refused_at),
        }


class _Connection(asyncio.Protocol):
    _transport: asyncio.Transport

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._received = bytearray()
        self._waiting = False  # a request is in flight
        self._timer: asyncio.TimerHandle | None = None
        self._close = False  # asked for by the client

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting:
            self._leave()

    def data_received(self, data: bytes) -> None:
        """Handle a request once all of it is there; the next one comes only after its reply."""
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._received[:head_end])
        length = _CONTENT_LENGTH.search(head)
        end = head_end + 4 + (int(length[1]) if length else 0)
        if len(self._received) < end:
            return
        raw = bytes(self._received[head_end + 4 : end])
        del self._received[:end]
        self._close = _CLOSE.search(head) is not None
        if head.startswith(b"POST /v1/chat/completions "):
            self._complete(raw)
        elif head.startswith(b"GET /v1/models "):
            self._send(200, json.dumps(_MODELS).encode())
        elif head.startswith(b"GET /stats "):
            self._send(200, json.dumps(self._server.stats()).encode())
        else:
            self._send(404, _error("no such route"))

    def _complete(self, raw: bytes) -> None:
        server = self._server
        fault = server.arrived()
        if fault in _REFUSALS:
            wait = server.behavior.retry_after
            retry_after = "" if wait is None else f"Retry-After: {wait}\r\n"
            self._send(429, _error(f"rate limit reached ({fault})"), _JSON + retry_after)
            return
        if fault == "overloaded":
            self._send(503, _error("overloaded"))
            return
        self._waiting = True
        server.in_flight += 1
        server.peak_in_flight = max(server.peak_in_flight, server.in_flight)
        latency_s = server.latency_s()
        if fault == "hang":
            return
        if latency_s > 0:
            self._timer = server.loop.call_later(latency_s, self._answer, raw, fault)
        else:
            self._answer(raw, fault)

    def _leave(self) -> None:
        self._waiting = False
        self._server.in_flight -= 1

    def _answer(self, raw: bytes, fault: str | None) -> None:
        try:
            body = self._completion(raw, fault)
        except Exception as error:
            # 400 is not tried again: a mistake in the request or in `respond` is seen.
            self._server.by_fault["bad_request"] += 1
            self._send(400, _error(f"no answer to this request: {error!r}"))
            self._leave()
            return
        match fault:
            case "blank_lines":
                self._transport.write(self._head(200, _JSON + "Transfer-Encoding: chunked\r\n"))
                self._blank_line(raw, body, _BLANK_LINES)
                return
            case "dropped":
                self._transport.close()
            case "half":
                self._send(200, body[: len(body) // 2], whole=len(body))
                self._transport.close()
            case "server_error":
                self._send(500, _error("internal error"))
            case "empty":
                self._send(200, b"")
            case "html":
                self._send(200, _HTML, "Content-Type: text/html\r\n")
            case _:
                self._send(200, body)
        if fault is None:
            self._server.count_served(raw)
        self._leave()

    def _blank_line(self, raw: bytes, body: bytes, left: int) -> None:
        if left:
            self._transport.write(b"1\r\n\n\r\n")
            later = self._server.loop.call_later
            self._timer = later(_BLANK_EVERY_S, self._blank_line, raw, body, left - 1)
            return
        self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        if self._close:
            self._transport.close()
        self._server.count_served(raw)
        self._leave()

    def _completion(self, raw: bytes, fault: str | None) -> bytes:
        request = json.loads(raw)
        content = self._server.respond(request)
        if fault in ("malformed", "length"):
            content = content[: len(content) // 2]
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if fault == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
        finish = "length" if fault == "length" else "stop"
        usage = {"prompt_tokens": len(raw) // 4, "completion_tokens": len(content) // 4}
        usage["total_tokens"] = sum(usage.values())
        completion = {
            "id": f"chatcmpl-{self._server.requests}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": usage | {"prompt_tokens_details": {"cached_tokens": 0}},
        }
        return json.dumps(completion).encode()

    def _send(self, code: int, body: bytes, headers: str = _JSON, whole: int | None = None) -> None:
        length = f"Content-Length: {len(body) if whole is None else whole}\r\n"
        self._transport.write(self._head(code, headers + length) + body)
        if self._close:
            self._transport.close()

    def _head(self, code: int, headers: str) -> bytes:
        status = f"HTTP/1.1 {code} {http.client.responses[code]}\r\n"
        return f"{status}{headers}{self._server.limit_headers()}\r\n".encode()


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "code": None}}).encode()


async def _serve(behavior: Behavior) -> None:
    loop = asyncio.get_running_loop()
    server = ServerState(behavior)
    listener = await loop.create_server(
        lambda: _Connection(server), "127.0.0.1", 0, backlog=_BACKLOG
    )
    print(listener.sockets[0].getsockname()[1], flush=True)
    sys.stdout = sys.stderr  # nobody reads on; a `respond` that prints must not fill the pipe
    parent_gone = asyncio.Event()
    loop.add_reader(sys.stdin, parent_gone.set)
    await parent_gone.wait()


def main() -> None:
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    asyncio.run(_serve(Behavior(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
