"""Tables of earlier versions, read as if this one had written them.

A file's metadata has the version that wrote it, `schema_version`. What a version has added is null
in a file from before it; where more has changed, a step here brings it up by one version.
"""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from autointerp.errors import NotDoneError
from autointerp.evidence.evidence_schema import FEATURES_SCHEMA, WINDOWS_SCHEMA
from autointerp.scoring import SCORERS
from autointerp.scoring.scorer import FIRES
from autointerp.storage.columns import SCHEMA_VERSION, checked, conform, version_of
from autointerp.storage.parquet_files import ParquetFile, open_parquet
from autointerp.tables.schema import PREDICTIONS, SCORES, labels_schema

_FIRING = ("top", "sample")  # kinds of windows


def _with_strata(predictions: pa.Table) -> pa.Table:
    """The first version drew all silent windows of a kind alike: each kind is its stratum."""
    if "stratum" in predictions.column_names:  # copied by something that keeps no metadata
        return predictions
    kind = pc.struct_field(predictions["window"], "kind")
    fires = pc.is_in(kind, pa.array(_FIRING))
    return predictions.append_column("stratum", pc.if_else(fires, FIRES, kind))


# (file, version) → what brings a table of that version up to the next one.
_STEPS: dict[tuple[str, int], Callable[[pa.Table], pa.Table]] = {
    ("predictions.parquet", 1): _with_strata,
}


def open_table(path: Path) -> ParquetFile:
    """A table of a run, its columns checked. Raises InputError where it is missing or damaged."""
    if not path.is_file():
        raise NotDoneError(f"{path} is missing: the run has not finished that stage")
    file = open_parquet(path)
    return checked(file, schema_for(path.name, file.schema_arrow.names), path)


def current(table: pa.Table, path: Path) -> pa.Table:
    """A table that was read from `path`, whole or in part, as the present version writes it.

    Raises AutointerpError where a newer one wrote it.
    """
    for version in range(version_of(table.schema, path), int(SCHEMA_VERSION)):
        step = _STEPS.get((path.name, version))
        table = table if step is None else step(table)
    return conform(table, schema_for(path.name, table.column_names))


def schema_for(name: str, columns: list[str]) -> pa.Schema:
    """The schema of a run's file by its name; `columns` tell which scorers have scored."""
    if name == "labels.parquet":
        return labels_schema(scorer for scorer in SCORERS if f"{scorer}_n" in columns)
    return {
        "scores.parquet": SCORES,
        "predictions.parquet": PREDICTIONS,
        "windows.parquet": WINDOWS_SCHEMA,
        "features.parquet": FEATURES_SCHEMA,
    }[name]
