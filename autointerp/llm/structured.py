"""JSON out of a model's text: whatever surrounds it, and what there is of it if it was cut off."""

import json
import re
from collections.abc import Iterator
from typing import Any

_DECODER = json.JSONDecoder()
_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)


def _without_thinking(text: str) -> str:
    """Drop `<think>…</think>`; servers that swallow the opening tag leave only the closing one."""
    text = _THINKING.sub("", text)
    return text.rpartition("</think>")[2]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Complete JSON objects in the text, outermost first, in order."""
    position = text.find("{")
    while position >= 0:
        try:
            value, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
        else:
            if isinstance(value, dict):
                yield value
        position = text.find("{", end)


def items(text: str, key: str) -> list[dict[str, Any]]:
    """The objects of the list under `key`, complete ones only; never raises.

    Fences, thinking and prose around the JSON are passed over. Where the enclosing object is not
    complete, or the model left it out, the complete objects in the text are the items.
    """
    found = list(_objects(_without_thinking(text)))
    for value in reversed(found):
        entries = value.get(key)
        if isinstance(entries, list):
            return [entry for entry in entries if isinstance(entry, dict)]
    return found
