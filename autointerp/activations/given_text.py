"""Texts that are in memory: strings, conversations, or a data set."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.activations.rows import FIELDS
from autointerp.errors import InputError
from autointerp.held import name_held


@dataclass(frozen=True)
class GivenText:
    """`rows` are strings, or objects with a text or a conversation, as rows of a file are."""

    name: str
    rows: Sequence[Any]

    def as_rows(self) -> Iterator[tuple[Any, str]]:
        """Every row as a file has it, and where it is."""
        for number, row in enumerate(self.rows, 1):
            yield _as_object(row), f"text, row {number:,}"


def given_text(text: Iterable[Any], field: str | None) -> GivenText:
    """The text under the name of its content; what can be read once is read. Raises InputError."""
    if isinstance(text, Mapping):  # also a data set in splits
        raise InputError("text is a mapping: give one of its values, such as a split")
    if hasattr(text, "to_dict") and hasattr(text, "columns"):
        text = text.to_dict("records")  # a frame
    wanted = [field] if field is not None else list(FIELDS)
    names = getattr(text, "column_names", None)
    if isinstance(names, list) and hasattr(text, "select_columns"):
        kept = [name for name in names if name in wanted]
        if not kept:
            raise InputError(f"text has columns {', '.join(names)}: name its text with text_field")
        text = text.select_columns(kept)
    try:
        # A data set stays on disk; what can be read once is read.
        rows: Any = text if hasattr(text, "__getitem__") else list(text)
    except TypeError:
        raise InputError(
            f"text is a {type(text).__name__}: give a path or name, strings, or a data set"
        ) from None
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(_as_object(row), sort_keys=True, default=str).encode() + b"\n")
    return GivenText(name_held("text", digest.hexdigest()), rows)


def _as_object(row: Any) -> Any:
    """A string is a text, a list is a conversation."""
    if isinstance(row, str):
        return {FIELDS[0]: row}
    return {"messages": row} if isinstance(row, list) else row
