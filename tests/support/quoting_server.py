"""A server that quotes the key it was sent, in whatever form, wherever it can."""

import base64
import html
import itertools
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, quote_plus

from tests.support import scripted

# What a request is answered with, by its number: status, headers and body.
Answer = tuple[int, dict[str, str], bytes]


def forms_of(key: str) -> list[str]:
    """The key as clients send it and as servers, proxies and libraries quote it."""
    basic = [base64.b64encode(f"{user}{key}".encode()).decode() for user in ("", "u:", "me:")]
    return [
        key,
        f"Bearer {key}",
        quote(key),
        quote(key, safe=""),
        quote_plus(key),
        quote(quote(key, safe=""), safe=""),
        json.dumps(key)[1:-1],
        json.dumps(json.dumps(key)[1:-1])[1:-1],
        key.replace("\\", "\\\\").replace('"', '\\"').replace("/", "\\/"),
        "".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in key),
        "".join(c if c.isalnum() else f"&#{ord(c)};" for c in key),
        html.escape(key),
        f"http://user:{quote(key, safe='')}@localhost/",
        *basic,
        *(text.translate(str.maketrans("+/", "-_")) for text in basic),
        *(quote(text, safe="") for text in basic),
        *(f"Basic {text}" for text in basic),
    ]


def leaks(text: str, key: str) -> list[str]:
    """The forms of the key that the text holds."""
    return [form for form in forms_of(key) if form in text]


class QuotingServer:
    """`answer(number, key, request)` says what a chat completion gets, `models` what a GET gets."""

    def __init__(
        self,
        answer: Callable[[int, str, dict[str, Any]], Answer],
        models: Callable[[str], Answer] = lambda key: (
            200,
            {},
            b'{"data": [{"id": "test-model"}]}',
        ),
    ) -> None:
        numbers = itertools.count()
        self.quoted: list[str] = []  # the keys that it was sent
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _key(self) -> str:
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                server.quoted.append(key)
                return key

            def _say(self, answer: Answer) -> None:
                code, headers, body = answer
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                self._say(models(self._key()))

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._say(answer(next(numbers), self._key(), request))

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> "QuotingServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def error(code: int, words: str) -> Answer:
    return code, {}, json.dumps({"error": {"message": words, "code": words}}).encode()


def completion(content: str, words: str) -> bytes:
    """A chat completion that quotes `words` wherever it has room for a text."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, "reasoning": words},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "note": words}
    return json.dumps(
        {"id": words, "model": words, "choices": [choice], "usage": usage, "x": words}
    ).encode()


def everywhere(number: int, key: str, request: dict[str, Any]) -> Answer:
    """Answers that quote one form of the key after another: in replies, errors, headers, pages."""
    forms = forms_of(key)
    words = forms[number % len(forms)]
    if number % 7 == 3:
        return error(500, f"crashed with {words}")
    if number % 7 == 5:
        return 200, {}, json.dumps({"error": {"message": words, "code": 503}}).encode()
    if number % 11 == 6:
        return 200, {}, f"<html>{words}</html>".encode()
    content = scripted.answer(request)
    if scripted.asks_for_labels(request):
        labels = json.loads(content)
        for label in labels["labels"]:
            label["reason"] = f"{label.get('reason', '')} {words}"
            label["label"] = f"{label['label']} {words}"[:300]
        content = json.dumps(labels)
    name = "x-ratelimit-limit-requests"
    return 200, {name: f"100, {key}", "x-key": key}, completion(content, words)
