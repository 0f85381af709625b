"""Rows of a data set as documents: a text or a conversation; rows that hold neither are counted.

A few malformed rows do not stop a run, but many do: they mean a wrong field or a wrong file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

from autointerp.errors import InputError

# Where rows keep their text or their conversation, when no field is named.
TEXT_FIELDS = ("text",)
CONVERSATION_FIELDS = ("messages", "conversations")
FIELDS = (*TEXT_FIELDS, *CONVERSATION_FIELDS)
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}  # as ShareGPT has them
_MAX_BAD = 0.01  # of the rows
_JUDGED_FROM = 1000  # rows: of the first few none can be said to be many
_SHOWN = 5


class ConversationTurn(TypedDict):
    role: str
    content: str


class Conversation(NamedTuple):
    turns: list[ConversationTurn]
    where: str = ""  # its row, for a person


class BadRow(Exception):
    """A row that holds no document, and why."""


@dataclass
class RowCount:
    """How many rows were read, how many of them were skipped, and the first of these.

    `skip_bad`: however many there are, they do not stop the run.
    """

    skip_bad: bool = False
    read: int = 0
    bad: int = 0
    replaced: int = 0  # bytes of texts that are not in the encoding of their file
    shown: list[str] = field(default_factory=list)

    def skip(self, where: str, why: object) -> None:
        """Count a row that holds no document. Raises AutointerpError where there are too many."""
        self.bad += 1
        if len(self.shown) < _SHOWN:
            self.shown.append(f"{where}: {why}")
        if self.bad > _MAX_BAD * max(self.read, _JUDGED_FROM):
            self._stop()

    def check(self) -> None:
        """Raise InputError where over 1 % of the rows were bad; one alone is never too many."""
        if self.bad == self.read > 0 or self.bad > max(1, _MAX_BAD * self.read):
            self._stop()

    def _stop(self) -> None:
        if not self.skip_bad:
            raise InputError(
                f"{self.bad:,} of the first {self.read:,} rows of the text cannot be "
                f"used, over 1 %: {self._listed()}. Fix them, or skip them with "
                "--skip-bad-rows"
            )

    def remarks(self) -> list[str]:
        said = []
        if self.bad:
            said.append(f"skipped {self.bad:,} of {self.read:,} rows of the text: {self._listed()}")
        if self.replaced:
            said.append(f"replaced {self.replaced:,} bytes of the text that are not UTF-8")
        return said

    def _listed(self) -> str:
        more = self.bad - len(self.shown)
        return "; ".join(self.shown) + (f"; and {more:,} more" if more else "")


def field_of(names: Iterable[str], named: str | None) -> str | None:
    """The column among `names` that holds the text: the named one, or the first usual one."""
    present = set(names)
    return next((f for f in ([named] if named else FIELDS) if f in present), None)


def wanted(named: str | None) -> str:
    """The fields that are looked for, for a message."""
    return repr(named) if named else " or ".join(map(repr, FIELDS))


def content_of(row: Any, named: str | None) -> str | list[ConversationTurn]:
    """The text or the turns of a row, either of which may be empty. Raises BadRow."""
    found = None
    if isinstance(row, Mapping):
        filled = [name for name, value in row.items() if value is not None]
        found = field_of(filled, named) or field_of(row, named)
    if found is None:
        raise BadRow(f"not an object with {wanted(named)}; choose another field with --text-field")
    value = row[found]
    if isinstance(value, str) and found not in CONVERSATION_FIELDS:
        _check_characters(value)
        return value
    if isinstance(value, list):
        return [_turn(turn, number) for number, turn in enumerate(value, 1)]
    if value is None:
        raise BadRow(f"{found!r} is null")
    raise BadRow(f"{found!r} is neither a text nor a list of turns")


def _turn(turn: Any, number: int) -> ConversationTurn:
    if not isinstance(turn, Mapping):
        raise BadRow(f"turn {number} is not an object with a 'role' and a 'content'")
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(role, str) or not isinstance(content, str):
        raise BadRow(
            f"turn {number}: a turn must be an object with a 'role' and a 'content', "
            f"both strings, not {_kind(role)} and {_kind(content)}"
        )
    if turn.get("tool_calls"):
        raise BadRow(f"turn {number} calls tools, which is not supported")
    _check_characters(content)
    return {"role": _ROLES.get(role, role), "content": content}


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    names: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "another value")


def _check_characters(text: str) -> None:
    """Half a character, from an escape or from bytes of another encoding, has no tokens."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRow(f"character {error.start + 1:,} is not valid UTF-8") from None
