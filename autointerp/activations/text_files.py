"""Which files a text is read from, and what each holds: told by content as well as by name.

Names mislead: JSON lines are called .json, a download has no extension, rows are compressed. A file
whose kind is not known is left out of a folder, and named; it is never read as prose.
"""

import bz2
import codecs
import gzip
import io
import json
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, BinaryIO, Literal, NamedTuple, cast

import pyarrow as pa

from autointerp.errors import UserError
from autointerp.files import files_identity, files_in

Kind = Literal["text", "JSON", "CSV", "Parquet", "Arrow"]
Packing = Literal["gzip", "bz2", "xz", "zstd"]
Encoding = Literal["utf-8-sig", "utf-16"]

_HEAD = 1 << 16  # bytes that tell what a file holds
_SHOWN = 20  # files that a remark names
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
    *(".f90", ".zig", ".nim", ".dart", ".asm"),
)
# Files of a data set that are about it: they are no part of its text.
_ABOUT = re.compile(
    r"(readme|license|licence|copying|notice|citation|changelog)\b.*"
    r"|(dataset_infos?|dataset_dict|state|config)\.json",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
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


class LeftOut(NamedTuple):
    """A file of a folder that is not read."""

    path: Path
    why: str


class TextFiles(NamedTuple):
    taken: list[TextFile]
    left_out: list[LeftOut]

    def remarks(self) -> list[str]:
        """What was taken of a folder and what was left out, for a person."""
        if len(self.taken) == 1 and not self.left_out:
            return []
        kinds = Counter(f.kind for f in self.taken)
        counts = ", ".join(f"{n:,} of {kind}" for kind, n in sorted(kinds.items()))
        names = [f.path.name for f in self.taken]
        said = [f"the text is {len(names):,} files, {counts}: {_listed(names)}"]
        if self.left_out:
            names = [f"{path.name} ({why})" for path, why in self.left_out]
            said.append(f"{len(names):,} files of the folder were left out: {_listed(names)}")
        return said


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def text_files(path: Path) -> TextFiles:
    """The file, or those of a folder, in the order of their names.

    Raises UserError where nothing there can be read.
    """
    if not path.is_dir():
        found = _kind_of(path)
        if isinstance(found, str):
            raise UserError(f"text {path}: {found}")
        return TextFiles([found], [])
    taken = []
    files, left_out = _each_once(files_in(path))
    for file in files:
        found = _kind_of(file) if not _is_hidden(file, path) else "hidden"
        if isinstance(found, str):
            left_out.append(LeftOut(file, found))
        else:
            taken.append(found)
    chosen, others = _of_data_sets(taken)
    left_out = sorted([*left_out, *others])
    if not chosen:
        reasons = f": {_listed([f'{p.name} ({why})' for p, why in left_out])}" if left_out else ""
        raise UserError(f"text {path}: the folder holds no file that can be read{reasons}")
    return TextFiles(chosen, left_out)


def text_identity(path: Path) -> str:
    """Changes when the text does: names, sizes and times of its files, and how they are read."""
    taken = text_files(path).taken
    identity = files_identity(file.path for file in taken)
    # What is read as it was before has the identity it had, so that caches of it stay good.
    otherwise = [
        [file.path.name, file.kind, file.packing, file.encoding]
        for file in taken
        if not file.is_read_as_ever
    ]
    return identity + json.dumps(otherwise) if otherwise else identity


@contextmanager
def opened(file: TextFile, newline: str | None = None) -> Iterator[IO[str]]:
    """The characters of a file of text or rows; bytes that are none become lone surrogates.

    newline: as `open` takes it. Raises UserError where the file is damaged.
    """
    try:
        with (
            _unpacked(file.path, file.packing) as raw,
            io.TextIOWrapper(raw, file.encoding, errors="surrogateescape", newline=newline) as text,
        ):
            yield text
    except (*_DAMAGED, UnicodeError) as error:
        raise UserError(f"text {file.path} cannot be read: {error}") from None


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


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _kind_of(path: Path) -> TextFile | str:
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
        return "bytes, not text in UTF-8 or UTF-16: unpack or convert it"
    encoding, text = decoded
    if named in ("JSON", "CSV"):
        return TextFile(path, named, packing, encoding)
    if named is not None:
        return f"not a {named} file"
    if _holds_rows(text):
        return TextFile(path, "JSON", packing, encoding)
    if suffix in _TEXT_NAMES:
        return TextFile(path, "text", packing, encoding)
    return f"unknown kind {suffix!r}: name it .txt if it is one text, or convert it to .jsonl"


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


def _each_once(files: list[Path]) -> tuple[list[Path], list[LeftOut]]:
    """Every file by one name: the hub's cache has links with names to files without."""
    name_of: dict[Path, Path] = {}
    for file in files:
        target = file.resolve()
        if target not in name_of or (file.is_symlink() and not name_of[target].is_symlink()):
            name_of[target] = file
    kept = set(name_of.values())
    others = [f for f in files if f not in kept]
    return [f for f in files if f in kept], [
        LeftOut(f, f"the same as {name_of[f.resolve()].name}") for f in others
    ]


def _of_data_sets(files: list[TextFile]) -> tuple[list[TextFile], list[LeftOut]]:
    """Without what is about the rows of a folder rather than one of them."""
    saved = {f.path.parent: _saved_files(f.path) for f in files if f.path.name == "state.json"}
    has_rows = any(f.kind != "text" and not _ABOUT.fullmatch(f.path.name) for f in files)
    kept, left_out = [], []
    for file in files:
        names = saved.get(file.path.parent)
        if has_rows and _ABOUT.fullmatch(file.path.name):
            left_out.append(LeftOut(file.path, "about the data set"))
        elif names and file.path.name not in names:
            left_out.append(LeftOut(file.path, "not one of the saved data set's files"))
        else:
            kept.append(file)
    return kept, left_out


def _saved_files(state: Path) -> set[str]:
    """The files that `save_to_disk` of `datasets` wrote: its cache may lie beside them."""
    try:
        return {str(entry["filename"]) for entry in json.loads(state.read_text())["_data_files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
