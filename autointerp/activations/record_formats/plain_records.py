"""Records of nobody's in particular: rows with `feature`, `tokens` and `activations`.

`document` and `split` may stand beside them.
"""

from collections.abc import Iterator
from typing import Any

from autointerp.activations.record_format import BadRecord, FileEntry, RawRecord, RecordFormat

_COLUMNS = ("feature", "tokens", "activations")


def _matches(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= set(_COLUMNS)


def _read(entry: FileEntry) -> Iterator[RawRecord]:
    if not _matches(entry.value):
        raise BadRecord(f"it needs {', '.join(_COLUMNS)}")
    row = entry.value
    yield RawRecord(
        row["feature"],
        row["tokens"],
        row["activations"],
        entry.where,
        document=row.get("document"),
        split=row.get("split"),
    )


RECORD_FORMAT = RecordFormat(
    name="plain",
    about="rows of JSON or Parquet with feature, tokens, activations; document, split if known",
    matches=_matches,
    read=_read,
    order=10,
)
