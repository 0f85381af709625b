"""A real HTTP server on loopback that speaks enough of the OpenAI protocol, and can misbehave."""

import asyncio
import hashlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from autointerp.llm.wire.request import ReplySchema, request_key


@dataclass(frozen=True)
class Reply:
    """A reply's text, and what stands beside it in its choice and in the whole."""

    content: str
    choice: dict[str, Any] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)


def key_of(url: str, body: bytes) -> str:
    """The key under which the journal keeps the reply to a body that was sent."""
    content = json.loads(body)
    del content["stream"]
    named = content.get("response_format", {}).get("json_schema")
    if named is not None:
        named["schema"] = ReplySchema(named["name"], named["schema"]).without_counts()
    return request_key(url, content)


Respond = Callable[[dict[str, Any]], str | Reply]


@dataclass(frozen=True)
class Fault:
    """One misbehavior; see `_Connection` for what each kind does."""

    kind: Literal["status", "hang", "drop", "half", "truncate", "raw", "refusal", "length", "slow"]
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    keep: int = 0  # characters of the content that a `length` reply still has


def status(code: int, message: str = "", *, error_code: str = "", **headers: str) -> Fault:
    named = {k.replace("_", "-"): v for k, v in headers.items()}
    body = {"error": {"message": message or f"status {code}", "code": error_code or None}}
    return Fault("status", status=code, headers=named, body=body)


# Called with the request, how often this body was seen before, and how many requests came before.
Faults = Callable[[dict[str, Any], int, int], Fault | None]


class FakeServer:
    """`with FakeServer(respond) as server:` serves `server.url` from a thread of its own.

    `served` counts the completions that were sent in full, by body: what a real server would bill.
    """

    def __init__(
        self,
        respond: Respond,
        *,
        models: tuple[str, ...] = ("test-model",),
        api_key: str | None = None,
        faults: Faults | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.respond = respond
        self.models = models
        self.api_key = api_key
        self.faults = faults
        self.tls = tls
        self.connections = 0
        self.requests: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.served: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.in_flight = 0
        self.peak = 0
        self.on_served: Callable[[int], None] | None = None
        self.release = threading.Event()  # what `slow` replies wait for
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = 0

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "FakeServer":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self.tls)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one_request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {
            k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)
        }
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        if self.api_key is not None and headers.get("authorization") != f"Bearer {self.api_key}":
            await send(writer, 401, {"error": {"message": "Incorrect API key provided"}})
            return True
        if method == "GET" and path == "/v1/models":
            await send(writer, 200, {"data": [{"id": m} for m in self.models]})
            return True
        if method != "POST" or path != "/v1/chat/completions":
            await send(writer, 404, {"error": {"message": f"no route {path}"}})
            return True
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            return await self._complete(raw, writer)
        finally:
            self.in_flight -= 1

    async def _complete(self, raw: bytes, writer: asyncio.StreamWriter) -> bool:
        request = json.loads(raw)
        name = hashlib.sha256(raw).hexdigest()
        fault = None
        if self.faults is not None:
            fault = self.faults(request, self.seen[name], len(self.requests))
        self.seen[name] += 1
        self.requests.append(request)
        self.bodies.append(raw)
        if request["model"] not in self.models:
            message = f"The model `{request['model']}` does not exist"
            await send(writer, 404, {"error": {"message": message, "code": "model_not_found"}})
            return True
        if fault is not None and fault.kind == "slow":
            await asyncio.to_thread(self.release.wait)
        answer = self.respond(request)
        reply = Reply(answer) if isinstance(answer, str) else answer
        content = reply.content
        message: dict[str, Any] = {"role": "assistant", "content": content}
        finish = "stop"
        if fault is not None:
            match fault.kind:
                case "status":
                    await send(writer, fault.status, fault.body, fault.headers)
                    return True
                case "hang":
                    await asyncio.Event().wait()
                case "drop":
                    return False
                case "raw":
                    await send(writer, 200, fault.body)
                    return True
                case "refusal":
                    message = {"role": "assistant", "content": None, "refusal": "I cannot"}
                case "length":
                    message["content"] = content[: fault.keep]
                    finish = "length"
        body = json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "model": request["model"],
                "choices": [
                    {"index": 0, "message": message, "finish_reason": finish} | reply.choice
                ],
                "usage": {
                    "prompt_tokens": len(raw) // 4,
                    "completion_tokens": len(content) // 4,
                },
            }
            | reply.whole
        ).encode()
        if fault is not None and fault.kind == "truncate":
            await send(writer, 200, body[: len(body) // 2])
            return True
        if fault is not None and fault.kind == "half":
            await send(writer, 200, body[: len(body) // 2], length=len(body))
            return False
        self.served[name] += 1
        if self.on_served is not None:
            self.on_served(self.served.total())
        await send(writer, 200, body)
        return True


async def send(
    writer: asyncio.StreamWriter,
    code: int,
    body: Any,
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {code} X", "Content-Type: application/json"]
    lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
    lines.append(f"Content-Length: {len(raw) if length is None else length}")
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
    await writer.drain()
