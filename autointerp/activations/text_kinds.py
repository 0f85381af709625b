"""Detects the kind of a text file, by content as well as by name.

Names mislead: JSON lines are called .json, a download has no extension, rows are compressed. A file
whose kind is not known is never read as prose.
"""

import bz2
import codecs
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

import pyarrow as pa

from autointerp.errors import InputError

Kind = Literal["text", "JSON", "CSV", "Parquet", "Arrow"]
Packing = Literal["gzip", "bz2", "xz", "zstd"]
Encoding = Literal["utf-8-sig", "utf-16"]

_HEAD = 1 << 16  # bytes that tell what a file holds
_PACKED: dict[bytes, Packing] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_PACKED_NAMES = (".gz", ".gzip", ".bz2", ".xz", ".zst", ".zstd")
_BINARY: dict[bytes, Kind] = {b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "Arrow"}
_ROW_NAMES: dict[str, Kind] = {
    ".json": "JSON",
    ".jsonl": "JSON",
    ".ndjson": "JSON",
    ".jsonlines": "JSON",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".parquet": "Parquet",
    ".arrow": "Arrow",
}
_TEXT_NAMES = (
    *("", ".txt", ".text", ".md", ".markdown", ".rst", ".adoc", ".tex", ".log", ".html", ".htm"),
    *(".changelog", ".copyright", ".debian", ".news"),
    *(".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cu", ".java", ".kt"),
    *(".scala", ".go", ".rs", ".swift", ".js", ".mjs", ".jsx", ".ts", ".tsx", ".css", ".rb"),
    *(".php", ".pl", ".pm", ".lua", ".r", ".jl", ".hs", ".ml", ".clj", ".ex", ".exs", ".erl"),
    *(".cs", ".fs", ".vb", ".sql", ".sh", ".bash", ".bat", ".ps1", ".el", ".lisp", ".scm"),
    *(".f90", ".zig", ".nim", ".dart", ".asm", ".pyx", ".pxd", ".awk", ".pod", ".texi"),
)
_CONTROL = re.compile(r"[\x00-\x06\x0e-\x19\x1c-\x1f]")
_BEGINS_ROWS = re.compile(r'\s*\[\s*\{\s*"')
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


@dataclass(frozen=True)
class TextFile:
    path: Path
    kind: Kind
    packing: Packing | None = None
    encoding: Encoding = "utf-8-sig"

    @property
    def suffix(self) -> str:
        """The last part of its name, in small letters, without that of the compression."""
        return _suffix(self.path, packed=self.packing is not None)

    @property
    def is_read_as_ever(self) -> bool:
        """Whether versions that went by the name alone read it in the same way."""
        named = {".jsonl": "JSON", ".parquet": "Parquet"}.get(self.path.suffix, "text")
        return named == self.kind and self.packing is None and self.encoding != "utf-16"


@contextmanager
def opened(file: TextFile, newline: str | None = None, what: str = "text ") -> Iterator[IO[str]]:
    """The characters of a file of text or rows; bytes that are none become lone surrogates.

    newline: as `open` takes it. Raises AutointerpError where the file is damaged; `what` stands
    before its name.
    """
    try:
        with (
            _unpacked(file.path, file.packing) as raw,
            io.TextIOWrapper(raw, file.encoding, errors="surrogateescape", newline=newline) as text,
        ):
            yield text
    except (*_DAMAGED, UnicodeError) as error:
        raise InputError(f"{what}{file.path} cannot be read: {error}") from None


def _unpacked(path: Path, packing: Packing | None) -> BinaryIO:
    if packing == "gzip":
        return cast(BinaryIO, gzip.open(path))
    if packing == "bz2":
        return cast(BinaryIO, bz2.open(path))
    if packing == "xz":
        return cast(BinaryIO, lzma.open(path))
    if packing == "zstd":
        return cast(BinaryIO, io.BufferedReader(pa.input_stream(str(path), compression="zstd")))
    return path.open("rb")


def kind_of(path: Path) -> TextFile | str:
    """The file as it is to be read, or why it cannot be."""
    state = path.stat()
    return _kind_at(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _kind_at(path: Path, size: int, time: int) -> TextFile | str:
    """size, time: of the file, so that a changed one is looked at again."""
    try:
        with path.open("rb") as raw:
            head = raw.read(_HEAD)
        packing = next((p for magic, p in _PACKED.items() if head.startswith(magic)), None)
        if packing is not None:
            with _unpacked(path, packing) as unpacked:
                head = unpacked.read(_HEAD)
    except _DAMAGED as error:
        return f"it cannot be read: {str(error).splitlines()[0] if str(error) else 'it is damaged'}"
    suffix = _suffix(path, packed=packing is not None)
    binary = next((kind for magic, kind in _BINARY.items() if head.startswith(magic)), None)
    if binary is not None:
        if packing is not None:
            return f"{binary} inside {packing}: unpack it"
        return TextFile(path, binary)
    decoded = _decoded(head)
    named = _ROW_NAMES.get(suffix)
    if decoded is None:
        return "bytes that are not text in UTF-8 or UTF-16: unpack or convert it"
    encoding, text = decoded
    if named in ("JSON", "CSV"):
        return TextFile(path, named, packing, encoding)
    if named is not None:
        return f"not a {named} file"
    if _holds_rows(text):
        return TextFile(path, "JSON", packing, encoding)
    if suffix in _TEXT_NAMES:
        return TextFile(path, "text", packing, encoding)
    return (
        f"unknown file type {suffix!r}: rename it to .txt if it is one text, or "
        "convert it to .jsonl"
    )


def _suffix(path: Path, *, packed: bool) -> str:
    if packed and path.suffix.lower() in _PACKED_NAMES:
        path = path.with_suffix("")
    return path.suffix.lower()


def _decoded(head: bytes) -> tuple[Encoding, str] | None:
    """The beginning of a text, None where it is not one.

    A few bytes of another encoding do not make it another thing.
    """
    encoding: Encoding = "utf-8-sig"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(head)
    if _CONTROL.search(text) or text.count("\ufffd") > len(text) / 10:
        return None
    return encoding, text


def _holds_rows(text: str) -> bool:
    """Whether it begins as JSON rows do, whatever its name says."""
    if _BEGINS_ROWS.match(text):
        return True
    line = text.lstrip().partition("\n")[0]
    try:
        return line.startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
