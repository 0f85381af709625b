"""Files that are either whole or not there."""

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
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


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What Arrow says of a missing or damaged file, as a UserError."""
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{path} cannot be read: {first_line}") from None


class ParquetFile(pq.ParquetFile):  # type: ignore[misc]  # pyarrow has no types
    """A Parquet file whose reading raises UserError where it is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with readable(path):
            super().__init__(path)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        with readable(self._path):
            return super().read(columns=columns)

    def read_row_group(self, i: int, columns: list[str] | None = None) -> pa.Table:
        with readable(self._path):
            return super().read_row_group(i, columns=columns)

    def read_row_groups(self, groups: list[int], columns: list[str] | None = None) -> pa.Table:
        with readable(self._path):
            return super().read_row_groups(groups, columns=columns)

    def iter_batches(
        self, batch_size: int = 65_536, columns: Sequence[str | None] | None = None
    ) -> Iterator[pa.RecordBatch]:
        with readable(self._path):
            yield from super().iter_batches(batch_size, columns=columns)


def open_parquet(path: Path) -> ParquetFile:
    """The Parquet file, its footer read. Raises UserError where it is missing or damaged."""
    return ParquetFile(path)


def files_identity(files: Iterable[Path]) -> str:
    """Changes when the files do: their names, sizes and times, not their contents."""
    stats = [(str(f.resolve()), f.stat()) for f in files]
    return json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
