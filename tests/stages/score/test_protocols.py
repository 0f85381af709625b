"""Protocols from the command line: what is asked, of whom, for what, and what stands in tables."""

import re
import shutil

import pandas as pd
import pytest

import autointerp
from autointerp.config.scorer_settings import scorers_by_protocol
from autointerp.config.settings import RunConfig
from autointerp.metrics.metrics import BINARY
from autointerp.scoring import SCORERS
from autointerp.tables.protocol_figures import load_protocol_figures
from tests.conftest import run_command
from tests.support import peer_forms, scripted
from tests.support.fake_server import FakeServer

FOLLOWED = [name for names in scorers_by_protocol().values() for name in names]
ALL = ["--protocol", ",".join(scorers_by_protocol()), "--score-windows", "50"]
FEW = ["--features", "3,4,6,7,12", "--corpus-windows", "200", "--scorers", "detection"]


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")


def model_flags(server):
    return ["--model", "test-model", "--base-url", server.url, "--null-share", "0"]


def test_a_protocol_adds_its_scorers_and_needs_their_windows():
    assert RunConfig(scorers="detection", protocol="saebench").scorer_names() == [
        "detection",
        "saebench",
    ]
    both = RunConfig(scorers="fuzzing", protocol="delphi, bills", score_windows=50)
    assert both.scorer_names() == ["fuzzing", "delphi_detection", "delphi_fuzzing", "bills"]
    twice = RunConfig(scorers="bills", protocol="bills")
    assert twice.scorer_names() == ["bills"]
    with pytest.raises(ValueError, match=r"keeps 25: --score-windows 50"):
        RunConfig(protocol="delphi")
    with pytest.raises(ValueError, match="there is no 'delfi'; there are delphi, saebench, bills"):
        RunConfig(protocol="delfi")


@pytest.fixture(scope="module")
def judged(planted, tmp_path_factory):
    """A run in which a model labels and judges, and what it was sent."""
    out = tmp_path_factory.mktemp("protocols") / "run"
    with pytest.MonkeyPatch.context() as patch, FakeServer(scripted.answer) as server:
        patch.setenv("OPENAI_API_KEY", "k")
        code, _, said = run_command("run", *planted.flags(out), *FEW, *ALL, *model_flags(server))
        assert code == 0, said
        return out, list(server.requests), said


def test_windows_unlike_those_of_the_protocol_are_said_at_once(judged):
    _, _, said = judged
    for name, length in (("saebench", 21), ("bills", 64), ("neuronpedia", 128)):
        line = f"warning: protocol {name} has windows of {length} tokens, this run of 32"
        assert said.index(line) < said.index("label: ")
    assert "protocol delphi has windows" not in said


def test_a_request_asks_about_as_many_as_there(judged):
    _, requests, _ = judged
    sizes = {}
    for request in requests:
        user = request["messages"][1]["content"]
        if texts := peer_forms.examples(user):
            sizes.setdefault("examples", []).append(len(texts))
            assert "response_format" not in request
        elif "A reply may look like this" in user:
            sizes.setdefault("saebench", []).append(len(re.findall(r"^\d+\. ", user, re.M)))
            assert "response_format" not in request
        elif "The neuron looks for" in user:
            sizes.setdefault("bills", []).append(len(re.findall(r"^\d+ \(", user, re.M)))
    assert max(sizes["examples"]) == 5
    assert set(sizes["saebench"]) == {14}
    # One sequence each; where probabilities were asked for in vain there is no numbered line.
    assert set(sizes["bills"]) <= {0, 1}
    assert sizes["bills"].count(1) == 4 * 10


def test_every_protocol_has_its_columns_and_rows(judged):
    out, _, _ = judged
    labels, scores = autointerp.load_labels(out), autointerp.load_scores(out)
    labeled = labels[labels["status"] == "labeled"]
    for name in FOLLOWED:
        scorer = SCORERS[name]
        column = labeled[f"{name}_{scorer.metric}"]
        assert column.notna().all(), name
        assert (labeled[f"{name}_parse_rate"] == 1).all(), name
        for more in scorer.columns:
            assert more.metric in labels
        of_scorer = scores[scores["scorer"] == name]
        assert scorer.metric in set(of_scorer["metric"])
        assert of_scorer["prompt_hash"].notna().all()
    # The labels are the planted words: the judge that looks for them is right, but for windows
    # that have one where nothing counts, at the beginning of their context.
    assert (labeled["delphi_detection_balanced_accuracy"] > 0.95).all()
    assert (labeled["saebench_checked_accuracy"] > 0.9).all()
    assert (labeled["neuronpedia_alt_accuracy"] == 1).all()
    assert (labeled["saebench_n"] == 14).all()


def test_published_figures_are_pooled_or_means(judged):
    out, _, _ = judged
    found = load_protocol_figures(out)
    assert set(found["scorer"]) == set(FOLLOWED)
    means = found[found["figure"] == "mean"].set_index("scorer")
    labels = autointerp.load_labels(out)
    saebench = labels["saebench_accuracy"].dropna()
    assert means.loc["saebench", "value"] == pytest.approx(saebench.mean())
    assert means.loc["saebench", "sd"] == pytest.approx(saebench.std(ddof=1))
    pooled = found[found["figure"] == "pooled"]
    assert set(pooled["protocol"]) == {"delphi"}
    rows = pd.read_parquet(out / "predictions.parquet")
    own = rows[(rows["scorer"] == "delphi_fuzzing") & (rows["feature"] == rows["label_of"])]
    truth, said = (own[n].to_numpy() > 0 for n in ("truth", "prediction"))
    of_fuzzing = pooled[pooled["scorer"] == "delphi_fuzzing"].set_index("metric")
    for metric, value in of_fuzzing["value"].items():
        assert value == pytest.approx(float(BINARY[metric](truth, said)))
    assert (of_fuzzing["n"] == len(own)).all()


def test_the_command_prints_them(judged, cli):
    out, _, _ = judged
    code, printed, _ = cli("scores", str(out))
    assert code == 0
    assert "as other tools report it" in printed
    assert "pooled balanced accuracy" in printed


def test_a_dry_run_has_their_costs(judged, cli, planted):
    out, _, _ = judged
    with FakeServer(scripted.answer) as server:
        flags = [*planted.flags(out), *FEW, *model_flags(server), "--model", "another", "--dry-run"]
        requests = []
        for more in (["--score-windows", "50"], ALL):
            code, printed, said = cli("run", *flags, *more)
            assert code == 0, said
            line = next(li for li in (printed + said).splitlines() if li.startswith("score: "))
            requests.append(int(re.search(r"([\d,]+) requests?", line)[1].replace(",", "")))
        assert not server.requests
    # Twenty each for both of Delphi's, one for SAEBench, ten for Bills, 5 + 5 + 30 for the others.
    assert requests[1] - requests[0] == 4 * (20 + 20 + 1 + 10 + 5 + 5 + 30)


def test_rules_judge_all_of_them_and_each_has_its_null(cli, planted, tmp_path):
    out = tmp_path / "out"
    code, _, said = cli("run", *planted.flags(out), *ALL, "--scorers", "detection")
    assert code == 0, said
    scores = autointerp.load_scores(out)
    for name in FOLLOWED:
        main = scores[(scores["scorer"] == name) & (scores["metric"] == SCORERS[name].metric)]
        assert main["value"].notna().all()
        assert main["null_value"].notna().all()
        assert main["p_value"].notna().all()
        assert main["value"].median() > main["null_value"].median()
    # A label that says nothing of the feature: what each protocol gives it.
    nulls = scores.groupby(["scorer", "metric"])["null_value"].median()
    assert nulls["delphi_detection", "balanced_accuracy"] == pytest.approx(0.5, abs=0.05)
    assert nulls["neuronpedia_alt", "accuracy"] == pytest.approx(1 / 3, abs=0.05)
    assert nulls["bills", "correlation"] == pytest.approx(0, abs=0.1)


def test_evidence_that_keeps_too_few_windows_is_said(cli, finished, planted, tmp_path):
    """Settings say how many are kept, evidence that is there how many there are."""
    out = tmp_path / "out"
    shutil.copytree(finished.path, out)
    flags = [*planted.flags(out), "--features", "all", "--scorers", "saebench"]
    code, _, said = cli("score", *flags, "--protocol", "delphi", "--score-windows", "50")
    assert code == 0, said
    for name in ("delphi_detection", "delphi_fuzzing"):
        line = f"warning: {name} asks for 50 activating windows, and no feature has more than 25"
        assert line in said
    assert "saebench asks" not in said


def test_an_unreadable_reply_is_missing(cli, planted, tmp_path):
    def mumbles(request):
        user = request["messages"][1]["content"]
        return "let me think" if "Explanation: " in user else scripted.answer(request)

    out = tmp_path / "out"
    with FakeServer(mumbles) as server:
        flags = [*planted.flags(out), *FEW, *model_flags(server), "--neuronpedia-recall-windows"]
        code, _, _ = cli("run", *flags, "8", "--scorers", "detection,saebench,neuronpedia_recall")
    assert code == 0
    labels = autointerp.load_labels(out).query("status == 'labeled'")
    assert labels["neuronpedia_recall_balanced_accuracy"].isna().all()
    assert (labels["neuronpedia_recall_parse_rate"] == 0).all()
    assert labels["saebench_accuracy"].notna().all()
    said = "neuronpedia_recall: 10 of 10 windows without a readable judgment"
    assert (labels["error"] == said).all()
