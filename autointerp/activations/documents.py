"""Where text comes from: files, folders, JSON lines, Parquet, data sets of the hub, the demo's own.

A document is a text, or a conversation: a list of turns with a role and a content. A long text
comes in pieces, so that none is held or tokenized whole.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from autointerp.demo.corpus import standard_library_documents
from autointerp.errors import UserError
from autointerp.files import files_identity
from autointerp.parquet_files import open_parquet

DEMO_TEXT = "demo"
HUB = "hf:"
# Where rows keep their text or their conversation, when no field is named.
_FIELDS = ("text", "messages", "conversations")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}  # as ShareGPT has them
PIECE = 1 << 20  # characters of a text at once
# Where byte-level tokenizers end a token in any case: after a line, or before a word.
_ENDS_OF_TOKENS = (re.compile(r"(?<=\S)\n(?=\S)"), re.compile(r"(?<=\S)(?= \S)"))


class Turn(TypedDict):
    role: str
    content: str


class Text(NamedTuple):
    """A text, or a piece of one."""

    text: str
    begins: bool = True
    ends: bool = True


Document = Text | list[Turn]


def documents(
    source: str, field: str | None = None, left_out: list[Path] | None = None
) -> Iterator[Document]:
    """The documents of `source`, in a fixed order, long texts in pieces; empty ones are left out.

    `source` is a text file (one document), a .jsonl or .parquet file, a folder of such files,
    `hf:owner/dataset[/configuration][:split]`, or `demo`: the standard library of the running
    Python. `field` is where rows have their text or conversation. Files of a folder that hold no
    text are added to `left_out`. Raises UserError, for a named file that holds no text too.
    """
    if source == DEMO_TEXT:
        for _, text in standard_library_documents():
            yield from _in_pieces([text])
    elif source.startswith(HUB):
        yield from _documents_of_dataset(source.removeprefix(HUB), field)
    else:
        path = _existing(source)
        if not path.is_dir():
            yield from _documents_of_file(path, field)
            return
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            try:
                yield from _documents_of_file(file, field)
            except _NoText:
                if left_out is not None:
                    left_out.append(file)


class _NoText(UserError):
    pass


def _in_pieces(parts: Iterable[str]) -> Iterator[Text]:
    """The text that the parts make up; none where it is empty."""
    held, begins = "", True
    for part in parts:
        held += part
        while len(held) > PIECE:
            cut = _end_of_token(held)
            yield Text(held[:cut], begins, ends=False)
            held, begins = held[cut:], False
    if held:
        yield Text(held, begins)


def _end_of_token(text: str) -> int:
    """A place in the first piece of a text where a tokenizer would cut it too, if there is one."""
    for pattern in _ENDS_OF_TOKENS:
        ends = [m.end() for m in pattern.finditer(text, PIECE - PIECE // 8, PIECE)]
        if ends:
            return ends[-1]
    return PIECE


def _existing(source: str) -> Path:
    path = Path(source)
    try:
        found = path.exists()
    except OSError:  # a text in place of its file's name is too long for one
        found = False
    if not found:
        raise UserError(f"text {source[:80]}: there is no such file or folder")
    return path


def _documents_of_file(path: Path, field: str | None) -> Iterator[Document]:
    if path.suffix == ".parquet":
        yield from _documents_of_parquet(path, field)
    elif path.suffix == ".jsonl":
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"{path}, line {number}"
                    try:
                        row = json.loads(line)
                    except ValueError:
                        raise UserError(f"{where}: not a JSON object") from None
                    yield from _document_of_row(row, field, where)
    else:
        with path.open(encoding="utf-8", errors="replace") as file:
            if "\0" in file.read(PIECE):
                raise _NoText(
                    f"text {path} holds no text but bytes: unpack it, or give .txt, .jsonl or "
                    ".parquet files"
                )
            file.seek(0)
            yield from _in_pieces(iter(partial(file.read, PIECE), ""))


def _documents_of_parquet(path: Path, field: str | None) -> Iterator[Document]:
    file = open_parquet(path)
    columns = file.schema_arrow.names
    column = field or next((f for f in _FIELDS if f in columns), None)
    if column is None or column not in columns:
        wanted = repr(field) if field else " or ".join(map(repr, _FIELDS))
        raise UserError(f"{path} has no column {wanted}; --text-field names another")
    for batch in file.iter_batches(columns=[column]):
        for value in batch.column(0).to_pylist():
            yield from _document_of_row({column: value}, column, str(path))


def _documents_of_dataset(spec: str, field: str | None) -> Iterator[Document]:
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"text {HUB}{spec} is a data set of the hub: pip install 'autointerp[data]'"
        ) from None
    name, _, split = spec.partition(":")
    parts = name.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise UserError(f"text {HUB}{spec}: give {HUB}owner/dataset[/configuration][:split]")
    configuration = parts[2] if len(parts) == 3 else None
    try:
        rows = datasets.load_dataset(
            "/".join(parts[:2]), configuration, split=split or "train", streaming=True
        )
        for number, row in enumerate(rows, 1):
            yield from _document_of_row(row, field, f"{HUB}{spec}, row {number}")
    except UserError:
        raise
    except Exception as error:  # the library raises errors of many kinds, its own and others'
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"text {HUB}{spec} cannot be read: {lines[0]}") from None


def _document_of_row(row: Any, field: str | None, where: str) -> Iterator[Document]:
    """The document of a row, in pieces where it is long; none where it is empty.

    Raises UserError where there is no field.
    """
    names = (field,) if field else _FIELDS
    found = next((n for n in names if isinstance(row, Mapping) and n in row), None)
    if found is None:
        wanted = " or ".join(map(repr, names))
        raise UserError(f"{where}: not an object with {wanted}; --text-field names another")
    value = row[found]
    if not value:
        return
    if isinstance(value, str):
        yield from _in_pieces(value[i : i + PIECE] for i in range(0, len(value), PIECE))
        return
    if not isinstance(value, list):
        raise UserError(f"{where}: {found!r} is neither a text nor a list of turns")
    yield [_turn(turn, where) for turn in value]


def _turn(turn: Any, where: str) -> Turn:
    if isinstance(turn, Mapping):
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if isinstance(role, str) and isinstance(content, str):
            return {"role": _ROLES.get(role, role), "content": content}
    raise UserError(f"{where}: a turn is an object with a 'role' and a 'content', both texts")


def source_identity(source: str) -> str:
    """Changes when the text does: names, sizes and times of files, the name of a data set."""
    if source == DEMO_TEXT:
        return f"demo: standard library of Python {sys.version.split()[0]}"
    if source.startswith(HUB):
        return source
    path = _existing(source)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return files_identity(files)
