"""The rows of files: JSON in its several shapes, CSV, Parquet, Arrow."""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa

from autointerp.activations.rows import BadRow, field_of, wanted
from autointerp.activations.text_kinds import TextFile, opened
from autointerp.errors import InputError
from autointerp.storage.parquet_files import open_parquet

_CHUNK = 1 << 20  # characters of a JSON array at once
_SPACE = re.compile(r"[ \t\r\n]*")
_MAX_CELL = 1 << 30  # characters; the limit of Python's csv is 131,072
_DELIMITERS = (",", "\t", ";", "|")


class NoColumnError(InputError):
    """A table has no column for the text."""


class Row(NamedTuple):
    """`value` is a BadRow where the row cannot even be parsed."""

    value: Any
    where: str


def rows_of(file: TextFile, field: str | None) -> Iterator[Row]:
    """Every row of a file. Raises InputError where there is no such column or it is damaged."""
    if file.kind == "JSON":
        yield from _json_rows(file, field)
    elif file.kind == "CSV":
        yield from _csv_rows(file, field)
    elif file.kind == "Parquet":
        yield from _parquet_rows(file.path, field)
    else:
        yield from _arrow_rows(file.path, field)


def _json_rows(file: TextFile, field: str | None) -> Iterator[Row]:
    """An array of rows; JSON lines; or one object: columns, a table, a single row."""
    with opened(file) as text:
        is_array = text.read(_CHUNK).lstrip().startswith("[")
    with opened(file) as text:
        if is_array:
            values = enumerate(json_elements(text, f"text {file.path}"), 1)
            yield from (Row(value, f"{file.path}, row {n:,}") for n, value in values)
            return
        lines = ((n, line) for n, line in enumerate(text, 1) if line.strip())
        head = list(islice(lines, 2))
        if len(head) == 1 or (head and _spans_lines(head[0][1], file)):
            whole = _parsed("".join(line for _, line in chain(head, lines)))
            rows = [whole] if isinstance(whole, BadRow) else _rows_in(whole, field)
            where = f"{file.path}, line {head[0][0]:,}"
            for number, value in enumerate(rows, 1):
                yield Row(value, where if len(rows) == 1 else f"{file.path}, row {number:,}")
            return
        for number, line in chain(head, lines):
            yield Row(_parsed(line), f"{file.path}, line {number:,}")


def _spans_lines(first: str, file: TextFile) -> bool:
    """Whether an object that begins with this line goes on in the next."""
    is_begun = isinstance(_parsed(first), BadRow)
    return first.strip() == "{" or (is_begun and file.suffix == ".json")


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return BadRow("not a JSON object")


def json_elements(text: IO[str], source: str, held: str = "") -> Iterator[Any]:
    """The values of a JSON array, one at a time: it may be larger than memory.

    held: what was read of it before. Raises InputError, naming the source, where it is cut short.
    """
    decoder = json.JSONDecoder()
    number, is_whole = 1, False
    place = 0  # in `held`, where what was not given yet begins
    begun = False
    while True:
        place = _after_space(held, place)
        if not begun and held[place : place + 1] == "[":
            begun, place = True, _after_space(held, place + 1)
        if held[place : place + 1] == "]":
            return
        try:
            value, end = decoder.raw_decode(held, place)
            end = _after_space(held, end)
            is_whole = begun and held[end : end + 1] in (",", "]") and end < len(held)
        except (ValueError, RecursionError):
            is_whole = False
        if is_whole:
            yield value
            number += 1
            place = end + (held[end] == ",")
            continue
        more = text.read(max(_CHUNK, len(held) - place))
        if not more:
            raise InputError(f"{source}, row {number:,}: the JSON is malformed or truncated here")
        held, place = held[place:] + more, 0


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()


def _rows_in(value: Any, field: str | None) -> list[Any]:
    """The rows of a JSON object: itself, its columns, or a table under a name of its own."""
    if not isinstance(value, Mapping):
        return [value]
    found = field_of(value, field)
    if found is not None:
        column = value[found]
        if isinstance(column, Mapping):  # as pandas writes by default: by the row's index
            column = list(column.values())
        elif not isinstance(column, list) or _is_conversation(column):
            return [value]
        return [{found: cell} for cell in column]
    names, data = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(data, list):
        return [dict(zip(names, cells, strict=False)) for cells in data]
    tables = [v for v in value.values() if isinstance(v, list) and _are_objects(v)]
    if isinstance(data, list) and _are_objects(data):
        tables = [data]
    return tables[0] if len(tables) == 1 else [value]


def _are_objects(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(v, Mapping) for v in values)


def _is_conversation(values: list[Any]) -> bool:
    return _are_objects(values) and any("role" in v or "from" in v for v in values)


def _csv_rows(file: TextFile, field: str | None) -> Iterator[Row]:
    csv.field_size_limit(_MAX_CELL)
    with opened(file, newline="") as text:
        head = text.readline()
        cells = {d: next(csv.reader([head], delimiter=d), []) for d in _DELIMITERS}
        found = {d: field_of(names, field) for d, names in cells.items()}
        delimiter = next((d for d in _DELIMITERS if found[d]), None)
        if delimiter is None:
            raise NoColumnError(
                f"{file.path}: its first line has no column {wanted(field)}; choose "
                "another with --text-field"
            )
        names, column = cells[delimiter], found[delimiter]
        assert column is not None
        place = names.index(column)
        yield from _cells(csv.reader(text, delimiter=delimiter), names, place, file)


def _cells(
    reader: "Iterator[list[str]]", names: list[str], place: int, file: TextFile
) -> Iterator[Row]:
    number = 1  # the header
    while True:
        number += 1
        where = f"{file.path}, row {number:,}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(BadRow(str(error)), where)
            continue
        if not cells:
            continue
        if len(cells) != len(names):
            why = f"{len(cells):,} cells, but the first row has {len(names):,}"
            yield Row(BadRow(why), where)
        else:
            yield Row({names[place]: cells[place]}, where)


def _parquet_rows(path: Path, field: str | None) -> Iterator[Row]:
    file = open_parquet(path)
    column = _column_of(file.schema_arrow.names, field, path)
    batches = file.iter_batches(columns=[column])
    yield from _rows_of_batches(batches, column, path)


def _arrow_rows(path: Path, field: str | None) -> Iterator[Row]:
    """A file of the IPC format, or a stream of it, as `datasets` writes."""
    try:
        with pa.memory_map(str(path)) as source:
            if source.read(6) == b"ARROW1":
                table = pa.ipc.open_file(source)
                batches = (table.get_batch(i) for i in range(table.num_record_batches))
            else:
                source.seek(0)
                table = pa.ipc.open_stream(source)
                batches = iter(table)
            column = _column_of(table.schema.names, field, path)
            yield from _rows_of_batches((b.select([column]) for b in batches), column, path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def _column_of(names: list[str], field: str | None, path: Path) -> str:
    column = field_of(names, field)
    if column is None:
        raise NoColumnError(
            f"{path} has no column {wanted(field)}; choose another with --text-field"
        )
    return column


def _rows_of_batches(batches: Iterator[pa.RecordBatch], column: str, path: Path) -> Iterator[Row]:
    number = 0
    try:
        for batch in batches:
            for value in batch.column(0).to_pylist():
                number += 1
                yield Row({column: value}, f"{path}, row {number:,}")
    except (OSError, pa.ArrowException) as error:
        first_line = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read after row {number:,}: {first_line}") from None
