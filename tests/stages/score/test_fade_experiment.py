"""FADE on the command line: with the demo's subject model, and where there is none."""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import autointerp
from autointerp.metrics.metrics import average_precision
from autointerp.prompting.prompts import BUNDLED
from autointerp.scoring.scorers import fade, fade_measures
from tests.support import scripted
from tests.support.fake_server import FakeServer, status

# On '#' and on a g that begins a word or a piece of one. Ten times its maximum, the first writes #.
FEATURES = {345: "#", 195: "g"}
# So little text is split by context: its documents would be too few.
DEMO = ["--subject", "demo", "--coder", "demo", "--tokens", "8192", "--split", "context"]
FEW = ["--fade-factors", "10", "--fade-continuations", "8", "--fade-texts", "8"]


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")


def answer(request):
    system, user = (m["content"] for m in request["messages"][:2])
    if '"labels"' in system:
        token = "#" if "'#'" in re.search(r"most often on (.*)", user)[1] else "g"
        return json.dumps(
            {"labels": [{"n": 1, "label": token, "reason": "", "confidence": 1, "meanings": []}]}
        )
    word = re.search(r"^Description: (.*)$", user, re.MULTILINE)[1]
    if '"texts"' in system:
        number = int(re.search(r"^Texts to write: (\d+)$", user, re.MULTILINE)[1])
        texts = [f"x{i} = {i}\n    {word} item{i}" for i in range(number)]
        return json.dumps({"texts": [{"text": text} for text in texts]})
    lines = re.findall(r"^(\d+)\. (.*)$", user, re.MULTILINE)
    clear = [int(n) for n, text in lines if re.search(rf"(?<!\w){re.escape(word)}", text)]
    rest = [int(n) for n, _ in lines if int(n) not in clear]
    return json.dumps({"clear": clear, "partly": [], "none": rest})


def model_flags(server):
    return ["--model", "test-model", "--base-url", server.url, "--scorers", "fade"]


def test_a_killed_run_on_the_demo_pays_once_and_finds_what_features_stand_for(cli, tmp_path):
    out, text = tmp_path / "out", tmp_path / "text.txt"
    text.write_text(Path(tarfile.__file__).read_text())

    def no_more(request, _seen, _index):
        """The endpoint gives out when the first text that the subject model wrote is rated."""
        asked = [r["messages"][0]["content"] for r in server.requests]
        rates = '"partly"' in request["messages"][0]["content"]
        return status(401) if rates and any('"texts"' in a for a in asked) else None

    with FakeServer(answer, faults=no_more) as server:
        flags = [*DEMO, *FEW, "--features", ",".join(map(str, FEATURES)), "--out", str(out)]
        flags += ["--text", str(text)]
        flags += [*model_flags(server), "--features-per-request", "1"]
        assert cli("collect", *flags)[0] == 0
        _, _, said = cli("run", *flags, "--dry-run")
        counted = int(re.search(r"score: (\d+) requests", said)[1])
        code, _, said = cli("run", *flags)
        assert code == 2, said
        written = {p.name: p.stat().st_mtime_ns for p in (out / "fade").glob("steered-*")}
        assert len(written) == 2
        assert autointerp.load_labels(out)["fade_clarity"].notna().all()
        assert "fade_faithfulness" not in set(autointerp.load_scores(out)["metric"])

        server.faults = None
        code, _, said = cli("run", *flags)
        assert code == 0, said
        assert max(server.served.values()) == 1
        assert sum(server.served.values()) == counted + len(FEATURES)
        assert {p.name: p.stat().st_mtime_ns for p in (out / "fade").glob("steered-*")} == written
        assert "score: already done" in cli("run", *flags)[2]

        # Other texts make another clarity, so what asks for them is not to be changed unnoticed.
        prompts = tmp_path / "prompts"
        prompts.mkdir()
        source = (BUNDLED / "fade_texts.jinja").read_text()
        (prompts / "fade_texts.jinja").write_text(source + "{# #}")
        code, _, said = cli("run", *flags, "--prompts", str(prompts))
        assert code == 0, said
        assert "score: already done" not in said

    labels = autointerp.load_labels(out).set_index("feature")
    assert labels["label"].to_dict() == FEATURES
    scores = autointerp.load_scores(out).set_index(["feature", "metric"])
    clarity = scores.xs("fade_clarity", level="metric")
    assert (clarity["n"] == 8).all()
    assert (clarity["parse_rate"] == 1).all()
    assert clarity.loc[195, "value"] > 0.8
    assert clarity.loc[195, "null_value"] < 0.5
    assert clarity.loc[345, "value"] > clarity.loc[345, "null_value"]
    assert scores.loc[(345, "purity"), "value"] > 0.9
    faithful = scores.loc[(345, "fade_faithfulness")]
    assert faithful["value"] > 0.6
    assert faithful["n"] == 16
    assert labels.loc[345, "fade_faithfulness"] == faithful["value"]
    assert labels["fade_clarity_ci_low"].notna().all()
    texts = pd.read_parquet(out / "fade" / "texts.parquet")
    assert texts.groupby("feature").size().tolist() == [8, 8]
    assert (texts["activation"] > 0).mean() > 0.5


def test_without_a_subject_model_two_measures_are_missing_and_said(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = [*planted.flags(out), *model_flags(server)]
        code, _, said = cli("run", *flags)
        assert code == 0, said
    reason = "a cache was read, and they need the subject model"
    assert said.count(f"fade_clarity and fade_faithfulness will be missing: {reason}") == 1
    assert not (out / "fade").exists()
    labels = autointerp.load_labels(out)
    labeled = labels[labels["status"] == "labeled"]
    assert labeled["fade_purity"].min() > 0.95
    assert labeled["fade_responsiveness"].min() > 0.9
    assert labeled["fade_null"].median() < 0.8
    assert labels[["fade_clarity", "fade_faithfulness"]].isna().all().all()
    scores = autointerp.load_scores(out)
    assert set(scores["metric"]) == {
        "purity",
        fade.RESPONSIVENESS,
        "fade_population_purity",
        "fade_population_responsiveness",
    }
    record = json.loads((out / "run.json").read_text())["stages"]["score"]["experiments"]["fade"]
    assert list(record["missing"]) == [fade_measures.CLARITY, fade_measures.FAITHFULNESS]
    # The predictions hold what the metrics come from.
    rows = pd.read_parquet(out / "predictions.parquet")
    rows = rows[(rows["feature"] == 0) & (rows["label_of"] == 0)]
    fires = rows["stratum"] == "fires"
    assert (rows.loc[fires, "truth"] > 0).all()
    assert (rows.loc[~fires, "truth"] == 0).all()
    firing = rows[fires]
    assert average_precision(
        (firing["prediction"] == fade_measures.SHOWN).to_numpy(), firing["truth"].to_numpy()
    ) == pytest.approx(1)


def test_rules_rate_windows_and_write_nothing(cli, planted, tmp_path):
    out = tmp_path / "out"
    code, _, said = cli("run", *planted.flags(out), "--scorers", "fade")
    assert code == 0, said
    assert "will be missing: rules write no texts" in said
    labels = autointerp.load_labels(out)
    assert labels["fade_purity"].dropna().min() > 0.9
    assert labels["fade_clarity"].isna().all()


@pytest.mark.parametrize("factors", ["", "0,1", "one", "nan", "inf"])
def test_factors_are_numbers_other_than_0(cli, factors):
    code, _, said = cli("run", "--fade-factors", factors)
    assert code == 2
    assert "give numbers other than 0" in said


def test_separation_does_not_ask_which_lie_higher():
    for sign in (1, -1):
        found = fade_measures.clarity(sign * np.array([3.0, 2.0]), sign * np.array([1.0]), seed=0)
        assert found.value == pytest.approx(1)


def test_an_interval_reaches_down_to_no_separation_where_there_is_none():
    rng = np.random.default_rng(0)
    drawn = [fade_measures.clarity(rng.random(15), rng.random(200), seed=0) for _ in range(60)]
    assert np.mean([found.ci_low == 0 for found in drawn]) >= 0.9
