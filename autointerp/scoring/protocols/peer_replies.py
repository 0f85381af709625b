"""Replies as other tools ask for them: not objects, and read all or nothing.

Where a reply cannot be read it is asked for once more, as everywhere here, and its windows are then
missing.
"""

import json
import re
from collections.abc import Sequence

import numpy as np

from autointerp.llm.wire.request import ReplySchema
from autointerp.llm.wire.structured import answer_of
from autointerp.scoring.scorer import Item, answer

_LIST = re.compile(r"\[.*?\]")
_NONE = "None"


def no_schema(_items: Sequence[Item], _scattered: bool) -> ReplySchema | None:
    return None


def read_ones_and_zeros(
    text: str, items: Sequence[Item], _scattered: bool
) -> dict[int, np.ndarray]:
    """Delphi's and its fork's: the first list in brackets, with 1 or 0 for each of the items."""
    found = _LIST.search(answer_of(text))
    try:
        said = json.loads(found[0]) if found else []
    except ValueError:
        return {}
    if len(said) != len(items) or any(one not in (0, 1) for one in said):
        return {}
    return {i: answer(bool(one)) for i, one in enumerate(said)}


def numbers_said(text: str) -> list[int] | None:
    """SAEBench's: numbers with commas or "and" between them, or None; None where it is another."""
    plain = answer_of(text).strip().rstrip(".").replace("and", ",").replace(_NONE, "")
    parts = [part for one in plain.split(",") if (part := one.strip())]
    return [int(part) for part in parts] if all(map(_is_number, parts)) else None


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 10
