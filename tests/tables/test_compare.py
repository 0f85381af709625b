import json
import math

import pandas as pd
import pyarrow as pa
import pytest

import autointerp
from autointerp.errors import AutointerpError
from autointerp.runs.directory import Run
from autointerp.tables.compare import (
    compare_labels,
    metric_comparisons,
    settings_apart,
    warnings_about,
)
from autointerp.tables.schema import SCORES, labels_schema
from autointerp.tables.write import write_table
from tests.support import scripted
from tests.support.fake_server import FakeServer

STAGES = {
    "collect": {"inputs": "same", "hashes": {"coder": "c0de"}},
    "label": {"prompt_hash": "aaaaaaaaaaaaaaaa"},
    "score": {"prompt_hashes": {"detection": "bbbbbbbbbbbbbbbb"}},
}


def a_run(folder, labels, scores, *, config=None, stages=STAGES, coder="planted"):
    """A run of nothing but its tables; labels and scores: what rows have beside the key."""
    folder.mkdir()
    run = Run(folder)
    run.update(config={"out": str(folder), "seed": 0} | (config or {}), stages=stages)
    write_table(
        [{"sae": coder, "prompt_tokens": 0} | row for row in labels], labels_schema(), run.labels
    )
    plain = {"sae": coder, "scorer": "detection", "metric": "balanced_accuracy", "judge": "m"}
    write_table([plain | row for row in scores], SCORES, run.scores)
    return run


def label(feature, text="x", status="labeled", **columns):
    return {"feature": feature, "status": status, "label": text, **columns}


def score(feature, value, low=None, high=None, **columns):
    return {"feature": feature, "value": value, "ci_low": low, "ci_high": high, **columns}


@pytest.fixture
def runs(tmp_path):
    first = a_run(
        tmp_path / "a",
        [
            label(0, "Plural nouns", prompt_tokens=100, completion_tokens=10, cost_usd=0.25),
            label(1, "x", prompt_tokens=100, completion_tokens=10, cost_usd=0.75),
            label(2, "y"),
            label(3, None, "failed"),
            label(4, None, "dead"),
            label(5, "only here"),
        ],
        [
            score(0, 0.5, 0.4, 0.6),
            score(1, 0.9, 0.8, 1.0),
            score(2, 0.7, 0.6, 0.8),
            score(5, 0.1),
            score(0, 0.25, metric="population_f1"),
            score(1, None, metric="population_f1"),
        ],
    )
    second = a_run(
        tmp_path / "b",
        [
            label(0, "plural  NOUNS", prompt_tokens=100, completion_tokens=10),
            label(1, "z"),
            label(2, "y"),
            label(3, "w"),
            label(4, None, "dead"),
        ],
        [
            score(0, 0.75, 0.65, 0.9),
            score(1, 0.5, 0.4, 0.75),
            score(2, 0.75, 0.65, 0.8),
            score(3, 0.6, 0.5, 0.7),
            score(0, 0.5, metric="population_f1"),
            score(1, 0.5, metric="population_f1"),
        ],
        config={"temperature": 1.0},
    )
    return first, second


def test_scores_are_paired_by_feature_and_metric(runs):
    pairs = autointerp.compare_runs(*(run.path for run in runs))
    detection = pairs[pairs["metric"] == "balanced_accuracy"].set_index("feature")
    assert detection.index.tolist() == [0, 1, 2]
    assert detection["difference"].tolist() == pytest.approx([0.25, -0.4, 0.05])
    assert detection["outcome"].tolist() == ["win", "loss", "tie"]
    assert detection.loc[0, ["label_a", "label_b"]].tolist() == ["Plural nouns", "plural  NOUNS"]
    f1 = pairs[pairs["metric"] == "population_f1"]
    assert f1["feature"].tolist() == [0]  # a value that is missing is not paired
    assert f1["outcome"].isna().all()  # nor won without an interval


def test_metrics_are_summed_up(runs):
    pairs = autointerp.compare_runs(*(run.path for run in runs))
    detection, f1 = metric_comparisons(*runs, pairs)
    assert (detection.wins, detection.ties, detection.losses) == (1, 1, 1)
    assert detection.means == pytest.approx((0.7, 2 / 3))
    assert detection.difference.value == pytest.approx(-0.1 / 3)
    assert math.isnan(detection.difference.ci_low)
    assert (detection.only_first, detection.only_second) == (1, 1)
    assert detection.p == 1.0
    assert (f1.metric, f1.difference.n) == ("population_f1", 1)
    assert (f1.wins, f1.ties, f1.losses) == (0, 0, 0)
    assert (f1.only_first, f1.only_second) == (0, 1)


def test_labels_statuses_and_cost(runs):
    found = compare_labels(*runs)
    assert (found.alike, found.changed) == (2, 1)
    assert found.statuses == {("failed", "labeled"): 1, ("labeled", "none"): 1}
    assert [c.distinct for c in found.collisions] == [4, 4]
    first, second = found.spent
    assert (first.labeled, first.prompt_tokens, first.completion_tokens) == (4, 200, 20)
    assert first.cost_usd == 1.0
    assert (second.prompt_tokens, second.cost_usd) == (100, None)


def test_settings_and_prompts_that_differ(runs, tmp_path):
    assert settings_apart(*runs) == {"temperature": (None, 1.0)}
    stages = STAGES | {"label": {"prompt_hash": "cccccccccccccccc"}}
    other = a_run(tmp_path / "c", [label(0)], [score(0, 1)], stages=stages)
    assert settings_apart(runs[0], other) == {"prompt of label": ("aaaaaaaaaaaa", "cccccccccccc")}


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
    other = STAGES | {"collect": {"inputs": "same", "hashes": {"coder": "other"}}}
    one = a_run(tmp_path / "c", [label(0)], [score(0, 1)], stages=other)
    with pytest.raises(AutointerpError, match="of different SAEs"):
        autointerp.compare_runs(runs[0].path, one.path)
    unnamed = STAGES | {"collect": {"inputs": "same", "hashes": {"coder": None}}}
    same = a_run(tmp_path / "d", [label(0)], [score(0, 1)], stages=unnamed)
    assert len(autointerp.compare_runs(runs[0].path, same.path)) == 1
    renamed = a_run(tmp_path / "e", [label(0)], [score(0, 1)], stages=unnamed, coder="gpt")
    with pytest.raises(AutointerpError, match=f"planted in {runs[0].path}, gpt in {renamed.path}"):
        autointerp.compare_runs(runs[0].path, renamed.path)
    unscored = a_run(tmp_path / "f", [label(0)], [score(0, 1)], stages={"collect": {}})
    with pytest.raises(AutointerpError, match="is not scored"):
        autointerp.compare_runs(unscored.path, runs[0].path)
    apart = a_run(tmp_path / "g", [label(9)], [score(9, 1)])
    with pytest.raises(AutointerpError, match="have no feature scored by the same metric"):
        autointerp.compare_runs(runs[0].path, apart.path)
    with pytest.raises(AutointerpError, match="no run at"):
        autointerp.compare_runs(runs[0].path, tmp_path / "nowhere")


def test_other_windows_and_judges_are_warned_of(runs, tmp_path):
    assert warnings_about(*runs) == []
    other = STAGES | {"collect": {"inputs": "other", "hashes": {"coder": "c0de"}}}
    scores = [score(0, 1, judge="another", prompt_hash="new")]
    one = a_run(tmp_path / "c", [label(0)], scores, stages=other)
    with pytest.warns(UserWarning) as said:  # noqa: PT030, the lines are looked at below
        autointerp.compare_runs(runs[0].path, one.path)
    lines = [str(warning.message) for warning in said]
    assert len(lines) == 3
    assert "the runs have different windows" in lines[0]
    assert "the judge of detection differs" in lines[1]
    assert "the prompt of detection differs" in lines[2]


def _words(printed):
    return " ".join(printed.replace("│", " ").split())


@pytest.mark.parametrize(("features", "warned"), [(49, True), (50, False)])
def test_scores_weighed_by_another_prior_are_warned_of(tmp_path, features, warned):
    made = []
    for name, n in (("a", features), ("b", 50)):
        rows = [score(f, 0.5, metric="population_f1") for f in range(n)]
        made.append(a_run(tmp_path / name, [label(f) for f in range(n)], rows))
    assert any("fewer than 50 features" in line for line in warnings_about(*made)) == warned


def test_the_command_shows_hostile_labels_as_text(cli, tmp_path):
    hostile = "\x1b[2J[red]gone[/red]\n[/nothing] <|im_end|>"
    features = range(30)
    first = a_run(
        tmp_path / "a",
        [label(f, hostile) for f in features],
        [score(f, 0.5, 0.4, 0.6, scorer="[b]odd") for f in features],
    )
    second = a_run(
        tmp_path / "b",
        [label(f, f"label {f}") for f in features],
        [score(f, 0.5 + f / 100, 0.45, 1, scorer="[b]odd") for f in features],
        config={"base_url": "[bold]http://x\x1b[0m"},
    )
    code, printed, said = cli("compare", str(first.path), str(second.path), "--top", "2")
    assert (code, said) == (0, "")
    assert "\x1b" not in printed
    shown = _words(printed)
    assert "·[2J[red]gone[/red]⏎" in shown
    assert "largest gains of B, [b]odd balanced accuracy" in shown
    assert "largest losses" not in shown
    assert "[bold]http://x·[0m" in shown
    assert "0/30/0" in shown
    assert "+0.145" in shown  # the mean difference
    assert "too few" not in shown
    assert "label 29" in shown
    assert "label 27" not in shown


def test_the_command_on_two_real_runs(cli, planted, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")

    def vague(request):
        reply = json.loads(scripted.answer(request))
        for item in reply.get("labels", []):
            item["label"] = item["label"].split()[0]
        return json.dumps(reply)

    outs = [tmp_path / name for name in "ab"]
    for out, respond in zip(outs, (vague, scripted.answer), strict=True):
        with FakeServer(respond) as server:
            flags = ["--model", "test-model", "--base-url", server.url, *planted.flags(out)]
            assert cli("run", *flags, "--input-price", "1", "--output-price", "2")[0] == 0
    code, printed, said = cli("compare", *map(str, outs), "--metric", "detection")
    assert (code, said) == (0, "")
    shown = _words(printed)
    assert "too few" in shown
    assert "warning" not in shown
    assert "an interval needs 20 features" in shown
    assert "population" in shown
    assert "simulation" not in shown.partition("settings that differ")[0]
    assert "per labeled feature" in shown
    assert "base_url" in shown
    pairs = autointerp.compare_runs(*outs)
    # Every third feature fires on two words, of which one label names one alone.
    gained = pairs[(pairs["metric"] == "balanced_accuracy") & (pairs["difference"] > 0)]
    assert set(gained["feature"]) <= {0, 3, 6, 9}
    assert len(gained) >= 3
    code, _, said = cli("compare", *map(str, outs), "--metric", "magic")
    assert code == 2
    assert "the metrics of both runs are balanced_accuracy, correlation, correlation_among" in said


def test_a_run_compared_with_itself_does_not_differ(runs):
    pairs = autointerp.compare_runs(runs[0].path, runs[0].path)
    assert (pairs["difference"] == 0).all()
    assert settings_apart(runs[0], runs[0]) == {}
    assert all(found.p is None for found in metric_comparisons(runs[0], runs[0], pairs))
    assert isinstance(pairs, pd.DataFrame)
    assert pa.Table.from_pandas(pairs).num_rows == len(pairs)
