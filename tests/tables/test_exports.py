"""Exports hold what the run holds, in the fields that the peers' own readers know.

scripts/peer_samples/export_readers.py reads exports with those readers (versions in made_by.json)
and has written fields.json. Neuronpedia's tables are those of its schema.prisma at 008d504, the
limits of its upload those that its endpoint checks.
"""

import csv
import gzip
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import autointerp
from autointerp.errors import AutointerpError
from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import Window
from autointerp.runs.directory import Run
from autointerp.tables.exports import export
from autointerp.tables.exports.examples import examples
from autointerp.tables.exports.export_format import EXPORTS
from autointerp.tables.exports.exported import (
    ByFeature,
    ExportedFeature,
    Source,
    number,
    numbers,
    safe_name,
)
from autointerp.tables.exports.spreadsheet import safe_cell
from autointerp.vocabulary import Vocabulary
from tests.conftest import run_command
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.hostile import EVERYTHING, HOSTILE
from tests.support.planted import WORDS, plant

FIELDS = json.loads((Path(__file__).parent.parent / "data/exports/fields.json").read_text())
FOLDERS = [name for name, f in EXPORTS.items() if f.file is None]
NAMES = {"model": "gpt2-small", "source_id": "6-res-jb"}
# Column → what it holds; a question mark: may be null. Columns with a default may be left out.
TABLES = {
    "features": {
        **dict.fromkeys(("modelId", "layer", "index"), "str"),
        **dict.fromkeys(("sourceSetName", "creatorId", "vectorLabel", "hookName"), "str?"),
        **dict.fromkeys(("maxActApprox", "vectorDefaultSteerStrength"), "float?"),
        **dict.fromkeys(("umap_log_feature_sparsity", "umap_x", "umap_y"), "float?"),
        "umap_cluster": "int?",
        "createdAt": "str",
        "hasVector": "bool",
        "frac_nonzero": "float",
        **dict.fromkeys(("neg_str", "pos_str"), "strs"),
        **dict.fromkeys(
            (
                "topkCosSimIndices",
                "neuron_alignment_indices",
                "correlated_neurons_indices",
                "correlated_features_indices",
            ),
            "ints",
        ),
        **dict.fromkeys(
            (
                "vector",
                "topkCosSimValues",
                "neuron_alignment_values",
                "neuron_alignment_l1",
                "correlated_neurons_pearson",
                "correlated_neurons_l1",
                "correlated_features_pearson",
                "correlated_features_l1",
                "neg_values",
                "pos_values",
                "freq_hist_data_bar_heights",
                "freq_hist_data_bar_values",
                "logits_hist_data_bar_heights",
                "logits_hist_data_bar_values",
                "decoder_weights_dist",
            ),
            "floats",
        ),
    },
    "activations": {
        **dict.fromkeys(("id", "index", "layer", "modelId", "creatorId", "createdAt"), "str"),
        **dict.fromkeys(("dataIndex", "dataSource", "logitContributions"), "str?"),
        **dict.fromkeys(("maxValue", "minValue"), "float"),
        **dict.fromkeys(("dfaMaxValue", "binMin", "binMax", "binContains"), "float?"),
        **dict.fromkeys(("dfaTargetIndex", "qualifyingTokenIndex"), "int?"),
        **dict.fromkeys(("values", "dfaValues", "lossValues"), "floats"),
        "maxValueTokenIndex": "int",
        "tokens": "strs",
    },
    "explanations": {
        **dict.fromkeys(("id", "index", "layer", "modelId", "description", "authorId"), "str"),
        **dict.fromkeys(("createdAt", "updatedAt"), "str"),
        **dict.fromkeys(("triggeredByUserId", "notes", "typeName", "explanationModelName"), "str?"),
    },
    "scores": {
        **dict.fromkeys(("id", "initiatedByUserId", "explanationId", "jsonDetails"), "str"),
        **dict.fromkeys(("explanationScoreTypeName", "explanationScoreModelName"), "str"),
        "createdAt": "str",
        "value": "float",
    },
}


def is_of(value, kind):
    if kind.endswith("?"):
        return value is None or is_of(value, kind[:-1])
    if kind.endswith("s"):
        return isinstance(value, list) and all(is_of(v, kind[:-1]) for v in value)
    if kind in ("int", "float"):
        types = int if kind == "int" else (int, float)
        return isinstance(value, types) and not isinstance(value, bool)
    return isinstance(value, {"str": str, "bool": bool}[kind])


@pytest.fixture(scope="module")
def done(planted, tmp_path_factory) -> Path:
    """A whole run of the planted corpus, labeled and judged by the scripted model."""
    out = tmp_path_factory.mktemp("exports") / "run"
    with FakeServer(scripted.answer) as server:
        model = ["--model", "test-model", "--base-url", server.url]
        model += ["--scorers", "detection,simulation,fuzzing"]
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("OPENAI_API_KEY", "k")
            code, _, said = run_command("run", *model, *planted.flags(out))
    assert code == 0, said
    return out


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A run of a hostile corpus whose label table has hostile texts in every column of text."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = [text[:400] for text in HOSTILE.values()]
    corpus = plant(folder, contexts=120, features=14, texts=[*texts, *WORDS[len(texts) :]])
    out = folder / "run"
    code, _, said = run_command("run", *corpus.flags(out))
    assert code == 0, said
    return out


def with_labels(run: Path, out: Path, texts: list[str]) -> Path:
    """A copy of the run with these texts, one after another, in all columns of text."""
    shutil.copytree(run, out)
    table = pq.read_table(out / "labels.parquet")
    texts = (texts * len(table))[: len(table)]
    for name in ("sae", "label", "reason", "labeler", "error", "status"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(texts, pa.string()))
    place = table.column_names.index("top_tokens")
    lists = pa.array([[t, t] for t in texts], pa.list_(pa.string()))
    pq.write_table(table.set_column(place, "top_tokens", lists), out / "labels.parquet")
    return out


def rows(folder: Path) -> list[dict]:
    packed = [f.read_bytes() for f in sorted(folder.glob("batch-*.jsonl.gz"))]
    return [json.loads(line) for p in packed for line in gzip.decompress(p).split(b"\n") if line]


def digest(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    return {str(f.relative_to(path)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def labeled(run: Path) -> pd.DataFrame:
    table = autointerp.load_labels(run).set_index("feature")
    return table[table["label"].notna()]


def label_windows(run: Path, *kinds: str) -> dict[int, list[Window]]:
    store = EvidenceStore(run / "windows.parquet", run / "features.parquet")
    return {e.feature: e.of("label", *kinds) for e in store.read(store.features)}


def test_neuronpedia(done, tmp_path):
    folder = export(Run(done), "neuronpedia", out=tmp_path / "x", **NAMES) / "v1"
    source = folder / "gpt2-small" / "6-res-jb"
    read = {kind: rows(source / kind) for kind in TABLES}
    for kind, table in TABLES.items():
        assert read[kind], kind
        for row in read[kind]:
            assert row.keys() == read[kind][0].keys()  # the importer looks at the first line alone
            wrong = {k: v for k, v in row.items() if not is_of(v, table[k])}
            assert not wrong
    for kind, of_kind in FIELDS["neuronpedia"].items():
        missing = {*of_kind["needed"], *of_kind["looked"]} - read[kind][0].keys()
        assert not missing
    for kind in ("release", "model", "sourceset", "source"):
        assert len((source / f"{kind}.jsonl").read_text().splitlines()) == 1

    statistics = pd.read_parquet(done / "features.parquet").set_index("feature")
    assert [int(r["index"]) for r in read["features"]] == statistics.index.tolist()
    density = np.array([r["frac_nonzero"] for r in read["features"]], np.float32)
    assert (density == statistics["density"].to_numpy()).all()
    fired = [sum(r["freq_hist_data_bar_heights"]) for r in read["features"]]
    assert fired == statistics["n_active"].tolist()

    labels = labeled(done)
    told = {int(r["index"]): r for r in read["explanations"]}
    assert {f: r["description"] for f, r in told.items()} == labels["label"].to_dict()
    assert {r["explanationModelName"] for r in told.values()} == {"test-model"}
    types = [json.loads(t) for t in (folder / "config/explanation_type.jsonl").open()]
    assert {r["typeName"] for r in told.values()} == {t["name"] for t in types}

    detection = {
        r["explanationId"]: r
        for r in read["scores"]
        if r["explanationScoreTypeName"] == "autointerp_detection"
    }
    for feature, row in told.items():
        score = detection[row["id"]]
        column = labels["detection_balanced_accuracy"]
        assert np.float32(score["value"]) == np.float32(column[feature])
        details = json.loads(score["jsonDetails"])
        assert len(details) == labels["detection_n"][feature]
        assert {d["ground_truth"] for d in details} == {True, False}
        for one in details:
            assert one["ground_truth"] == (max(one["activations"]) > 0)
            assert "".join(one["str_tokens"]) == one["text"]
            assert one["correct"] == (one["prediction"] == one["ground_truth"])

    tops, samples = label_windows(done, "top"), label_windows(done, "sample")
    for feature in statistics.index:
        mine = [r for r in read["activations"] if r["index"] == str(feature)]
        top = [r for r in mine if r["binContains"] == -1]
        assert [r["binMin"] for r in top] == [-1] * len(tops[feature])
        for row, window in zip(top, tops[feature], strict=True):
            assert (np.array(row["values"], np.float32) == window.activations).all()
            assert row["maxValue"] == row["values"][row["maxValueTokenIndex"]] == max(row["values"])
            assert "".join(row["tokens"]) == window.text
        assert len(mine) - len(top) == len(samples[feature])
        by_interval = {(r["binMin"], r["binMax"]): r["binContains"] for r in mine if r not in top}
        assert sum(by_interval.values()) <= statistics["density"][feature] * 1.0001
        for row in mine:
            assert row["binContains"] == -1 or row["binMin"] < row["maxValue"] <= row["binMax"]
    identifiers = [
        r["id"] for kind in ("activations", "explanations", "scores") for r in read[kind]
    ]
    assert len(set(identifiers)) == len(identifiers)


def test_what_is_no_yes_or_no_is_not_told_as_one(planted, tmp_path, cli, monkeypatch):
    """Of an intruder the place is judged, and all places are above 0."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    out = tmp_path / "run"
    with FakeServer(scripted.answer) as server:
        model = ["--model", "test-model", "--base-url", server.url]
        scorers = ["--scorers", "fuzzing,intruder,discrimination,fade"]
        code, _, said = cli("run", *planted.flags(out), "--features", "0-5", *model, *scorers)
    assert code == 0, said
    folder = export(Run(out), "neuronpedia", out=tmp_path / "export", **NAMES)
    told = {"autointerp_fuzzing": 0, "autointerp_intruder": 0, "autointerp_fade": 0}
    for row in rows(folder / "v1/gpt2-small/6-res-jb/scores"):
        kind = row["explanationScoreTypeName"]
        told[kind] = told.get(kind, 0) + len(json.loads(row["jsonDetails"]))
    assert told.pop("autointerp_fuzzing") > 0
    assert told == dict.fromkeys(
        ("autointerp_intruder", "autointerp_discrimination", "autointerp_fade"), 0
    )


def test_what_intervals_contain_is_counted(done):
    source = Source(Run(done), "0-3")
    for record in source.records(windows=True):
        shown = [e for e in examples(source, record) if not e.is_top]
        bounds = {(e.low, e.high): e.contains for e in shown}
        for (low, high), contains in bounds.items():
            inside = [
                count
                for edge, count in zip(
                    source.histogram_edges[:-1], record.statistics["histogram"], strict=True
                )
                if low <= edge < high
            ]
            assert contains * source.tokens == pytest.approx(sum(inside))


def test_neuronpedia_upload(done, tmp_path):
    out = export(Run(done), "neuronpedia-upload", out=tmp_path / "x", **NAMES)
    bodies = [json.loads(f.read_text()) for f in sorted(out.iterdir())]
    fields = FIELDS["neuronpedia-upload"]
    assert all(sorted(body) == fields["body"] for body in bodies)
    features = [f for body in bodies for f in body["features"]]
    # The dead feature has no window, and the endpoint takes none without.
    assert [f["index"] for f in features] == [*range(12), 13]
    labels = labeled(done)["label"].to_dict()
    assert {
        f["index"]: f["explanations"][0]["text"] for f in features if f["explanations"]
    } == labels
    assert_uploadable(bodies)


def assert_uploadable(bodies):
    """What the endpoint checks."""
    for body in bodies:
        assert body["modelId"] == body["modelId"].lower()
        assert body["source"] == body["source"].lower()
        assert 1 <= len(body["features"]) <= 128
        for feature in body["features"]:
            assert sorted(feature) == FIELDS["neuronpedia-upload"]["feature"]
            assert 0 <= feature["index"] <= 10_000_000
            assert 0 <= feature["density"] <= 1
            assert len(feature["topLogits"]) <= 20
            assert all(1 <= len(e["text"]) <= 512 for e in feature["explanations"])
            assert feature["activations"]
            for one in feature["activations"]:
                assert set(one) <= set(FIELDS["neuronpedia-upload"]["activation"])
                assert 1 <= len(one["tokens"]) == len(one["values"]) <= 1024
                assert all(one["tokens"])
                assert 0 <= one.get("quantileFraction", 0) <= 1


def test_saedashboard(done, tmp_path):
    out = export(Run(done), "saedashboard", out=tmp_path / "x", **NAMES)
    (batch,) = [json.loads(f.read_text()) for f in out.iterdir()]
    fields = FIELDS["saedashboard"]
    assert sorted(batch) == fields["batch"]
    assert (batch["model_id"], batch["layer"], batch["sae_set"]) == ("gpt2-small", 6, "res-jb")
    tops = label_windows(done, "top")
    for feature in batch["features"]:
        assert sorted(feature) == fields["feature"]
        assert all(sorted(a) == fields["activation"] for a in feature["activations"])
        texts = ["".join(a["tokens"]) for a in feature["activations"] if a["bin_min"] == -1]
        assert texts == [w.text for w in tops[feature["feature_index"]]]


def classes(value):
    """All records within one, by their class."""
    if isinstance(value, list):
        return [found for v in value for found in classes(v)]
    if not isinstance(value, dict):
        return []
    return [(value["dataclass_name"], sorted(value)), *classes(list(value.values()))]


def test_openai(done, tmp_path):
    out = export(Run(done), "openai", out=tmp_path / "x", **NAMES)
    labels = labeled(done)
    told = {int(f.stem): json.loads(f.read_text()) for f in (out / "explanations/6").iterdir()}
    records = {
        int(f.stem): json.loads(f.read_text()) for f in (out / "collated-activations/6").iterdir()
    }
    assert sorted(records) == list(range(14))
    found = classes([*told.values(), *records.values()])
    assert {name for name, _ in found} == FIELDS["openai"].keys()
    assert all(fields == FIELDS["openai"][name] for name, fields in found)
    assert sorted(told) == labels.index.tolist()
    for feature, results in told.items():
        (scored,) = results["scored_explanations"]
        assert scored["explanation"] == labels["label"][feature]
        simulation = scored["scored_simulation"]
        column = labels["simulation_correlation"]
        assert np.float32(simulation["ev_correlation_score"]) == np.float32(column[feature])
        sequences = simulation["scored_sequence_simulations"]
        truth = np.concatenate([s["true_activations"] for s in sequences])
        said = np.concatenate([s["simulation"]["expected_activations"] for s in sequences])
        assert np.corrcoef(truth, said)[0, 1] > 0.5
        record = records[feature]
        quantiles = [len(part) for part in record["random_sample_by_quantile"]]
        assert sum(quantiles) == len(label_windows(done, "sample")[feature])
        assert len(quantiles) == len(record["quantile_boundaries"]) - 1


def test_delphi(done, tmp_path):
    out = export(Run(done), "delphi", out=tmp_path / "x", **NAMES)
    labels = labeled(done)
    # The planted cache says that its hook is "none".
    told = {f.name: json.loads(f.read_text()) for f in (out / "explanations").iterdir()}
    assert told == {f"none_latent{i}.txt": text for i, text in labels["label"].items()}
    assert sorted(p.name for p in (out / "scores").iterdir()) == ["detection", "fuzz"]
    for file in (out / "scores" / "fuzz").iterdir():
        judged = json.loads(file.read_text())
        assert all(sorted(j) == FIELDS["delphi"]["ClassifierOutput"] for j in judged)
        assert {j["activating"] for j in judged} == {True, False}
    for file in (out / "scores" / "detection").iterdir():
        judged = json.loads(file.read_text())
        assert all(sorted(j) == FIELDS["delphi"]["ClassifierOutput"] for j in judged)
        assert all((j["distance"] >= 1) == j["activating"] for j in judged)
        # What Delphi makes of them is what we do.
        rates = [
            np.mean([j["prediction"] == fires for j in judged if j["activating"] == fires])
            for fires in (True, False)
        ]
        feature = int(file.stem.rpartition("latent")[2])
        expected = labels["detection_balanced_accuracy"][feature]
        assert len(judged) == labels["detection_n"][feature]
        assert np.mean(rates) == pytest.approx(expected, abs=0.1)


def test_lines_and_cells_are_the_label_table(done, tmp_path):
    table = pq.read_table(done / "labels.parquet").to_pylist()
    lines = export(Run(done), "jsonl", out=tmp_path / "x.jsonl").read_text().splitlines()
    for line, row in zip(lines, table, strict=True):
        read = json.loads(line)
        assert read.keys() == row.keys()
        for name, value in row.items():
            same = np.float32(read[name]) == np.float32(value) if isinstance(value, float) else None
            assert same if same is not None else read[name] == value
    with export(Run(done), "csv", out=tmp_path / "x.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [c["label"] for c in cells] == [r["label"] or "" for r in table]
    assert [c["detection_n"] for c in cells] == [
        "" if r["detection_n"] is None else str(r["detection_n"]) for r in table
    ]
    assert [c["top_tokens"].split() for c in cells] == [
        " | ".join(r["top_tokens"]).split() for r in table
    ]


@pytest.mark.parametrize("format_name", EXPORTS)
def test_an_export_is_the_same_each_time_and_of_the_features_selected(
    format_name, done, tmp_path, monkeypatch
):
    whole = export(Run(done), format_name, out=tmp_path / "a", **NAMES)
    monkeypatch.setattr("autointerp.tables.exports.exported._CHUNK", 3)
    assert digest(export(Run(done), format_name, out=tmp_path / "b", **NAMES)) == digest(whole)
    part = export(Run(done), format_name, "3-5", tmp_path / "c", **NAMES)
    assert sum(map(len, digest(part))) <= sum(map(len, digest(whole)))
    assert digest(part) != digest(whole)


def test_exports_do_not_overwrite_and_leave_nothing_half_done(done, tmp_path, cli, monkeypatch):
    out = tmp_path / "x"
    arguments = ["--run", str(done), "--out", str(out)]
    assert cli("export", "csv", *arguments)[0] == 0
    before = out.read_bytes()
    code, _, said = cli("export", "csv", *arguments)
    assert (code, out.read_bytes()) == (2, before)
    assert "already exists: remove it, or choose another --out" in said
    out.unlink()
    code, _, said = cli("export", "saedashboard", *arguments)
    assert code == 2
    assert "--source-id LAYER-NAME" in said
    code, _, said = cli("export", "saedashboard", *arguments, "--source-id", "../6-x")
    assert code == 2
    assert "is not of the form LAYER-NAME" in said
    code, _, said = cli("export", "html", *arguments)
    assert code == 2
    assert "neuronpedia-upload, saedashboard" in said
    code, _, said = cli("export", "csv", *arguments, "--features", "99")
    assert code == 2
    assert "none of them was collected" in said
    assert list(tmp_path.iterdir()) == []
    assert cli("export", "csv", "--run", str(done), "--features", "random:3")[0] == 0
    assert len((done / "exports/labels.csv").read_text().splitlines()) == 4


def test_a_run_that_has_evidence_alone(done, tmp_path):
    bare = tmp_path / "run"
    shutil.copytree(done, bare)
    for name in ("labels", "drafts", "scores", "predictions"):
        (bare / f"{name}.parquet").unlink()
    for name in FOLDERS:
        assert export(Run(bare), name, out=tmp_path / name, **NAMES).is_dir()
    assert rows(tmp_path / "neuronpedia/v1/gpt2-small/6-res-jb/explanations") == []
    with pytest.raises(AutointerpError, match=r"no labels: .*run `autointerp label` first"):
        export(Run(bare), "csv", out=tmp_path / "x.csv")


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def test_hostile_texts_stay_within_their_fields(hostile, tmp_path):
    texts = list(HOSTILE.values())
    for begin in range(0, len(texts), 14):
        part = texts[begin : begin + 14]
        run = Run(with_labels(hostile, tmp_path / f"run{begin}", part))
        for name in EXPORTS:
            out = export(run, name, out=tmp_path / f"{name}{begin}", source_id="1-x")
            files = [out] if out.is_file() else [f for f in out.rglob("*") if f.is_file()]
            for file in files:
                assert file.resolve().is_relative_to(tmp_path / f"{name}{begin}")
                if name == "csv":
                    assert_calm_cells(file, 14)
                    continue
                data = file.read_bytes()
                data = gzip.decompress(data) if file.suffix == ".gz" else data
                lines = data.decode("ascii").split("\n") if "jsonl" in file.name else [data]
                for value in map(json.loads, filter(None, lines)):
                    if name.startswith("neuronpedia"):
                        assert not any("\0" in s for s in strings(value))
        bodies = tmp_path / f"neuronpedia-upload{begin}"
        told = [json.loads(f.read_text()) for f in bodies.iterdir()]
        assert_uploadable(told)


def assert_calm_cells(file, features):
    with file.open(newline="", encoding="utf-8") as opened:
        cells = list(csv.reader(opened))
    assert len(cells) == features + 1
    for cell in (c for row in cells for c in row):
        assert cell.isprintable()
        assert not cell.startswith(("=", "@", "\t", "\r", "|"))
        if cell.startswith(("+", "-")):
            float(cell)


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_cell_is_no_formula(name):
    for text in (EVERYTHING[name], "=" + EVERYTHING[name], "\t\r -1+" + EVERYTHING[name]):
        cell = safe_cell(text)
        assert cell.isprintable()
        assert not cell.startswith(("=", "+", "-", "@"))
        assert len(cell) <= 32_001


@given(st.text())
def test_names_stay_in_their_folder(text):
    name = safe_name(text)
    assert 0 < len(name) <= 80
    assert not set(name) & set("/\\\0")
    assert not name.startswith(".")
    assert (Path("a") / name).name == name


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_numbers_read_back_the_same(values):
    assert numbers(values) == [number(v) for v in values]
    assert (np.array(numbers(values), np.float32) == np.array(values, np.float32)).all()


def test_a_table_that_is_not_sorted_is_read_by_feature(tmp_path):
    rng = np.random.default_rng(0)
    feature = rng.integers(0, 50, 400)
    nested = [[{"a": 1, "b": 2}]] * 400
    table = pa.table({"lists": nested, "feature": pa.array(feature, pa.int32()), "n": range(400)})
    pq.write_table(table, tmp_path / "labels.parquet", row_group_size=30)
    reader = ByFeature(tmp_path / "labels.parquet")
    for part in ([3, 4, 9], [10], [48, 49, 60]):
        found = reader.rows(part)
        for one in part:
            expected = np.flatnonzero(feature == one).tolist()
            assert [row["n"] for row in found.get(one, [])] == expected


def test_windows_with_activations_that_are_no_numbers_are_counted(done, tmp_path, cli):
    run = tmp_path / "run"
    shutil.copytree(done, run)
    table = pq.read_table(run / "windows.parquet")
    values = table["activations"].to_pylist()
    values[0] = [float("inf")] * len(values[0])
    values[1] = [float("nan")] * len(values[1])
    place = table.column_names.index("activations")
    table = table.set_column(place, "activations", pa.array(values, pa.list_(pa.float32())))
    pq.write_table(table, run / "windows.parquet")
    for name in FOLDERS:
        out = ["--out", str(tmp_path / name), "--source-id", "1-x"]
        code, _, said = cli("export", name, "--run", str(run), *out)
        assert code == 0
        assert "dropped 2 windows with an activation that is not a number" in said


def test_a_character_over_several_tokens_leaves_an_empty_one(done):
    vocabulary = Vocabulary((b"\xe2\x82", b"\xac"), frozenset())
    source = Source(Run(done), "0", "m", "1-x")
    source.__dict__["vocabulary"] = vocabulary
    window = Window(
        "top", "label", 0, 0, 0, 1, np.array([0, 1], np.int32), np.array([0, 1], np.float32), "€"
    )
    from autointerp.tables.exports.neuronpedia_upload import _activations

    record = ExportedFeature(0, {"max_activation": 1.0, "histogram": [0] * 52}, {}, [window])
    assert _activations(source, record) == [{"tokens": ["\ufffd", "€"], "values": [0.0, 1.0]}]
