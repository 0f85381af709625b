"""A run's tables as pandas."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.errors import UserError
from autointerp.runs import Run

# Integers that may be missing must not become floats, nor booleans objects.
_NULLABLE = {
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
_CATEGORIES = ("coder", "status", "labeler", "prompt_hash", "scorer", "metric", "judge")


def _frame(path: Path, filters: list[tuple[str, str, int]] | None = None) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{path} is missing: the run has not come so far")
    table = pq.read_table(path, filters=filters)
    categories = [name for name in _CATEGORIES if name in table.column_names]
    frame: pd.DataFrame = table.to_pandas(categories=categories, types_mapper=_NULLABLE.get)
    for field in table.schema:
        if field.type in _NULLABLE and table[field.name].null_count == 0:
            frame[field.name] = frame[field.name].astype(field.type.to_pandas_dtype())
    return frame


def _files(run: str | Path) -> Run:
    path = Path(run)
    if not path.is_dir():
        raise UserError(f"no run at {path}: there is no such folder")
    return Run(path)


def load_labels(run: str | Path) -> pd.DataFrame:
    """The label table of a run: one row a feature, sorted by feature.

    Columns that repeat are categories, integers and booleans that may be missing are nullable.
    Raises UserError where the run has no label table yet.
    """
    return _frame(_files(run).labels)


def load_scores(run: str | Path) -> pd.DataFrame:
    """All scores of a run, one row a feature, scorer and metric. Raises UserError."""
    return _frame(_files(run).scores)


def load_windows(run: str | Path, feature: int) -> pd.DataFrame:
    """The windows of one feature. Raises UserError where the run has no evidence yet."""
    return _frame(_files(run).windows, filters=[("feature", "==", feature)])
