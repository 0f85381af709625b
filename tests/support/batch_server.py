"""A batch endpoint on loopback: files in, batches, files of results out, as OpenAI's does it."""

import email.parser
import email.policy
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class BatchServer:
    """`with BatchServer(respond) as server:`; a batch ends after it was looked at `polls` times.

    `spoil` may return, for a request's body, a (status, error body) in place of a reply; `ending`
    is how batches end, and of an expired one only every other request is answered. `answered`
    counts replies by custom id, `online` the requests that came one by one.
    """

    respond: Callable[[dict[str, Any]], str]
    polls: int = 1
    ending: str = "completed"
    spoil: Callable[[dict[str, Any]], tuple[int, Any] | None] = lambda _: None
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    looked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    online: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, int] = field(
        default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 10}
    )
    bad_looks: int = 0  # so many looks at a batch fail first
    # What is said to the first calls that hand something in: status, body, headers.
    bad_posts: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)

    def __enter__(self) -> "BatchServer":
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def completion(self, request: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.respond(request)}
        return {
            "object": "chat.completion",
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": self.usage,
        }

    def store(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        batch = {
            "id": f"batch-{len(self.batches)}",
            "object": "batch",
            "status": "in_progress",
            "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"],
            "completion_window": asked["completion_window"],
            "metadata": asked.get("metadata"),
            "created_at": 0,
        }
        self.batches[batch["id"]] = batch
        return batch

    def look(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        self.looked[name] += 1
        if batch["status"] == "in_progress" and self.looked[name] > self.polls:
            self._end(batch)
        return batch

    def _end(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.ending
        if self.ending == "failed":
            batch["errors"] = {"object": "list", "data": [{"message": "line 1 is no request"}]}
            return
        good, bad = [], []
        for number, line in enumerate(self.files[batch["input_file_id"]].splitlines()):
            one = json.loads(line)
            if self.ending == "expired" and number % 2:
                error = {"code": "batch_expired", "message": "not in time"}
                bad.append({"custom_id": one["custom_id"], "response": None, "error": error})
                continue
            damaged = self.spoil(one["body"])
            if damaged is None:
                self.answered[one["custom_id"]] += 1
            status, body = damaged or (200, self.completion(one["body"]))
            response = {"status_code": status, "request_id": "r", "body": body}
            result = {"custom_id": one["custom_id"], "response": response, "error": None}
            (good if status == 200 else bad).append(result)
        for kind, results in (("output_file_id", good), ("error_file_id", bad)):
            random.Random(0).shuffle(results)
            if results:
                batch[kind] = self.store("".join(json.dumps(r) + "\n" for r in results).encode())


class _Handler(BaseHTTPRequestHandler):
    owner: BatchServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def _send(self, body: Any, status: int = 200, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self) -> None:
        match self.path.partition("?")[0].split("/")[2:]:
            case ["models"]:
                self._send({"data": [{"id": "test-model"}]})
            case ["batches"]:
                self._send({"object": "list", "data": list(self.owner.batches.values())})
            case ["batches", name] if self.owner.bad_looks:
                self.owner.bad_looks -= 1
                self._send({"error": {"message": "bad gateway"}}, 502)
            case ["batches", name]:
                self._send(self.owner.look(name))
            case ["files", name, "content"]:
                self._send(self.owner.files[name])
            case _:
                self._send({"error": {"message": f"no route {self.path}"}}, 404)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.owner.bad_posts:
            status, body, headers = self.owner.bad_posts.pop(0)
            self._send(body, status, **headers)
            return
        match self.path.split("/")[2:]:
            case ["files"]:
                head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                parser = email.parser.BytesParser(policy=email.policy.HTTP)
                parts = parser.parsebytes(head + raw).iter_parts()
                content = next(p for p in parts if p.get_filename())
                name = self.owner.store(content.get_payload(decode=True))
                self._send({"id": name, "object": "file", "purpose": "batch"})
            case ["batches"]:
                self._send(self.owner.create(json.loads(raw)))
            case ["chat", "completions"]:
                request = json.loads(raw)
                self.owner.online.append(request)
                self._send(self.owner.completion(request))
            case _:
                self._send({"error": {"message": f"no route {self.path}"}}, 404)
