"""Runs of a random coder, and labels of other features, on the command line."""

import json
import re

import pandas as pd
import pytest

import autointerp
from tests.coders.test_coder import write_saelens
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.planted import WORDS

RANDOM = ["--control", "random-coder"]
DEMO = ["--subject", "demo", "--text", "demo", "--coder", "demo", "--tokens", "8_192"]


def words(printed):
    return " ".join(printed.replace("│", " ").split())


def test_real_features_score_above_random_ones(cli, tmp_path):
    real, control = tmp_path / "real", tmp_path / "control"
    chosen = [*DEMO, "--features", "random:96", "--scorers", "detection"]
    assert cli("run", *chosen, "--out", str(real))[0] == 0
    code, _, said = cli("run", *chosen, *RANDOM, "--out", str(control))
    assert code == 0, said
    assert "the SAE's: 32" in said
    labels = [autointerp.load_labels(out) for out in (real, control)]
    assert [set(found["sae"]) for found in labels] == [{"demo"}, {"demo+random"}]
    dense = [found["density"].mean() for found in labels]
    assert dense[1] == pytest.approx(dense[0], rel=0.25)
    detection = [found["detection_balanced_accuracy"].median() for found in labels]
    assert detection[0] > detection[1]
    for runs in ((real, control), (control, real)):
        code, printed, said = cli("compare", *map(str, runs), "--metric", "balanced_accuracy")
        assert (code, said) == (0, "")
        shown = words(printed)
        assert f"A: {real} B: {control} B is a control" in shown
        assert "population" not in shown
        assert "control none random-coder" in shown
    code, _, said = cli("compare", str(real), str(control), "--metric", "magic")
    assert code == 2
    assert "the metrics of both runs are auroc, average_precision, balanced_accuracy" in said


@pytest.mark.parametrize("architecture", ["topk", "jumprelu"])
def test_in_several_passes_it_is_the_same_coder(cli, planted, tmp_path, architecture):
    coder = tmp_path / "coder"
    write_saelens(coder, architecture, d_in=len(WORDS), k=3)
    flags = ["--coder", str(coder), "--cache", str(planted.cache), *RANDOM]
    small = ["--corpus-windows", "100", "--score-windows", "20"]
    found = []
    for name, limit in (("one", []), ("several", ["--memory-gb", "0.0006"])):
        code, _, said = cli("collect", *flags, *small, *limit, "--out", str(tmp_path / name))
        assert code == 0, said
        assert ("passes over the activations" in said) == bool(limit)
        found.append(pd.read_parquet(tmp_path / name / "windows.parquet"))
    assert len(found[0]) > 500
    pd.testing.assert_frame_equal(*found)


def test_a_control_has_a_folder_and_a_name_of_its_own(cli, planted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--coder", str(planted.coder), "--cache", str(planted.cache)]
    assert cli("collect", *flags, *RANDOM)[0] == 0
    out = tmp_path / "outputs" / "planted-random-coder"
    record = json.loads((out / "run.json").read_text())
    assert record["config"]["control"] == "random-coder"
    assert record["stages"]["collect"]["control"]["kind"] == "random-coder"
    assert "already done" in cli("collect", *flags, *RANDOM)[2]
    assert "already done" not in cli("collect", *flags, *RANDOM, "--seed", "1")[2]
    code, _, said = cli("collect", *flags, "--out", str(out))
    assert code == 2
    assert "holds a control: give --control random-coder" in said
    assert cli("collect", *flags)[0] == 0
    code, _, said = cli("collect", *flags, *RANDOM, "--out", "outputs/planted")
    assert code == 2
    assert "pass another --out for its control" in said


def test_feature_activations_cannot_be_made_random(cli, tmp_path):
    cache = ["--cache", str(tmp_path / "cache")]
    small = [*DEMO[:-1], "2_048", "--store", "sparse"]
    code, _, said = cli("capture", *small, *cache, *RANDOM)
    assert code == 2
    assert "control random-coder needs activations" in said
    assert cli("capture", *small, *cache)[0] == 0
    code, _, said = cli("collect", *cache, *RANDOM, "--out", str(tmp_path / "out"))
    assert code == 2
    assert "holds feature activations" in said
    assert not (tmp_path / "out").exists()


def test_random_labels_are_a_null_for_every_feature(cli, planted, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setattr("autointerp.stages.score.judged_labels._MIN_NULLS", 2)
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = ["--model", "test-model", "--base-url", server.url, *planted.flags(out)]
        assert "other labels" not in cli("run", *flags)[1]
        nulls = autointerp.load_labels(out)["detection_null"]
        assert nulls.notna().sum() == 2
        code, printed, said = cli("run", *flags, "--control", "random-label")
    assert code == 0, said
    assert "label: already done" in said
    found = autointerp.load_labels(out)
    assert found["detection_null"].notna().sum() == found["label"].notna().sum() == 12
    assert "100.0% of 12 above" in words(printed)
    assert "the 95 % quantile of 12 other labels; AUROC 1.000" in words(printed)


def test_what_chance_gets_is_not_called_another_label(cli, planted, tmp_path):
    """The null of discrimination is 1 / 4, whatever other labels got."""
    out = tmp_path / "out"
    flags = [*planted.flags(out), "--scorers", "detection,discrimination"]
    code, printed, said = cli("run", *flags, "--control", "random-label")
    assert code == 0, said
    told = words(printed)
    assert "discrimination accuracy" in told
    assert "of 12 above 0.250" not in told
    assert "of another feature's label 0.250" not in told
    assert "(by chance 0.250)" in told
    about = cli("labels", "--columns")[1]
    assert re.search(r"^detection_null +float +.* of another feature's label", about, re.MULTILINE)
    assert re.search(r"^intruder_null +float +.*nothing about the feature", about, re.MULTILINE)
