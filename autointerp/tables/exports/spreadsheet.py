"""The label table as CSV for spreadsheets."""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa

from autointerp.plain_text import tidy
from autointerp.tables.exports.export_format import ExportFormat
from autointerp.tables.exports.exported import Source, number
from autointerp.tables.exports.flat import columns_of, plain, rows_of

# Spreadsheets take a cell that begins so for a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "|", "%")
_MAX_CELL = 32_000  # characters; spreadsheets take 32,767


def write(source: Source, out: Path) -> None:
    """The columns of `labels.parquet`; lists are separated by ` | `, missing is an empty cell.

    A text that a spreadsheet would run has an apostrophe before it.
    """
    columns = columns_of(source)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
        writer.writerow([column.name for column in columns])
        for row in rows_of(source):
            writer.writerow([_cell(row[c.name], c.type) for c in columns])


def _cell(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return ""
    if isinstance(value, str):
        return safe_cell(value)
    if isinstance(value, list):
        return safe_cell(" | ".join(value))
    if kind == pa.float32():
        value = number(value)
    value = plain(value)
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    return value


def safe_cell(text: str) -> str:
    """One line of plain text that no spreadsheet takes for a formula."""
    text = tidy(text)[:_MAX_CELL]
    return f"'{text}" if text.startswith(_FORMULA) else text


EXPORT = ExportFormat(
    name="csv",
    about="the label table for spreadsheets",
    write=write,
    file="labels.csv",
    order=70,
)
