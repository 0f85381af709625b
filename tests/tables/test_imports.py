"""Labels from elsewhere become a run's labels, and are scored as its own would be."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import autointerp
from autointerp.errors import AutointerpError
from autointerp.runs.directory import Run
from autointerp.stages.label.import_labels import import_labels
from autointerp.tables.foreign_labels import MAX_LABEL, Foreign, ImportedLabels, of_one_labeler
from tests.conftest import run_command
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.hostile import EVERYTHING


@pytest.fixture(scope="module")
def collected(planted, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("imports") / "run"
    code, _, said = run_command("collect", *planted.flags(out))
    assert code == 0, said
    return out


@pytest.fixture
def run(collected, tmp_path) -> Path:
    return Path(shutil.copytree(collected, tmp_path / "run"))


def row(index, text, **others):
    return {
        "modelId": "m",
        "layer": "6-x",
        "index": index,
        "description": text,
        "typeName": "np_max-act",
        "explanationModelName": "gpt-x",
        "createdAt": "2025-01-01T00:00:00.000Z",
        "id": "c1",
    } | others


def write_rows(folder, rows, name="batch-0.jsonl.gz"):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    (folder / name).write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


def table(run):
    return autointerp.load_labels(run).set_index("feature")


def test_neuronpedias_labels_are_scored_and_compared(planted, run, tmp_path, cli, monkeypatch):
    right = [row(i if i % 2 else str(i), planted.rule(i)) for i in range(11)]
    more = [
        row(3, "an older one", createdAt="2024-01-01T00:00:00.000Z"),
        row(99, "of another coder"),
        row(12, "of a dead feature"),
        row(13, "of one that fires too little"),
        row(-1, "of no feature"),
        row(True, "of no feature"),
        "no JSON",
        "[" * 100_000,
        json.dumps({"index": 3}),
    ]
    folder = write_rows(tmp_path / "v1/m/6-x/explanations", right + more)
    code, _, said = cli("import", "neuronpedia", str(tmp_path / "v1"), "--run", str(run))
    assert code == 0, said
    assert "11 of 14 features labeled by neuronpedia:gpt-x/np_max-act" in said
    for count, why in (
        (1, "older labels of the same feature"),
        (3, "rows are not explanations"),
        (2, "rows have no index"),
        (1, "labels are of features that were not collected in this run"),
        (2, "labels are of features that fire too little here to be scored"),
    ):
        assert f"import: {count} {why}" in said
    labels = table(run)
    assert labels["status"].tolist() == ["labeled"] * 11 + ["failed", "dead", "too_few"]
    assert labels["label"].tolist()[:11] == [planted.rule(i) for i in range(11)]
    assert set(labels["labeler"]) == {"neuronpedia:gpt-x/np_max-act"}
    assert labels.loc[11, "error"] == "it has no label there"

    code, _, said = cli("score", *planted.flags(run))
    assert code == 2
    assert "needs --model" in said
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    own = tmp_path / "own"
    with FakeServer(scripted.answer) as server:
        model = ["--model", "test-model", "--base-url", server.url]
        assert cli("score", *model, *planted.flags(run))[0] == 0
        code, _, said = cli("run", *model, *planted.flags(run))
        assert code == 2
        assert f"were imported from {tmp_path / 'v1'}: score them" in said
        assert cli("run", *model, *planted.flags(own))[0] == 0
    scored = table(run)
    assert scored["label"].equals(labels["label"])
    assert scored["detection_balanced_accuracy"].notna().sum() == 11
    assert scored["detection_balanced_accuracy"].min() >= 0.95
    assert scored["detection_null"].median() == pytest.approx(0.5, abs=0.1)
    assert cli("compare", str(run), str(own))[0] == 0
    paired = autointerp.compare_runs(run, own)
    assert len(paired) > 0

    before = {f.name: f.read_bytes() for f in run.iterdir() if f.is_file()}
    for labeled in (run, own):
        code, _, said = cli("import", "neuronpedia", str(folder), "--run", str(labeled))
        assert code == 2
        assert "already has labels: import into a separate run" in said
    assert {f.name: f.read_bytes() for f in run.iterdir() if f.is_file()} == before


def test_delphis_labels(planted, run, tmp_path, cli):
    folder = tmp_path / "results" / "explanations"
    folder.mkdir(parents=True)
    for feature in range(12):
        text = planted.rule(feature) if feature else "Explanation could not be parsed."
        (folder / f"layers.6_latent{feature}.txt").write_text(json.dumps(text))
    (folder / "layers.6_latent99.txt").write_text('"x"')
    (folder / "notes.txt").write_text("no explanation")
    (tmp_path / "results/run_config.json").write_text('{"explainer_model": "org/explainer"}')
    code, _, said = cli("import", "delphi", str(tmp_path / "results"), "--run", str(run))
    assert code == 0, said
    assert "11 of 14 features labeled by delphi:org/explainer/layers.6" in said
    assert "1 files are not explanations" in said
    labels = table(run)
    assert labels["label"].tolist()[1:12] == [planted.rule(i) for i in range(1, 12)]
    assert labels["label"].isna().sum() == 3


@pytest.mark.parametrize("format_name", ["neuronpedia", "delphi"])
def test_what_was_exported_comes_back(format_name, planted, run, tmp_path, cli):
    first = tmp_path / "first"
    shutil.copytree(run, first)
    assert cli("label", *planted.flags(first))[0] == 0
    out = ["--out", str(tmp_path / "exported"), "--source-id", "6-x"]
    assert cli("export", format_name, "--run", str(first), *out)[0] == 0
    assert cli("import", format_name, str(tmp_path / "exported"), "--run", str(run))[0] == 0
    pd.testing.assert_series_equal(table(run)["label"], table(first)["label"])


def test_one_labeler_is_taken(run, tmp_path, cli):
    rows = [
        row(0, "of one", typeName="a"),
        row(0, "of two", typeName="b"),
        row(1, "2", typeName="b"),
    ]
    folder = write_rows(tmp_path / "explanations", rows)
    at = ["neuronpedia", str(folder), "--run", str(run)]
    code, _, said = cli("import", *at)
    assert code == 2
    assert "has labels by gpt-x/a, gpt-x/b: choose one with --only" in said
    code, _, said = cli("import", *at, "--only", "gpt-x/c")
    assert code == 2
    assert "has no labels by gpt-x/c, only by gpt-x/a, gpt-x/b" in said
    assert cli("import", *at, "--only", "gpt-x/b")[0] == 0
    assert table(run)["label"].tolist()[:2] == ["of two", "2"]


def test_what_cannot_be_imported_leaves_the_run_as_it_was(run, tmp_path):
    two = [row(0, "x"), row(0, "x", layer="7-x")]
    wrong = {
        "several sources": write_rows(tmp_path / "a" / "explanations", two).parent,
        "no labels in this format": write_rows(tmp_path / "b" / "features", [row(0, "x")]).parent,
        "no such file": tmp_path / "c",
        "cannot be read": tmp_path / "d.jsonl.gz",
        "line of over": write_rows(tmp_path / "e" / "explanations", ["x" * (1 << 22)]).parent,
    }
    cut = gzip.compress(json.dumps(row(0, "x" * 1000)).encode())[:60]
    wrong["cannot be read"].write_bytes(cut)
    before = (run / "run.json").read_bytes()
    for says, path in wrong.items():
        with pytest.raises(AutointerpError, match=says):
            import_labels(Run(run), "neuronpedia", path)
    with pytest.raises(AutointerpError, match="is not a Delphi folder"):
        import_labels(Run(run), "delphi", wrong["cannot be read"])
    with pytest.raises(
        AutointerpError, match="no import format 'html'; there are neuronpedia, delphi"
    ):
        import_labels(Run(run), "html", tmp_path)
    assert (run / "run.json").read_bytes() == before
    assert not (run / "labels.parquet").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(AutointerpError, match="no evidence in"):
        import_labels(Run(tmp_path / "empty"), "neuronpedia", wrong["several sources"])


@pytest.mark.parametrize("name", EVERYTHING)
def test_imported_labels_are_one_plain_line(name):
    found = ImportedLabels([Foreign(0, EVERYTHING[name], "l"), Foreign(1, "plain", "l")])
    _, texts = of_one_labeler(found, Path("x"), None)
    assert texts[1] == "plain"
    if 0 in texts:
        assert 0 < len(texts[0]) <= MAX_LABEL
        assert texts[0].isprintable()
        assert texts[0] == " ".join(texts[0].split())
    else:
        assert found.unreadable["labels are empty"] == 1


def test_hostile_labels_and_labelers_reach_a_table(run, tmp_path, cli):
    rows = [row(i % 12, text, id=str(i)) for i, text in enumerate(EVERYTHING.values())]
    rows = [r | {"explanationModelName": EVERYTHING["color"] + "\n"} for r in rows]
    folder = write_rows(tmp_path / "explanations", rows)
    code, printed, said = cli("import", "neuronpedia", str(folder), "--run", str(run))
    assert code == 0, said
    assert "neuronpedia:red /np_max-act" in said
    assert (printed + said).replace("\n", "").isprintable()
    labels = table(run)["label"]
    assert labels.notna().sum() == 12
    assert np.all([text.isprintable() for text in labels.dropna()])
