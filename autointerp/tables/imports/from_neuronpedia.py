"""Labels of Neuronpedia's exports: rows of JSON, compressed or not."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from autointerp.errors import InputError
from autointerp.tables.foreign_labels import (
    MAX_LINE_LENGTH,
    Foreign,
    ImportedLabels,
    ImportFormat,
    feature_of,
    labeler_named,
    read_json,
)


def _read(path: Path) -> ImportedLabels:
    """Rows of its exports: a file, a folder `explanations`, or a folder that has some in it."""
    found = ImportedLabels()
    sources: set[tuple[str, str]] = set()
    for file in _explanation_files(path):
        for line in _lines(file):
            row = read_json(line)
            if not isinstance(row, dict) or not isinstance(row.get("description"), str):
                found.unreadable["rows are not explanations"] += 1
                continue
            feature = feature_of(row.get("index"))
            if feature is None:
                found.unreadable["rows have no index"] += 1
                continue
            sources.add((str(row.get("modelId")), str(row.get("layer"))))
            if len(sources) > 1:
                here = ", ".join(f"{m}/{s}" for m, s in sorted(sources))
                raise InputError(
                    f"{path} has explanations of several sources ({here}): pass the folder of one "
                    "of them"
                )
            made_by = f"{row.get('explanationModelName')}/{row.get('typeName')}"
            order = (str(row.get("createdAt")), str(row.get("id")))
            found.labels.append(Foreign(feature, row["description"], labeler_named(made_by), order))
    return found


def _explanation_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = [f for f in path.rglob("*.jsonl*") if f.name.endswith((".jsonl", ".jsonl.gz"))]
    # Some sources have a folder for each model that explained them: explanations-<model>.
    return sorted(f for f in files if f.parent.name.startswith("explanations"))


def _lines(file: Path) -> Iterator[str]:
    """Raises AutointerpError where the file cannot be read, or has a line that is not a row."""
    try:
        with _opened(file) as rows:
            while line := rows.readline(MAX_LINE_LENGTH):
                if len(line) == MAX_LINE_LENGTH:
                    raise InputError(f"{file} has a line of over {MAX_LINE_LENGTH:,} characters")
                if line.strip():
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read: {error}") from None


def _opened(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8", errors="replace")
    return file.open(encoding="utf-8", errors="replace")


IMPORT = ImportFormat(
    name="neuronpedia",
    about="explanations of Neuronpedia's exports",
    read=_read,
    order=10,
)
