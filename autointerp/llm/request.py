"""A chat request as the bytes that are hashed and sent."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`body` is canonical JSON and goes over the wire as it is.

    `attempt` is no part of the body: it tells apart asking the same thing once more, after a reply
    that was received but could not be used, from finding that reply in the journal.
    """

    body: bytes
    attempt: int = 0

    @property
    def model(self) -> str:
        return str(json.loads(self.body)["model"])

    def key(self, base_url: str) -> str:
        """The request's identity: equal for everything that would get the same reply."""
        digest = hashlib.sha256()
        for part in (base_url.rstrip("/").encode(), PATH.encode(), self.body):
            digest.update(part + b"\0")
        digest.update(str(self.attempt).encode())
        return digest.hexdigest()


def chat_request(
    *,
    model: str,
    messages: list[dict[str, str]],
    temperature: float | None,
    max_tokens: int,
    response_format: str,
    attempt: int = 0,
) -> ChatRequest:
    """`response_format` is `json_object`, or `none` to leave the parameter out."""
    body: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": max_tokens}
    if temperature is not None:
        body["temperature"] = temperature
    if response_format != "none":
        body["response_format"] = {"type": response_format}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Text cut in the middle of a character may hold lone surrogates, which UTF-8 cannot.
    return ChatRequest(text.encode("utf-8", errors="replace"), attempt)
