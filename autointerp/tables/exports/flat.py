"""The label table as lines of JSON and as CSV for spreadsheets."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from autointerp.errors import NotDoneError
from autointerp.plain_text import tidy
from autointerp.tables.exports.examples import dumps
from autointerp.tables.exports.exported import Source, number
from autointerp.tables.migrate import open_table

# Spreadsheets take a cell that begins so for a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "|", "%")
_MAX_CELL = 32_000  # characters; spreadsheets take 32,767


def _rows(source: Source) -> Iterator[dict[str, Any]]:
    for record in source.records():
        if record.label:
            yield record.label
        else:
            source.left_out["features that have no row in the label table"] += 1


def _columns(source: Source) -> list[pa.Field]:
    if not source.run.labels.is_file():
        raise NotDoneError(
            f"no labels: {source.run.labels} is missing; run `autointerp label` first"
        )
    return list(open_table(source.run.labels).schema_arrow)


def write_jsonl(source: Source, out: Path) -> None:
    """A row a line, the columns of `labels.parquet`; missing is null."""
    singles = {c.name for c in _columns(source) if c.type == pa.float32()}
    with out.open("w", encoding="ascii") as file:
        for row in _rows(source):
            plain = {n: number(v) if n in singles else _plain(v) for n, v in row.items()}
            file.write(dumps(plain) + "\n")


def write_csv(source: Source, out: Path) -> None:
    """The same columns; lists are separated by ` | `, missing is an empty cell.

    A text that a spreadsheet would run has an apostrophe before it.
    """
    columns = _columns(source)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
        writer.writerow([column.name for column in columns])
        for row in _rows(source):
            writer.writerow([_cell(row[c.name], c.type) for c in columns])


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return ""
    if isinstance(value, str):
        return safe_cell(value)
    if isinstance(value, list):
        return safe_cell(" | ".join(value))
    if kind == pa.float32():
        value = number(value)
    value = _plain(value)
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    return value


def safe_cell(text: str) -> str:
    """One line of plain text that no spreadsheet takes for a formula."""
    text = tidy(text)[:_MAX_CELL]
    return f"'{text}" if text.startswith(_FORMULA) else text
