"""SAEDashboard's `batch-N.json`: features, each with the windows that its dashboard shows."""

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

_NAMES = ("model_id", "layer", "sae_set", "sae_id_suffix")


def _matches(value: Any) -> bool:
    return isinstance(value, dict) and {"feature_index", "activations"} <= value.keys()


def _read(entry: FileEntry) -> Iterator[RawRecord | ToldDensity]:
    value = entry.value
    if not _matches(value):
        raise BadRecord("it needs feature_index and activations")
    feature, around = value["feature_index"], entry.of_file or {}
    model, layer, *rest = (around.get(name) for name in _NAMES)
    source = "-".join(str(part) for part in (layer, *rest) if part is not None)
    source = f"{model}/{source}" if model else source
    if value.get("frac_nonzero") is not None:
        yield ToldDensity(feature, value["frac_nonzero"], entry.where)
    yield from activations_of(entry, feature, source)


RECORD_FORMAT = RecordFormat(
    name="saedashboard",
    about="SAEDashboard's batch-N.json, files or their folder",
    matches=_matches,
    read=_read,
    order=40,
)
