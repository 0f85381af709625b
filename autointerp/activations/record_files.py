"""Files of activation records, read a value at a time however large they are."""

import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from autointerp.activations.record_format import BadRecord, FileEntry
from autointerp.activations.row_files import json_elements
from autointerp.activations.text_kinds import TextFile, kind_of, opened
from autointerp.errors import InputError
from autointerp.storage.parquet_files import open_parquet

_HEAD = 1 << 16  # characters before a list of features
_MAX_VALUE = 1 << 28  # characters of a line, or of an object that is read whole
_ROWS_AT_ONCE = 1024
# Folders of exports that have records, where they have folders with other things.
_FOLDERS = ("activations", "collated-activations")
_NAMES = ("*.json", "*.jsonl", "*.jsonl.gz", "*.json.gz", "*.parquet")
# Of a batch of features only what stands before them is read at once.
_FEATURES = re.compile(r'"features"\s*:\s*(?=\[\s*[{\]])')


def files_of_records(path: Path) -> list[Path]:
    """The file, or those in a folder that may have records: of an export those alone that do.

    Raises InputError where there are none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    exported = [p for name in _FOLDERS for p in path.rglob(name) if p.is_dir()]
    folders = [*exported, *(p.parent / "features" for p in exported)] or [path]
    found = {f for folder in folders for name in _NAMES for f in folder.rglob(name) if f.is_file()}
    if not found:
        raise InputError(f"{path} has no files of JSON or Parquet in it")
    return sorted(found)


def entries_of(path: Path) -> Iterator[FileEntry]:
    """Every value of a file. Raises InputError where it is damaged, or of another kind."""
    file = kind_of(path)
    if isinstance(file, str):
        raise InputError(f"{path} cannot be read: {file}")
    if file.kind == "Parquet":
        return _of_table(path)
    if file.kind != "JSON":
        raise InputError(f"{path} has no activation records: it is not JSON or Parquet")
    return _of_json(file)


def _of_table(path: Path) -> Iterator[FileEntry]:
    number = 0
    try:
        for batch in open_parquet(path).iter_batches(batch_size=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                yield FileEntry(row, path, f"{path}, row {number + 1:,}", number)
                number += 1
    except (OSError, pa.ArrowException) as error:
        first_line = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read after row {number:,}: {first_line}") from None


def _of_json(file: TextFile) -> Iterator[FileEntry]:
    """An array of values; an object with a list of features; JSON lines; or one object."""
    path = file.path
    with opened(file, what="") as text:
        head = text.read(_HEAD)
        begins, features = head.lstrip(), _FEATURES.search(head)
        if begins.startswith("[") and not _are_lines(begins):
            yield from _elements(text, path, head, None)
        elif features and begins.startswith("{") and (around := _around(head, features)):
            yield from _elements(text, path, head[features.end() :], around)
        else:
            yield from _lines(file)


def _are_lines(head: str) -> bool:
    """Whether lists follow one another, a line each."""
    first, _, rest = head.partition("\n")
    return bool(rest.strip()) and not isinstance(_parsed(first), BadRecord)


def _around(head: str, features: re.Match[str]) -> dict[str, Any] | None:
    """What an object has before its features; None where these are not its own."""
    try:
        value = json.loads(head[: features.end()] + "[]}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _elements(
    text: IO[str], path: Path, held: str, around: dict[str, Any] | None
) -> Iterator[FileEntry]:
    for number, value in enumerate(json_elements(text, str(path), held)):
        yield FileEntry(value, path, f"{path}, entry {number + 1:,}", number, around)


def _lines(file: TextFile) -> Iterator[FileEntry]:
    path = file.path
    with opened(file, what="") as text:
        numbered = enumerate(iter(lambda: text.readline(_MAX_VALUE + 1), ""), 1)
        lines = ((n, _bounded(line, path)) for n, line in numbered if not line.isspace())
        first = list(islice(lines, 1))
        if first and _spans_lines(first[0][1], file):
            whole = "".join(line for _, line in first)
            while chunk := text.read(_HEAD):
                whole = _bounded(whole + chunk, path)
            yield FileEntry(_parsed(whole), path, f"{path}, line {first[0][0]:,}")
            return
        for count, (number, line) in enumerate(chain(first, lines)):
            yield FileEntry(_parsed(line), path, f"{path}, line {number:,}", count)


def _bounded(text: str, path: Path) -> str:
    if len(text) > _MAX_VALUE:
        raise InputError(f"{path} has a line or object of over {_MAX_VALUE:,} characters")
    return text


def _spans_lines(first: str, file: TextFile) -> bool:
    """Whether an object that begins with this line goes on in the next."""
    is_begun = isinstance(_parsed(first), BadRecord)
    return first.strip() == "{" or (is_begun and file.suffix == ".json")


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return BadRecord("not an object of JSON")
