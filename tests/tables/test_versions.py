"""Tables of other versions: those of the first read as ours, those of a newer one are rejected."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import autointerp
from autointerp.errors import AutointerpError
from autointerp.evidence.store import EvidenceStore
from autointerp.report.overview import overview
from autointerp.runs.directory import Run
from autointerp.storage.columns import SCHEMA_VERSION
from autointerp.tables.migrate import current, open_table, schema_for

# A run of the demo's first three features, written by the first version (commit e138f6a).
FIRST = Path(__file__).parent / "version1"
# A run by the last of version 2's code.
SECOND = Path(__file__).parents[1] / "data" / "before" / "model"
FILES = ("labels", "scores", "predictions", "windows", "features")


@pytest.mark.parametrize("name", FILES)
def test_tables_of_the_first_version_have_the_columns_of_this_one(name):
    path = FIRST / f"{name}.parquet"
    written = pq.read_table(path)
    read = current(written, path)
    assert read.schema.names == schema_for(path.name, written.column_names).names
    assert read.schema.metadata[b"schema_version"] == SCHEMA_VERSION.encode()
    # All that was written is there, and nothing else but one column that follows from it.
    written = written.rename_columns([{"coder": "sae"}.get(n, n) for n in written.column_names])
    for column in read.column_names:
        if column in written.column_names:
            assert read[column].to_pylist() == written[column].to_pylist()
        elif column != "stratum":
            assert read[column].null_count == len(read)
    assert len(set(read.column_names) - set(written.column_names)) > 0


@pytest.mark.parametrize("name", FILES)
def test_the_column_coder_of_version_2_is_read_as_sae(tmp_path, name):
    """However a table is read: whole, by columns, in batches, in row groups."""
    path = SECOND / f"{name}.parquet"
    written = pq.read_table(path)
    assert written.schema.metadata[b"schema_version"] == b"2"
    names, features = written["coder"].to_pylist(), written["feature"].to_pylist()
    assert set(names) == {"layers.1"}
    whole = current(written, path)
    assert whole["sae"].to_pylist() == names
    assert "coder" not in whole.column_names
    file = open_table(path)
    assert "coder" not in file.schema_arrow.names
    assert file.read()["sae"].to_pylist() == names
    assert file.read(["feature", "sae"]).to_pydict() == {"feature": features, "sae": names}
    groups = list(range(file.metadata.num_row_groups))
    assert file.read_row_groups(groups, ["sae"])["sae"].to_pylist() == names
    assert file.read_row_group(0).column_names == file.schema_arrow.names
    batches = list(file.iter_batches(3, ["sae"]))
    assert [value for batch in batches for value in batch["sae"].to_pylist()] == names


def test_a_run_of_version_2_is_shown_and_exported_as_any(tmp_path, cli):
    assert set(autointerp.load_labels(SECOND)["sae"]) == {"layers.1"}
    assert set(autointerp.load_scores(SECOND)["sae"]) == {"layers.1"}
    feature = int(autointerp.load_labels(SECOND)["feature"][0])
    assert set(autointerp.load_windows(SECOND, feature)["sae"]) == {"layers.1"}
    code, printed, said = cli("labels", str(SECOND))
    assert code == 0, said
    assert "– " in printed  # the density of windows was not in the table
    assert "F1: of windows of" in printed
    assert autointerp.load_labels(SECOND)["window_density"].isna().all()
    assert autointerp.load_labels(SECOND)["request"].isna().all()
    store = EvidenceStore(SECOND / "windows.parquet", SECOND / "features.parquet")
    assert {row["sae"] for row in store.statistics.values()} == {"layers.1"}
    assert overview(Run(SECOND)).sae == "layers.1"
    code, _, said = cli("export", "jsonl", str(SECOND), "--out", str(tmp_path / "labels.jsonl"))
    assert code == 0, said
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert {row["sae"] for row in rows} == {"layers.1"}
    assert not any("coder" in row for row in rows)


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
