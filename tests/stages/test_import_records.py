"""Records that somebody has already become a run, which `label` and `score` go on with."""

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import autointerp
from autointerp.errors import AutointerpError, ConfigurationError, InputError
from autointerp.evidence.store import EvidenceStore
from autointerp.runs.directory import Run
from autointerp.tensors.hashing import file_sha256
from autointerp.vocabulary import Vocabulary
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.records import (
    TRIGGERS,
    dashboard,
    made_records,
    neuron_record,
    neuronpedia_row,
    plain_rows,
    write_lines,
)

FEATURES = (2, 5, 8, 11)
RECORDS = {f: made_records(f, 40, silent=16) for f in FEATURES}
DELPHI = Path(__file__).parent.parent / "data" / "delphi"
POPULATION = [f"population_{m}" for m in ("f1", "precision", "recall", "mcc")]


@pytest.fixture(scope="module")
def neurons(tmp_path_factory) -> Path:
    """In the form of OpenAI's collated activations: a file a neuron."""
    folder = tmp_path_factory.mktemp("neurons") / "3"
    for feature, records in RECORDS.items():
        write_lines(folder / f"{feature}.json", [neuron_record(feature, records)])
    return folder


def frames(run):
    return autointerp.load_labels(run).set_index("feature"), autointerp.load_scores(run)


def evidence_of(run):
    run = Run(run)
    store = EvidenceStore(run.windows, run.features)
    return {e.feature: e for e in store.read(store.features)}, Vocabulary.load(run.vocabulary)


def pieces(window, vocabulary):
    return tuple(vocabulary.token_text(i) for i in window.token_ids)


def test_neuron_records_are_labeled_and_scored(neurons, tmp_path, cli):
    out = str(tmp_path / "run")
    code, printed, said = cli("import", "activations", str(neurons), "--out", out)
    assert (code, printed.strip()) == (0, out)
    assert "224 records of 4 features from 4 files" in said
    assert "scores of the whole corpus will be missing" in said
    assert "no non-activating windows" not in said
    code, printed, said = cli("run", out)
    assert code == 0, said
    assert "collect: imported: " in said
    assert "224 records of 4 features" in " ".join(printed.replace("│", " ").split())
    labels, scores = frames(out)
    assert labels["status"].tolist() == ["labeled"] * 4
    for feature, label in labels["label"].items():
        assert TRIGGERS[feature % len(TRIGGERS)].strip() in label
    assert labels["detection_balanced_accuracy"].tolist() == [1.0] * 4
    assert labels["simulation_correlation"].min() > 0.8
    assert labels["detection_null"].max() < 0.7
    # What cannot be known is missing, neither zero nor not a number.
    table = pq.read_table(f"{out}/labels.parquet")
    for name in ("density", *POPULATION):
        assert table[name].null_count == len(table)
    kept = scores[scores["value"].notna()]["metric"]
    assert not {*POPULATION, "average_precision"} & set(kept)
    written = pq.read_table(f"{out}/features.parquet")
    for name in ("density", "window_density", "coactive", "similar"):
        assert written[name].null_count == len(written)
    for command in (["labels"], ["show", "5"], ["scores"], ["repair"]):
        code, printed, said = cli(*command, out)
        assert code == 0, said
        assert "nan" not in printed.lower()
    for name in ("report", "export csv", "export neuronpedia", "export openai"):
        words = name.split()
        code, _, said = cli(*words, out, *(["--source-id", "6-x"] if len(words) > 1 else []))
        assert code == 0, said
    exported = next(Path(out).rglob("features/batch-0.jsonl.gz"))
    rows = [json.loads(line) for line in gzip.decompress(exported.read_bytes()).splitlines()]
    assert {row["frac_nonzero"] for row in rows} == {None}
    exported = next(Path(out).rglob("activations/batch-0.jsonl.gz"))
    rows = [json.loads(line) for line in gzip.decompress(exported.read_bytes()).splitlines()]
    assert {row["binContains"] for row in rows} == {-1, None}


def test_evidence_is_made_of_the_records(neurons, tmp_path):
    run = autointerp.import_activations(neurons, out=tmp_path / "run", seed=3)
    evidence, vocabulary = evidence_of(run.path)
    assert list(evidence) == list(FEATURES)
    for feature, of_feature in evidence.items():
        sides = {}
        assert np.isnan([of_feature.density, of_feature.window_density]).all()
        assert of_feature.max_activation == np.float32(max(max(r[1]) for r in RECORDS[feature]))
        assert of_feature.n_active == 40
        assert of_feature.top_tokens[0].token == TRIGGERS[feature % len(TRIGGERS)]
        whole = {tuple(t): np.float32(v) for t, v in RECORDS[feature]}
        for window in of_feature.windows:
            assert sides.setdefault(window.context, window.split) == window.split
            shown = pieces(window, vocabulary)
            assert len(shown) == 32
            assert window.text == "".join(shown)
            at = slice(window.start, window.start + 32)
            (values,) = [v[at] for t, v in whole.items() if t[at] == shown]
            assert window.activations.tolist() == values.tolist()
            assert window.fires == (window.kind != "negative")
        kinds = Counter((w.kind, w.split) for w in of_feature.windows)
        assert kinds["negative", "label"] + kinds["negative", "score"] >= 10
        assert min(kinds["top", "label"], kinds["top", "score"]) >= 5


def test_the_record_says_where_it_comes_from(neurons, tmp_path):
    run = Run(autointerp.import_activations(neurons, out=tmp_path / "run").path)
    collected = run.stages().collect
    imported = collected.imported
    assert (imported.format, imported.records, imported.features) == ("openai", 224, 4)
    assert [f.name for f in imported.files] == sorted(f"{f}.json" for f in FEATURES)
    first = neurons / imported.files[0].name
    assert imported.files[0].sha256 == file_sha256(first)
    assert imported.files[0].bytes == first.stat().st_size
    again = Run(autointerp.import_activations(neurons, out=tmp_path / "again").path)
    for name in ("windows", "features", "vocabulary", "corpus"):
        assert getattr(run, name).read_bytes() == getattr(again, name).read_bytes()
    assert set(pq.read_table(run.windows)["sae"].to_pylist()) == {"layer 3"}


@pytest.mark.parametrize("name", ["neuronpedia", "openai", "saedashboard"])
def test_what_was_exported_comes_back(name, finished, tmp_path, cli):
    exported, out = tmp_path / "exported", tmp_path / "run"
    source = ["--source-id", "6-x", "--out", str(exported)]
    assert cli("export", name, str(finished.path), *source)[0] == 0
    more = ["--out", str(out), "--repeats", "none", "--top-windows", "99"]
    code, _, said = cli("import", "activations", str(exported), *more)
    assert code == 0, said
    assert f'"format": "{name}"' in (out / "run.json").read_text()
    before, words = evidence_of(finished.path)
    after, vocabulary = evidence_of(out)
    compared = 0
    for feature, evidence in before.items():

        def shown(windows, vocabulary):
            return {(pieces(w, vocabulary), tuple(w.activations.tolist())) for w in windows}

        written = shown(evidence.of("label", "top", "sample"), words)
        if not written:
            assert feature not in after or not after[feature].of("label", "top", "sample")
            continue
        fires = [w for w in after[feature].windows if w.fires]
        # Nothing is lost: there are fewer of them than are kept.
        assert shown(fires, vocabulary) == written
        if name == "openai":
            silent = [w for w in after[feature].windows if not w.fires]
            assert shown(silent, vocabulary) == shown(evidence.of("label", "negative"), words)
        else:
            assert after[feature].density == pytest.approx(evidence.density, rel=1e-5)
        compared += len(written)
    assert compared > 100
    # Rules learned from the same windows, half of them, are scored on the others.
    assert cli("run", str(out))[0] == 0
    labels = autointerp.load_labels(out).set_index("feature")
    assert (labels["status"] == "labeled").sum() >= 10
    if name == "openai":
        assert labels["detection_balanced_accuracy"].median() > 0.9


def test_formats_agree(neurons, tmp_path):
    rows = [neuronpedia_row(f, *r) for f, records in RECORDS.items() for r in records]
    table = tmp_path / "records.parquet"
    pq.write_table(pa.Table.from_pylist([*plain_rows(RECORDS)]), table)
    sources = {
        "openai": neurons,
        "neuronpedia": write_lines(tmp_path / "r.jsonl.gz", rows[::-1]),
        "saedashboard": write_lines(tmp_path / "batch-0.json", [dashboard(RECORDS)]),
        "plain": table,
    }
    found = {}
    for name, path in sources.items():
        out = autointerp.import_activations(path, out=tmp_path / name, top_windows=99).path
        evidence, vocabulary = evidence_of(out)
        found[name] = {
            (f, w.split, pieces(w, vocabulary), tuple(w.activations.tolist()))
            for f, e in evidence.items()
            for w in e.of("label", "top")
        }
    assert len(found["openai"]) > 60
    assert all(one == found["openai"] for one in found.values())


def test_without_silence_nothing_is_asked_and_nothing_is_zero(tmp_path, cli, monkeypatch):
    """Records no longer than a window that all fire: a judge of windows has nothing to compare."""
    records = {f: made_records(f, 40, silent=0, length=20) for f in FEATURES}
    path = write_lines(tmp_path / "r.jsonl", plain_rows(records))
    out = str(tmp_path / "run")
    code, _, said = cli("import", "activations", str(path), "--out", out)
    assert code == 0, said
    assert "no non-activating windows of 4 features: scores that need them will be miss" in said
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with FakeServer(scripted.answer) as server:
        model = ["--model", "test-model", "--base-url", server.url, "--scorers", "detection"]
        assert cli("label", out, *model)[0] == 0
        asked = len(server.requests)
        assert "active on an unknown % of tokens" in json.dumps(server.requests)
        code, _, said = cli("score", out, *model)
        assert code == 0, said
        assert len(server.requests) == asked
    labels = autointerp.load_labels(out)
    assert labels["status"].tolist() == ["labeled"] * 4
    assert labels["detection_balanced_accuracy"].isna().all()


def test_parts_of_firing_records_serve_where_there_is_no_other_silence(tmp_path, cli):
    records = {f: made_records(f, 40, silent=0, length=120) for f in FEATURES[:2]}
    records[FEATURES[2]] = RECORDS[FEATURES[2]]
    path = write_lines(tmp_path / "r.jsonl", plain_rows(records))
    code, _, said = cli("import", "activations", str(path), "--out", str(tmp_path / "run"))
    assert code == 0, said
    assert "windows of 2 features are parts of records in which they fire elsewhere" in said
    evidence, _ = evidence_of(tmp_path / "run")
    for feature in FEATURES[:2]:
        fires = {w.context: w.split for w in evidence[feature].windows if w.fires}
        silent = [w for w in evidence[feature].windows if not w.fires]
        assert len(silent) > 20
        assert all(fires.get(w.context, w.split) == w.split for w in silent)
    assert cli("run", str(tmp_path / "run"))[0] == 0
    assert autointerp.load_labels(tmp_path / "run")["detection_n"].min() > 10


def test_all_records_may_be_for_labeling(neurons, tmp_path, cli):
    out = str(tmp_path / "run")
    said = cli("import", "activations", str(neurons), "--out", out, "--all-for-labeling")[2]
    assert "all records are for labeling: there are none to score labels on" in said
    code, _, said = cli("run", out)
    assert (code, "all records in" in said) == (2, True)
    assert not (tmp_path / "run/labels.parquet").exists()
    assert cli("label", out)[0] == 0
    assert autointerp.load_labels(out)["status"].tolist() == ["labeled"] * 4
    assert set(pq.read_table(f"{out}/windows.parquet")["split"].to_pylist()) == {"label"}


def test_a_split_and_a_document_that_are_told_are_kept(tmp_path):
    rows = []
    for number, row in enumerate(plain_rows({2: made_records(2, 60, silent=0)})):
        row |= {"document": f"d{number % 6}"}
        rows.append(row | ({"split": "score"} if number % 6 == 5 else {}))
    path = write_lines(tmp_path / "r.jsonl", rows)
    run = autointerp.import_activations(path, out=tmp_path / "run", repeats="none")
    evidence, _ = evidence_of(run.path)
    sides = {}
    for window in evidence[2].windows:
        sides.setdefault(window.context % 6, set()).add(window.split)
    assert all(len(splits) == 1 for splits in sides.values())
    assert sides[5] == {"score"}
    assert len(set(map(tuple, sides.values()))) > 1


def test_token_ids_are_those_of_a_tokenizer(tmp_path):
    row = {"feature": 0, "tokens": [4, 9, 5], "activations": [0, 1, 0]}
    path = write_lines(tmp_path / "r.jsonl", [row])
    subject = DELPHI / "subject"
    run = autointerp.import_activations(path, out=tmp_path / "run", tokenizer=str(subject))
    windows = run.windows(0)
    assert windows["token_ids"].iloc[0].tolist() == [4, 9, 5]
    words = json.loads((subject / "tokenizer.json").read_text())["model"]["vocab"]
    named = {number: word for word, number in words.items()}
    assert windows["text"].iloc[0] == "".join(named[i] for i in (4, 9, 5))


def test_delphis_latents(tmp_path, cli):
    out, folder = str(tmp_path / "run"), DELPHI / "latents" / "layers.1"
    flags = ["--out", out, "--tokenizer", str(DELPHI / "subject")]
    code, _, said = cli("import", "activations", str(folder), *flags, "--min-windows", "1")
    assert code == 0, said
    collected = str(tmp_path / "collected")
    source = ["--cache", str(folder), "--subject", str(DELPHI / "subject")]
    assert cli("collect", collected, *source)[0] == 0
    assert Run(tmp_path / "run").windows.read_bytes() == Run(Path(collected)).windows.read_bytes()
    code, printed, said = cli("run", out, "--min-windows", "1")
    assert code == 0, said
    assert "latents of 60 features from 3 files" in " ".join(printed.replace("│", " ").split())
    labels, _ = frames(out)
    assert labels["density"].notna().all()
    code, _, said = cli("import", "activations", str(folder / "config.json"), "--format", "delphi")
    assert (code, "is not a hook point's folder of Delphi's latents" in said) == (2, True)


def test_what_cannot_be_imported_leaves_no_run(neurons, tmp_path, cli):
    out = tmp_path / "run"
    bad = write_lines(tmp_path / "b.jsonl", [*plain_rows({1: made_records(1, 3)}), "{}"])
    for words, why in (
        ([bad], f"{bad}, line 12: it needs feature, tokens, activations"),
        ([tmp_path / "none"], "no such file or folder"),
        ([neurons, "--format", "html"], "no record format 'html'; there are plain, openai"),
        ([neurons, "--format", "plain"], "it needs feature, tokens, activations"),
        ([neurons, "--sae", "x"], "records are imported as they are: drop --sae"),
        ([neurons, "--window-length", "1"], "window_length"),
        ([bad, DELPHI / "latents/layers.1"], "is a folder of Delphi's: import it alone"),
    ):
        code, printed, said = cli("import", "activations", *map(str, words), "--out", str(out))
        assert (code, printed, why in said) == (2, "", True), said
        assert "Traceback" not in said
        assert not out.exists()
    assert cli("import", "activations", str(bad), "--skip-bad-rows", "--out", str(out))[0] == 0
    assert not list(out.glob(".records*"))
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    code, _, said = cli("import", "activations", str(neurons), "--out", str(out))
    assert (code, "already has evidence: import into another --out" in said) == (2, True)
    for words, why in (
        (["label", str(out), "--sae", "x"], "was imported: drop --sae, or pass another --out"),
        (["run", str(out), "--features", "5"], "not all of them were imported"),
        (["doctor", str(out)], "was imported: it has no activations to read"),
        (["run", str(out), "--control", "random-coder"], "a run of the SAE itself"),
    ):
        code, _, said = cli(*words)
        assert (code, why in said) == (2, True), said
    now = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    assert {**now, ".lock": b""} == {**before, ".lock": b""}
    (out / "corpus.parquet").unlink()
    assert "was imported: import it again" in cli("run", str(out))[2]
    assert "they were imported: import them again" in cli("repair", str(out))[1]


def test_from_python(neurons, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="drop `sae`"):
        autointerp.import_activations(neurons, sae="x")
    with pytest.raises(ConfigurationError, match="did you mean"):
        autointerp.import_activations(neurons, window_lenght=3)
    with pytest.raises(InputError, match="no such file"):
        autointerp.import_activations("nothing.json")
    files = sorted(neurons.iterdir())
    bare = write_lines(tmp_path / "bare.jsonl", plain_rows(RECORDS))
    twice = [autointerp.import_activations(bare, out=f"o{i}", seed=i).path for i in (1, 2)]
    for out in twice:
        assert set(autointerp.run(out=out).labels()["sae"]) == {"bare"}
    with pytest.warns(UserWarning, match="the runs have different windows"):
        assert len(autointerp.compare_runs(*twice)) > 0
    run = autointerp.import_activations(files[:2], name="theirs/layer3")
    assert run.path == Path("outputs/theirs-layer3")
    done = autointerp.run(out=run.path, scorers="detection")
    assert done.labels()["sae"].unique().tolist() == ["theirs/layer3"]
    assert done.summary.density is None
    assert done.summary.scatter == []
    with pytest.raises(AutointerpError, match="already has evidence"):
        autointerp.import_activations(files, name="theirs/layer3")
    shutil.rmtree(run.path)
