"""Files that are either whole or not there."""

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.errors import UserError


@contextmanager
def atomic_path(path: Path, leftover: str = "tmp") -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block ends well.

    The file is synced before it is renamed, so that a reader never sees half of it, not even
    after a power cut. When the block raises, `path` is left as it was. Temporary names end in
    `leftover`: a run that starts clears away those in `tmp`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{leftover}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes it when the block ends well.

    `path` must not be there yet. When the block raises, nothing is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        os.sync()  # at once: there may be a million small files
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def gzip_lines(path: Path) -> Iterator[Callable[[str], None]]:
    """Write lines to a gzip file that is the same for the same lines: no name or time in it."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed,
    ):

        def write(line: str) -> None:
            packed.write(line.encode() + b"\n")

        yield write


def open_parquet(path: Path) -> pq.ParquetFile:
    """The Parquet file, its footer read. Raises UserError where it is missing or damaged."""
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"{path} cannot be read: {first_line}") from None


def files_in(folder: Path) -> list[Path]:
    """All files of a folder and of those in it, in the order of their names."""
    return sorted(p for p in folder.rglob("*") if p.is_file())


def files_identity(files: Iterable[Path]) -> str:
    """Changes when the files do: their names, sizes and times, not their contents."""
    stats = [(str(f.resolve()), f.stat()) for f in files]
    return json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
