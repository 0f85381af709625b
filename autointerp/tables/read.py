"""A run's tables as pandas, whatever state the run is in."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from autointerp.errors import InputError
from autointerp.evidence.store import EvidenceStore
from autointerp.runs.directory import Run
from autointerp.storage.columns import conform
from autointerp.tables.edits import apply_edits
from autointerp.tables.frame import TableFrame, frame_of
from autointerp.tables.migrate import current, open_table, schema_for
from autointerp.tables.schema import RUN
from autointerp.tables.window_length import unlike_windows


def load_labels(run: str | Path | Sequence[str | Path], *, edits: bool = False) -> TableFrame:
    """The label table of a run: one row a feature, sorted by feature.

    While the run is labeling it is the table so far, in which features that are still to come are
    `pending`. Of several runs the rows follow one another, and a first column `run` has the names
    of their folders; it warns where their population scores are not of the same windows. With
    `edits`, labels by people and from the page stand in for the run's own, and columns `edited`,
    `original_label`, `votes` and `notes` are added (see `apply_edits`).

    Columns that repeat are categories, integers and booleans that may be missing are nullable,
    lists are Arrow's. `to_arrow()` gives it back as an Arrow table with every column's description.
    Raises AutointerpError where a run has no label table yet, or a newer autointerp wrote it.
    """

    def read(one: Run) -> pa.Table:
        table = read_table(one.labels)
        return apply_edits(table, one) if edits else table

    return frame_of(_of_runs(run, "labels.parquet", read), arrow_lists=True)


def load_scores(run: str | Path | Sequence[str | Path]) -> TableFrame:
    """All scores of a run, or of several: one row a feature, scorer and metric.

    Warns where a run's scoring is not finished, so that some are missing or from before. Raises
    AutointerpError where a run has no scores yet.
    """

    def read(one: Run) -> pa.Table:
        table = read_table(one.scores)
        if one.manifest.is_file() and not one.stages().score:
            line = f"the scoring of {one.path} is not finished: scores are missing or out of date"
            warnings.warn(line, stacklevel=4)
        return table

    return frame_of(_of_runs(run, "scores.parquet", read), arrow_lists=True)


def load_windows(run: str | Path, feature: int) -> TableFrame:
    """The windows of one feature; its token ids and activations are numpy arrays [length].

    Raises AutointerpError where the run has no evidence yet, or has not collected the feature.
    """
    files = _files(run)
    store = EvidenceStore(files.windows, files.features)
    return frame_of(store.window_table(feature), arrow_lists=False)


def read_table(path: Path) -> pa.Table:
    """A table of a run as the present version writes it. Raises AutointerpError."""
    return current(open_table(path).read(), path)


def _files(run: str | Path) -> Run:
    path = Path(run)
    if not path.is_dir():
        raise InputError(f"no run at {path}: no such folder")
    return Run(path)


def _of_runs(
    runs: str | Path | Sequence[str | Path], file: str, read: Callable[[Run], pa.Table]
) -> pa.Table:
    """What `read` gives of one run, or of several beneath one another with a column `run`."""
    if isinstance(runs, str | Path):
        return read(_files(runs))
    named = by_name(runs)
    for line in unlike_windows(named):
        warnings.warn(line, stacklevel=4)
    tables = [read(run) for run in named.values()]
    together = pa.concat_tables(tables, promote_options="permissive")
    # Columns that the first does not have, such as other scorers', have come last.
    schema = schema_for(file, together.column_names)
    codes = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table) for table in tables])
    names = pa.DictionaryArray.from_arrays(codes, list(named))
    return conform(together, schema).add_column(0, RUN.with_type(names.type), names)


def by_name(runs: Sequence[str | Path]) -> dict[str, Run]:
    """Runs by the names of their folders, with the folders above where names are the same.

    Raises AutointerpError where there is none, or one is named twice.
    """
    if not runs:
        raise InputError("pass at least one run")
    paths = [_files(run).path.resolve() for run in runs]
    for place, path in enumerate(paths):
        if path in paths[:place]:
            raise InputError(f"{runs[place]} is passed twice")
    parts = 1
    names = [path.name for path in paths]
    while len(set(names)) < len(names):
        parts += 1
        twice = {name for name in names if names.count(name) > 1}
        names = [
            "/".join(path.parts[-parts:]) if name in twice else name
            for name, path in zip(names, paths, strict=True)
        ]
    return {name: Run(Path(run)) for name, run in zip(names, runs, strict=True)}
