"""Tables of other versions: those of the first read as ours, those of a newer one are refused."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import autointerp
from autointerp.errors import AutointerpError
from autointerp.evidence.store import EvidenceStore
from autointerp.storage.columns import SCHEMA_VERSION
from autointerp.tables.migrate import current, schema_for

# A run of the demo's first three features, written by the first version (commit e138f6a).
FIRST = Path(__file__).parent / "version1"
FILES = ("labels", "scores", "predictions", "windows", "features")


@pytest.mark.parametrize("name", FILES)
def test_tables_of_the_first_version_have_the_columns_of_this_one(name):
    path = FIRST / f"{name}.parquet"
    written = pq.read_table(path)
    read = current(written, path)
    assert read.schema.names == schema_for(path.name, written.column_names).names
    assert read.schema.metadata[b"schema_version"] == SCHEMA_VERSION.encode()
    # All that was written is there, and nothing else but one column that follows from it.
    for column in read.column_names:
        if column in written.column_names:
            assert read[column].to_pylist() == written[column].to_pylist()
        elif column != "stratum":
            assert read[column].null_count == len(read)
    assert len(set(read.column_names) - set(written.column_names)) > 0


def test_runs_of_the_first_version_are_read_as_any(cli):
    labels = autointerp.load_labels(FIRST)
    assert labels["status"].tolist() == ["too_few", "labeled", "labeled"]
    assert labels["shares_label"].isna().all()
    scores = autointerp.load_scores(FIRST)
    assert set(scores["metric"]) >= {"balanced_accuracy", "population_f1", "correlation"}
    strata = autointerp.load_strata(FIRST)
    # At what strength a window fires was not noted, nor what kind of silent window it is.
    assert set(strata["stratum"]) == {"negative"}
    predictions = pq.read_table(FIRST / "predictions.parquet").to_pandas()
    silent = predictions[(predictions["scorer"] == "detection") & (predictions["truth"] == 0)]
    assert strata["n"].sum() == len(silent)
    assert len(autointerp.load_windows(FIRST, 1)) > 0
    evidence = next(EvidenceStore(FIRST / "windows.parquet", FIRST / "features.parquet").read([1]))
    assert evidence.coactive == evidence.similar == []
    assert {w.quantile for w in evidence.windows} == {None}


@pytest.mark.parametrize("name", FILES)
def test_a_newer_version_is_refused_in_one_line(tmp_path, name):
    for file in FIRST.glob("*.parquet"):
        shutil.copy(file, tmp_path)
    path = tmp_path / f"{name}.parquet"
    table = pq.read_table(path)
    newer = str(int(SCHEMA_VERSION) + 1)
    pq.write_table(table.replace_schema_metadata({"schema_version": newer}), path)
    read = {
        "labels": autointerp.load_labels,
        "scores": autointerp.load_scores,
        "predictions": autointerp.load_strata,
        "windows": lambda run: autointerp.load_windows(run, 1),
        "features": lambda run: list(
            EvidenceStore(run / "windows.parquet", run / "features.parquet").read([1])
        ),
    }[name]
    with pytest.raises(
        AutointerpError, match=r"newer autointerp .*: upgrade autointerp"
    ) as refused:
        read(tmp_path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
