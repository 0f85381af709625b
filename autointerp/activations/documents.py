"""Where text comes from: files, folders, JSON lines, Parquet, or the demo's own corpus."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from autointerp.demo.corpus import standard_library_documents
from autointerp.errors import UserError
from autointerp.files import open_parquet

DEMO_TEXT = "demo"
_TEXT_COLUMN = "text"


def documents(source: str) -> Iterator[str]:
    """The documents of `source`, in a fixed order.

    `source` is a text file (one document), a .jsonl or .parquet file with a `text` field, a
    folder of such files, or `demo`: the standard library of the running Python.
    """
    if source == DEMO_TEXT:
        for _, text in standard_library_documents():
            yield text
        return
    path = _existing(source)
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            yield from _documents_of_file(file)
    else:
        yield from _documents_of_file(path)


def _existing(source: str) -> Path:
    path = Path(source)
    try:
        found = path.exists()
    except OSError:  # a text in place of its file's name is too long for one
        found = False
    if not found:
        raise UserError(f"text {source[:80]}: there is no such file or folder")
    return path


def _documents_of_file(path: Path) -> Iterator[str]:
    if path.suffix == ".parquet":
        file = open_parquet(path)
        if _TEXT_COLUMN not in file.schema_arrow.names:
            raise UserError(f"{path} has no column {_TEXT_COLUMN!r}")
        for batch in file.iter_batches(columns=[_TEXT_COLUMN]):
            yield from (str(t) for t in batch.column(0).to_pylist() if t)
    elif path.suffix == ".jsonl":
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    text = json.loads(line)[_TEXT_COLUMN]
                except (ValueError, KeyError, TypeError):
                    raise UserError(
                        f"{path}, line {number}: not a JSON object with {_TEXT_COLUMN!r}"
                    ) from None
                if text:
                    yield str(text)
    else:
        yield path.read_text(encoding="utf-8", errors="replace")


def source_identity(source: str) -> str:
    """Changes when the text does: names, sizes and times of the files, not their contents."""
    if source == DEMO_TEXT:
        return f"demo: standard library of Python {sys.version.split()[0]}"
    path = _existing(source)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return json.dumps([(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files])
