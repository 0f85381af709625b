"""The label table as lines of JSON."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from autointerp.errors import NotDoneError
from autointerp.tables.exports.examples import dumps
from autointerp.tables.exports.export_format import ExportFormat
from autointerp.tables.exports.exported import Source, number
from autointerp.tables.migrate import open_table


def rows_of(source: Source) -> Iterator[dict[str, Any]]:
    for record in source.records():
        if record.label:
            yield record.label
        else:
            source.left_out["features that have no row in the label table"] += 1


def columns_of(source: Source) -> list[pa.Field]:
    if not source.run.labels.is_file():
        raise NotDoneError(
            f"no labels: {source.run.labels} is missing; run `autointerp label` first"
        )
    return list(open_table(source.run.labels).schema_arrow)


def write(source: Source, out: Path) -> None:
    """A row a line, the columns of `labels.parquet`; missing is null."""
    singles = {c.name for c in columns_of(source) if c.type == pa.float32()}
    with out.open("w", encoding="ascii") as file:
        for row in rows_of(source):
            written = {n: number(v) if n in singles else plain(v) for n, v in row.items()}
            file.write(dumps(written) + "\n")


def plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


EXPORT = ExportFormat(
    name="jsonl",
    about="the label table as lines of JSON",
    write=write,
    file="labels.jsonl",
    order=60,
)
