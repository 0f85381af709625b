import json
import shutil
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import autointerp
from autointerp.config.settings import RunConfig
from autointerp.stages.collect.collect_stage import TRIED_WINDOWS
from autointerp.stages.label.triage import is_good
from tests.conftest import run_command
from tests.support import scripted
from tests.support.fake_server import FakeServer, status
from tests.support.planted import WORDS, plant, plant_coder

TIER = ["--tier", "lexical-first"]
ONE_WORD, TWO_WORDS, HIDDEN, DEAD = [0, 1], [2], [3, 4, 5], [6]


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Features of words, which rules explain, and features of strong tokens, which no text tells.

    4 fires on the strong tokens that 3 fires on and on some more, 5 on those of half the words.
    """
    folder = tmp_path_factory.mktemp("tier")
    corpus = plant(folder, contexts=1800, seed=3)
    everything = tuple(WORDS)
    words = [("bade",), ("bafi",), ("bago", "runi"), everything, everything, everything[::2], ()]
    bias = torch.tensor([0.0, 0.0, 0.0, -4.90, -4.89, -4.8, 0.0])
    plant_coder(folder / "coder", words, bias=bias)
    tiered = replace(corpus, coder=folder / "coder", words=words)
    assert run_command("collect", *TIER, *tiered.flags(folder / "run"))[0] == 0
    return tiered, folder / "run"


@pytest.fixture
def flags(collected, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    tiered, run = collected

    def of(server: FakeServer, out: str = "out") -> list[str]:
        if not (tmp_path / out).exists():
            shutil.copytree(run, tmp_path / out)
        flags = ["--model", "test-model", "--base-url", server.url, "--features-per-request", "1"]
        flags += ["--input-price", "1", "--output-price", "2", *TIER]
        return [*flags, *tiered.flags(tmp_path / out)]

    return of


def table(out) -> pd.DataFrame:
    return autointerp.load_labels(out).set_index("feature")


def stage(out) -> dict:
    return json.loads((out / "run.json").read_text())["stages"]["label"]


def test_features_of_words_get_rules_and_the_others_go_to_the_model(
    cli, collected, flags, tmp_path
):
    with FakeServer(scripted.answer) as server:
        _, _, said = cli("label", *flags(server), "--dry-run")
        assert f"label: {len(HIDDEN)} requests" in said
        _, shown, _ = cli("prompt", "show", "label", *flags(server))
        assert "(no request for feature 0: it is labeled by a rule)" in shown
        assert not server.requests
        code, _, said = cli("label", *flags(server))
        assert code == 0
        assert server.served.total() == len(HIDDEN)
        code, _, again = cli("label", *flags(server))
        assert "label: already done" in again
    labels = table(tmp_path / "out")
    assert labels["status"].tolist() == ["labeled"] * 6 + ["dead"]
    ruled = labels.loc[ONE_WORD + TWO_WORDS]
    assert (ruled["labeler"] == "lexical").all()
    assert (labels.loc[HIDDEN, "labeler"] == "test-model").all()
    for feature, row in ruled.iterrows():
        assert all(word in row["label"] for word in collected[0].words[feature])
        assert (row["prompt_tokens"], row["completion_tokens"], row["cost_usd"]) == (0, 0, 0)
    asked = labels.loc[HIDDEN]
    saved = stage(tmp_path / "out")["saved_by_rules"]
    tokens = (asked["prompt_tokens"] + asked["completion_tokens"]).mean() * 3
    assert (saved["features"], saved["requests"]) == (3, 3)
    assert saved["tokens"] == round(tokens)
    assert saved["cost_usd"] == pytest.approx(asked["cost_usd"].mean() * 3)
    line = f"3 features labeled by a rule, which saves about 3 labeling requests, {tokens:,.0f}"
    assert line in said


def test_twins_are_linked_among_those_that_a_model_is_asked_about(cli, flags, tmp_path):
    with FakeServer(scripted.answer) as server:
        assert cli("label", *flags(server), "--link-twins", "0.98")[0] == 0
        assert server.served.total() == len(HIDDEN) - 1
    labels = table(tmp_path / "out")
    assert labels["label_of"].dropna().to_dict() == {3: 4}
    assert stage(tmp_path / "out")["saved_by_twins"]["features"] == 1
    assert stage(tmp_path / "out")["saved_by_rules"]["features"] == 3


def test_rules_have_no_candidates_and_the_others_do(cli, flags, tmp_path):
    with FakeServer(scripted.answer) as server:
        assert cli("label", *flags(server), "--candidates", "2")[0] == 0
    labels = table(tmp_path / "out")
    assert labels.loc[ONE_WORD + TWO_WORDS + DEAD, "candidates"].isna().all()
    assert (labels.loc[ONE_WORD + TWO_WORDS, "labeler"] == "lexical").all()
    for feature in HIDDEN:
        judged = [c["n"] for c in labels.loc[feature, "candidates"] if c["n"] is not None]
        # No more than are kept without the tier, so that a choice costs the same.
        assert all(n <= 24 for n in judged)
        assert labels.loc[feature, "label"] in [
            c["label"] for c in labels.loc[feature, "candidates"]
        ]


def test_where_no_feature_is_left_no_model_is_asked(cli, flags, tmp_path):
    with FakeServer(scripted.answer) as server:
        code, _, said = cli("label", *flags(server), "--features", "0-2,6")
        assert code == 0
        assert not server.requests
    assert "which saves about 3 labeling requests" in said
    assert table(tmp_path / "out")["status"].tolist() == ["labeled"] * 3 + ["dead"]


def test_a_run_that_stopped_goes_on_to_the_same_table(cli, flags, tmp_path):
    with FakeServer(scripted.answer) as server:
        server.faults = lambda _r, _s, index: status(401, "key revoked") if index >= 2 else None
        assert cli("label", *flags(server), "--max-concurrency", "1")[0] == 2
        stopped = table(tmp_path / "out")
        ruled = stopped.loc[ONE_WORD + TWO_WORDS]
        assert (ruled["status"] == "labeled").all()
        assert (ruled["labeler"] == "lexical").all()
        # A reply that came just before may be in the journal and not in the table yet.
        assert set(stopped.loc[HIDDEN, "status"]) <= {"labeled", "pending"}
        assert (stopped.loc[HIDDEN, "status"] == "pending").any()
        server.faults = None
        assert cli("label", *flags(server))[0] == 0
        assert sorted(server.served.values()) == [1, 1, 1]
        assert cli("label", *flags(server, "calm"))[0] == 0
    pd.testing.assert_frame_equal(table(tmp_path / "out"), table(tmp_path / "calm"))


def test_the_windows_that_score_have_no_say(cli, flags, tmp_path):
    """Without the activations of its scoring windows the same features get rules."""
    path = tmp_path / "out" / "windows.parquet"
    with FakeServer(scripted.answer) as server:
        given = flags(server)
        windows = pq.read_table(path).to_pandas()
        of_score = windows["split"] == "score"
        windows.loc[of_score, "activations"] = windows.loc[of_score, "activations"] * 0
        schema = pq.read_schema(path)
        with pq.ParquetWriter(path, schema) as writer:
            for _, rows in windows.groupby("feature"):
                writer.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False))
        assert cli("label", *given)[0] == 0
    labels = table(tmp_path / "out")
    assert labels.index[labels["label"].notna()].tolist() == ONE_WORD + TWO_WORDS + HIDDEN
    assert (labels.loc[ONE_WORD + TWO_WORDS, "labeler"] == "lexical").all()
    assert (labels.loc[HIDDEN, "labeler"] == "test-model").all()


def test_evidence_with_too_few_windows_is_refused_before_anything_is_sent(
    cli, planted, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with FakeServer(scripted.answer) as server:
        flags = ["--model", "test-model", "--base-url", server.url, *planted.flags(out)]
        assert cli("collect", *flags)[0] == 0
        assert cli("label", *flags)[0] == 0
        sent = len(server.requests)
        code, _, said = cli("label", *flags, *TIER)
        assert code == 2
        assert "was collected without --tier lexical-first" in said
        assert len(server.requests) == sent
        assert "label: already done" in cli("label", *flags)[2]


def test_as_many_windows_are_kept_as_the_bound_needs():
    fires = [True] * TRIED_WINDOWS + [False] * TRIED_WINDOWS
    for wrong, enough in ((4, True), (5, False)):
        assert is_good(fires, [False] * wrong + fires[wrong:]) == enough
    for each, enough in ((34, False), (35, True)):
        some = fires[TRIED_WINDOWS - each : TRIED_WINDOWS + each]
        assert is_good(some, some) == enough
    assert RunConfig().tier == "none"


def test_a_rule_judges_its_own_label_and_the_model_those_it_made(cli, flags, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        assert cli("run", *flags(server), "--simulation-mode", "json")[0] == 0
        judged = [r for r in server.requests if '"labels"' not in r["messages"][0]["content"]]
        # Two scorers, for each feature its own label and that of another one.
        assert len(judged) == 2 * 2 * len(HIDDEN)
    scores = autointerp.load_scores(out)
    judges = scores.groupby("feature")["judge"].agg(set)
    assert all(judges[f] == {"lexical"} for f in ONE_WORD + TWO_WORDS)
    assert all(judges[f] == {"test-model"} for f in HIDDEN)
    assert scores.loc[scores["judge"] == "lexical", "prompt_hash"].isna().all()
    assert scores.loc[scores["judge"] == "test-model", "prompt_hash"].notna().all()
    predictions = pd.read_parquet(out / "predictions.parquet")
    others = predictions[predictions["feature"] != predictions["label_of"]]
    ruled = set(ONE_WORD + TWO_WORDS)
    assert set(others["feature"]) == ruled | set(HIDDEN)
    assert ((others["feature"].isin(ruled)) == (others["label_of"].isin(ruled))).all()
    labels = table(out)
    assert labels.loc[sorted(ruled), "detection_balanced_accuracy"].min() > 0.9
    assert (labels.loc[sorted(ruled), "prompt_tokens"] == 0).all()
