"""Features and their labels, a line each, with a tab between."""

from pathlib import Path

from autointerp.tables.exports.export_format import ExportFormat
from autointerp.tables.exports.exported import Source


def write(source: Source, out: Path) -> None:
    with out.open("w", encoding="utf-8") as file:
        for record in source.records():
            if record.text is None:
                source.left_out["features without a label"] += 1
            else:
                file.write(f"{record.feature}\t{record.text}\n")


EXPORT = ExportFormat(
    name="tsv",
    about="features and their labels, a line each",
    write=write,
    file="labels.tsv",
)
