"""Joins an unrequested streamed reply into an ordinary one."""

import re
from collections.abc import Iterator
from typing import Any

from autointerp.llm.wire.call_errors import UnreadableReply, read_object

_FIELDS = ("data:", "event:", "id:", "retry:", ":")  # of server-sent events; no JSON begins so
_LINE = re.compile(r"\r\n|\n|\r")
_DONE = "[DONE]"


def is_stream(text: str) -> bool:
    return text.lstrip().startswith(_FIELDS)


def join_chunks(text: str) -> dict[str, Any]:
    """The completion that the chunks of a stream add up to.

    Raises UnreadableReply where a chunk cannot be read or the stream breaks off.
    """
    whole: dict[str, Any] = {}
    choice = _Choice()
    done = False
    for data in _events(text):
        if data.strip() == _DONE:
            done = True
            break
        chunk = read_object(data)
        whole |= {k: v for k, v in chunk.items() if k != "choices" and v is not None}
        for part in _dicts(chunk.get("choices")):
            if part.get("index", 0) == 0:
                choice.add(part)
    if whole.get("error") or not choice.parts:
        return whole
    if not (done or choice.finish_reason or choice.error):
        raise UnreadableReply("the streamed reply ends early")
    return whole | {"choices": [choice.whole()]}


class _Choice:
    """What has come of a choice so far."""

    def __init__(self) -> None:
        self.parts = 0
        self.finish_reason: Any = None
        self.error: Any = None
        self._message: dict[str, list[Any]] = {}  # pieces of each field
        self._arguments: dict[int, list[str]] = {}  # of each tool call, by its number
        self._logprobs: list[Any] = []

    def add(self, part: dict[str, Any]) -> None:
        self.parts += 1
        self.finish_reason = part.get("finish_reason") or self.finish_reason
        self.error = part.get("error") or self.error
        for delta in _dicts([part.get("delta"), part.get("message")]):
            for name, piece in delta.items():
                if name == "tool_calls":
                    self._add_calls(piece)
                elif isinstance(piece, str | list):
                    self._message.setdefault(name, []).append(piece)
        logprobs = part.get("logprobs")
        tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
        if isinstance(tokens, list):
            self._logprobs += tokens

    def _add_calls(self, calls: Any) -> None:
        for call in _dicts(calls):
            for function in _dicts([call.get("function")]):
                number, arguments = call.get("index", 0), function.get("arguments")
                if isinstance(number, int) and isinstance(arguments, str):
                    self._arguments.setdefault(number, []).append(arguments)

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {name: _joined(pieces) for name, pieces in self._message.items()}
        if self._arguments:
            message["tool_calls"] = [
                {"function": {"arguments": "".join(pieces)}} for pieces in self._arguments.values()
            ]
        return {
            "message": message,
            "finish_reason": self.finish_reason,
            "error": self.error,
            "logprobs": {"content": self._logprobs},
        }


def _joined(pieces: list[Any]) -> str | list[Any]:
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    return [part for piece in pieces for part in (piece if isinstance(piece, list) else [piece])]


def _events(text: str) -> Iterator[str]:
    """The data of each event."""
    lines: list[str] = []
    for line in [*_LINE.split(text), ""]:
        if line.startswith("data:"):
            lines.append(line[len("data:") :])
        elif not line and lines:
            yield "\n".join(lines)
            lines = []


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []
