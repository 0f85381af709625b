"""Neuronpedia's records: rows of its exports, and features as its API gives them.

Rows of `activations/` have tokens and values, rows of `features/` how often a feature fires; a
feature of the API has all of its activations in a list.
"""

from collections.abc import Iterator
from typing import Any

from autointerp.activations.record_format import (
    BadRecord,
    FileEntry,
    RawRecord,
    RecordFormat,
    ToldDensity,
    activations_of,
)

_TOLD = "frac_nonzero"


def _matches(value: Any) -> bool:
    if not isinstance(value, dict) or "index" not in value:
        return False
    is_activation = {"tokens", "values"} <= value.keys()
    return is_activation or isinstance(value.get("activations"), list) or _TOLD in value


def _read(entry: FileEntry) -> Iterator[RawRecord | ToldDensity]:
    value = entry.value
    if not _matches(value):
        raise BadRecord("it needs index, and tokens with values, activations or frac_nonzero")
    feature = value["index"]
    source = "/".join(str(value[name]) for name in ("modelId", "layer") if name in value)
    if value.get(_TOLD) is not None:
        yield ToldDensity(feature, value[_TOLD], entry.where)
    if "tokens" in value:
        yield RawRecord(feature, value["tokens"], value["values"], entry.where, source=source)
    yield from activations_of(entry, feature, source)


RECORD_FORMAT = RecordFormat(
    name="neuronpedia",
    about="Neuronpedia's exports, a file or their folder, and features of its API",
    matches=_matches,
    read=_read,
    order=30,
)
