"""Where text comes from: files, folders, JSON lines, Parquet, data sets of the hub, the demo's own.

A document is a text, or a conversation: a list of turns with a role and a content.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

from autointerp.demo.corpus import standard_library_documents
from autointerp.errors import UserError
from autointerp.files import files_identity, open_parquet

DEMO_TEXT = "demo"
HUB = "hf:"
# Where rows keep their text or their conversation, when no field is named.
_FIELDS = ("text", "messages", "conversations")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}  # as ShareGPT has them


class Turn(TypedDict):
    role: str
    content: str


Document = str | list[Turn]


def documents(source: str, field: str | None = None) -> Iterator[Document]:
    """The documents of `source`, in a fixed order; empty ones are left out.

    `source` is a text file (one document), a .jsonl or .parquet file, a folder of such files,
    `hf:owner/dataset[/configuration][:split]`, or `demo`: the standard library of the running
    Python. `field` is where rows have their text or conversation. Raises UserError.
    """
    if source == DEMO_TEXT:
        yield from (text for _, text in standard_library_documents() if text)
    elif source.startswith(HUB):
        yield from _documents_of_dataset(source.removeprefix(HUB), field)
    else:
        path = _existing(source)
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            yield from _documents_of_file(file, field)


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
        text = path.read_text(encoding="utf-8", errors="replace")
        if text:
            yield text


def _documents_of_parquet(path: Path, field: str | None) -> Iterator[Document]:
    file = open_parquet(path)
    columns = file.schema_arrow.names
    column = field or next((f for f in _FIELDS if f in columns), None)
    if column not in columns:
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
    """The document of a row, none where it is empty. Raises UserError where there is no field."""
    names = (field,) if field else _FIELDS
    found = next((n for n in names if isinstance(row, Mapping) and n in row), None)
    if found is None:
        wanted = " or ".join(map(repr, names))
        raise UserError(f"{where}: not an object with {wanted}; --text-field names another")
    value = row[found]
    if not value:
        return
    if isinstance(value, str):
        yield value
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
