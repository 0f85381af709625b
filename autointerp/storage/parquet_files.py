"""The door to Parquet files: written with checksums, and read or said to be damaged."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.storage.damage import damaged

# A page whose bytes have changed is an error, not other numbers.
WRITTEN = {"compression": "zstd", "write_page_checksum": True}
_READ = {"page_checksum_verification": True}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A block that reads the file. Raises AutointerpError where it is missing or damaged."""
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise damaged(path, error) from None


class ParquetFile:
    """A Parquet file whose footer is read; every other part that is read may be damaged still.

    Raises AutointerpError as `reading` does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path):
            self._file = pq.ParquetFile(path, **_READ)
        self.schema_arrow: pa.Schema = self._file.schema_arrow
        self.metadata = self._file.metadata

    def read(self, columns: list[str] | None = None) -> pa.Table:
        with reading(self._path):
            return self._file.read(columns=columns)

    def read_row_group(self, group: int) -> pa.Table:
        with reading(self._path):
            return self._file.read_row_group(group)

    def read_row_groups(self, groups: list[int], columns: list[str] | None = None) -> pa.Table:
        with reading(self._path):
            return self._file.read_row_groups(groups, columns=columns)

    def iter_batches(
        self, batch_size: int = 65_536, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        batches = self._file.iter_batches(batch_size, columns=columns)
        while True:
            with reading(self._path):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def open_parquet(path: Path) -> ParquetFile:
    """The file, its footer read. Raises AutointerpError where it is missing or damaged."""
    return ParquetFile(path)


def read_parquet(path: Path, **options: Any) -> pa.Table:
    """A whole table, with the `columns`, `filters` and `schema` of pyarrow. Raises InputError."""
    with reading(path):
        return pq.read_table(path, **_READ, **options)


def write_parquet(table: pa.Table, path: Path, row_group_size: int | None = None) -> None:
    pq.write_table(table, path, row_group_size=row_group_size, **WRITTEN)
