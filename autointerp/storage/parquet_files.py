"""The door to Parquet files: written with checksums, and read or said to be damaged."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

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


def with_names(schema: pa.Schema, names: Mapping[str, str]) -> pa.Schema:
    """The schema with its fields renamed, old name → new; descriptions and metadata stay."""
    fields = [field.with_name(names.get(field.name, field.name)) for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def renamed(rows: Rows, names: Mapping[str, str]) -> Rows:
    """The rows with their columns renamed, old name → new."""
    if not names:
        return rows
    return type(rows).from_arrays(rows.columns, schema=with_names(rows.schema, names))


class ParquetFile:
    """A Parquet file whose footer is read; every other part that is read may be damaged still.

    `stored_as`: columns that go by another name than in the file → that name. Raises
    AutointerpError as `reading` does.
    """

    def __init__(self, path: Path, stored_as: Mapping[str, str] = {}) -> None:
        self._path = path
        self._stored_as = stored_as
        self._names = {stored: name for name, stored in stored_as.items()}
        with reading(path):
            self._file = pq.ParquetFile(path, **_READ)
        self.schema_arrow: pa.Schema = with_names(self._file.schema_arrow, self._names)
        self.metadata = self._file.metadata

    def renamed(self, stored_as: Mapping[str, str]) -> "ParquetFile":
        return ParquetFile(self._path, stored_as) if stored_as else self

    def stored(self, columns: list[str] | None) -> list[str] | None:
        """What the columns are called in the file."""
        return columns and [self._stored_as.get(name, name) for name in columns]

    def read(self, columns: list[str] | None = None) -> pa.Table:
        with reading(self._path):
            return renamed(self._file.read(columns=self.stored(columns)), self._names)

    def read_row_group(self, group: int) -> pa.Table:
        with reading(self._path):
            return renamed(self._file.read_row_group(group), self._names)

    def read_row_groups(self, groups: list[int], columns: list[str] | None = None) -> pa.Table:
        with reading(self._path):
            return renamed(self._file.read_row_groups(groups, self.stored(columns)), self._names)

    def iter_batches(
        self, batch_size: int = 65_536, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        batches = self._file.iter_batches(batch_size, columns=self.stored(columns))
        while True:
            with reading(self._path):
                batch = next(batches, None)
            if batch is None:
                return
            yield renamed(batch, self._names)


def open_parquet(path: Path) -> ParquetFile:
    """The file, its footer read. Raises AutointerpError where it is missing or damaged."""
    return ParquetFile(path)


def read_parquet(path: Path, **options: Any) -> pa.Table:
    """A whole table, with the `columns`, `filters` and `schema` of pyarrow. Raises InputError."""
    with reading(path):
        return pq.read_table(path, **_READ, **options)


def write_parquet(table: pa.Table, path: Path, row_group_size: int | None = None) -> None:
    pq.write_table(table, path, row_group_size=row_group_size, **WRITTEN)
