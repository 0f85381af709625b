import json
import math
import sqlite3

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

import autointerp
from autointerp.errors import AutointerpError
from autointerp.runs.directory import Run
from autointerp.tables.compare import (
    compare_labels,
    metric_comparisons,
    settings_apart,
    warnings_about,
)
from autointerp.tables.schema import PREDICTIONS, SCORES, labels_schema
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
    assert detection.difference.p is None
    assert detection.p_adjusted is None
    assert detection.paired == 0
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


def test_the_command_shows_hostile_labels_as_text(cli, tmp_path):
    hostile = "\x1b[2J[red]gone[/red]\n[/nothing] <|im_end|>"
    features = range(30)
    first = a_run(
        tmp_path / "a",
        [label(f, f"{hostile} {f}") for f in features],
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
    # Both have judged the same windows: which were right is compared one by one.
    right = []
    for out in outs:
        said = pq.read_table(out / "predictions.parquet").to_pandas()
        own = said[(said["scorer"] == "detection") & (said["label_of"] == said["feature"])]
        key = own["window"].map(lambda w: (w["kind"], w["rank"]))
        right.append((own["truth"] == own["prediction"]).set_axis([own["feature"], key]))
    for metric, n in (("balanced_accuracy", len(gained)), ("correlation", 1)):
        tested = pairs[(pairs["metric"] == metric) & pairs["p"].notna()]
        assert len(tested) >= n
    for row in pairs[pairs["metric"] == "balanced_accuracy"].to_dict("records"):
        a, b = (of_run.loc[row["feature"]] for of_run in right)
        apart = [(b & ~a.reindex(b.index)).sum(), (a & ~b.reindex(a.index)).sum()]
        expected = stats.binomtest(apart[0], sum(apart), 0.5).pvalue if sum(apart) else 1
        assert row["p"] == pytest.approx(expected)
    # Labels of one reply have one request, which is in the journal.
    for out in outs:
        labels = autointerp.load_labels(out)
        labeled = labels[labels["status"] == "labeled"]
        assert labeled["request"].notna().all()
        assert labeled.groupby("request").size().max() > 1
        with sqlite3.connect(out / "journal.sqlite") as journal:
            keys = " ".join(str(row) for row in journal.execute("select key from replies"))
        assert all(request in keys for request in labeled["request"])
        features = pq.read_table(out / "features.parquet").to_pandas().set_index("feature")
        of_windows = features["window_density"].loc[labels["feature"]]
        assert labels["window_density"].tolist() == of_windows.tolist()
        assert (labels["window_density"] >= labels["density"]).all()
    length = autointerp.open_run(outs[0]).settings["window_length"]
    assert f"F1: of windows of {length} tokens" in _words(cli("labels", str(outs[0]))[1])
    of_windows = f"of all windows of {length} tokens in the corpus"
    assert of_windows in _words(cli("scores", str(outs[0]))[1])
    assert "Population scores are of windows" in shown
    code, _, said = cli("compare", *map(str, outs), "--metric", "magic")
    assert code == 2
    assert "the metrics of both runs are balanced_accuracy, correlation, correlation_among" in said


def test_a_run_compared_with_itself_does_not_differ(runs):
    pairs = autointerp.compare_runs(runs[0].path, runs[0].path)
    assert (pairs["difference"] == 0).all()
    assert settings_apart(runs[0], runs[0]) == {}
    found = metric_comparisons(runs[0], runs[0], pairs)
    assert all(one.difference.p is None for one in found)
    assert isinstance(pairs, pd.DataFrame)
    assert pa.Table.from_pandas(pairs).num_rows == len(pairs)


def _many(folder, values, *, labels=None, config=None, stages=STAGES):
    """A run with one score a feature; labels: what their rows have beside the key."""
    rows = [label(f, f"label {f}", **(labels(f) if labels else {})) for f in range(len(values))]
    scores = [score(f, v, v - 0.1, v + 0.1) for f, v in enumerate(values)]
    return a_run(folder, rows, scores, config=config, stages=stages)


@pytest.mark.parametrize(
    ("related", "clusters"),
    [
        (None, 100),
        (lambda f: {"request": f"r{f // 10}"}, 10),
        (lambda f: {"request": None if f % 2 else f"r{f // 10}"}, 100**2 / (50 + 10 * 25)),
        (lambda f: {"label": f"Label {f // 4}"}, 25),
        (lambda f: {"label": f"label {f - f % 5}", "label_of": f - f % 5 if f % 5 else None}, 20),
    ],
    ids=["independent", "requests", "half by rules", "the same label", "twins"],
)
def test_features_that_share_a_reply_or_a_label_go_together(tmp_path, related, clusters):
    rng = np.random.default_rng(0)
    first = _many(tmp_path / "a", rng.uniform(0.5, 0.8, 100))
    second = _many(tmp_path / "b", rng.uniform(0.5, 0.8, 100), labels=related)
    for a, b in ((first, second), (second, first)):
        (found,) = metric_comparisons(a, b, autointerp.compare_runs(a.path, b.path))
        assert found.difference.clusters == pytest.approx(clusters)


def test_what_a_request_shares_is_no_difference(tmp_path):
    """The same differences, which say much of a hundred features and little of ten replies."""
    request = np.arange(100) // 10
    shift = np.array([0.09, -0.05, 0.06, -0.01, 0.07, 0.01, -0.03, 0.05, 0.02, -0.04])[request]
    values = 0.5 + shift + np.random.default_rng(1).normal(0, 0.01, 100)
    first = _many(tmp_path / "a", np.full(100, 0.5))
    alone = _many(tmp_path / "b", values)
    together = _many(tmp_path / "c", values, labels=lambda f: {"request": f"r{f // 10}"})
    found = [
        metric_comparisons(first, b, autointerp.compare_runs(first.path, b.path))[0].difference
        for b in (alone, together)
    ]
    assert found[0].p < 0.01
    assert found[1].p > 0.2
    assert found[1].ci_low < 0 < found[0].ci_low


def test_p_values_are_adjusted_for_the_metrics_that_are_compared(cli, tmp_path):
    rng = np.random.default_rng(2)
    made = []
    for name, gain in (("a", 0), ("b", 0.02)):
        rows = [
            score(f, 0.5 + gain + rng.normal(0, 0.05), metric=metric)
            for f in range(60)
            for metric in ("balanced_accuracy", "population_f1", "population_mcc")
        ]
        made.append(a_run(tmp_path / name, [label(f, f"x{f}") for f in range(60)], rows))
    pairs = autointerp.compare_runs(*(run.path for run in made))
    found = metric_comparisons(*made, pairs)
    smallest = min(found, key=lambda one: one.difference.p)
    assert smallest.p_adjusted == pytest.approx(3 * smallest.difference.p)
    one = metric_comparisons(*made, pairs[pairs["metric"] == "population_f1"])
    assert one[0].p_adjusted == one[0].difference.p
    shown = _words(cli("compare", *(str(run.path) for run in made))[1])
    assert "Holm's, for 3 metrics at once" in shown
    assert "60 clusters" in shown


def _predictions(run, answers, **columns):
    """Write what judges said; answers: of each feature a pair for each window, truth and answer."""
    plain = {"sae": "planted", "scorer": "detection", "parsed": True}
    rows = [
        {
            **plain,
            "feature": f,
            "label_of": f,
            "window": {"kind": "sample" if truth else "corpus", "rank": rank},
            "stratum": "fires" if truth else "other",
            "truth": float(truth),
            "prediction": None if said is None else float(said),
        }
        | columns
        for f, of_feature in enumerate(answers)
        for rank, (truth, said) in enumerate(of_feature)
    ]
    write_table(rows, PREDICTIONS, run.predictions)


def test_wins_are_told_by_a_paired_test_on_the_same_windows(tmp_path):
    """Of feature 0 the second label is right on ten windows more, of 1 on one, of 2 fewer."""
    truths = [True] * 15 + [False] * 15
    right = [(t, t) for t in truths]
    some_wrong = [(t, not t if i < 10 else t) for i, t in enumerate(truths)]
    one_wrong = [(t, not t if i == 0 else t) for i, t in enumerate(truths)]
    wide = {"low": 0.3, "high": 1.0}  # which would not tell any of them apart
    made = []
    for name, answers, values in (
        ("a", [some_wrong, one_wrong, right, right], (0.67, 0.97, 1.0, 1.0)),
        ("b", [right, right, some_wrong, right], (1.0, 1.0, 0.67, 1.0)),
    ):
        scores = [score(f, v, **wide) for f, v in enumerate(values)]
        scores += [score(f, v, **wide, metric="population_f1") for f, v in enumerate(values)]
        made.append(a_run(tmp_path / name, [label(f, f"x{f}") for f in range(4)], scores))
        _predictions(made[-1], answers)
    pairs = autointerp.compare_runs(*(run.path for run in made))
    paired = pairs[pairs["metric"] == "balanced_accuracy"]
    assert paired["outcome"].tolist() == ["win", "tie", "loss", "tie"]
    assert paired["p"].tolist() == pytest.approx([2 / 2**10, 1, 2 / 2**10, 1])
    assert paired["p_adjusted"].tolist() == pytest.approx([4 / 2**10, 1, 4 / 2**10, 1])
    by_interval = pairs[pairs["metric"] == "population_f1"]
    assert by_interval["outcome"].tolist() == ["tie"] * 4
    assert by_interval["p"].isna().all()
    detection, f1 = metric_comparisons(*made, pairs)
    assert (detection.paired, f1.paired) == (4, 0)
    # Of other windows, of which the same ranks are other texts, nothing is paired.
    made[1].update(stages=STAGES | {"collect": {"inputs": "other", "hashes": {"coder": "c0de"}}})
    with pytest.warns(UserWarning, match="different windows"):
        pairs = autointerp.compare_runs(*(run.path for run in made))
    assert pairs["p"].isna().all()
    assert set(pairs["outcome"]) == {"tie"}


def test_only_what_both_judges_said_of_own_labels_is_paired(tmp_path):
    """A window that one could not read says nothing, nor do judgments of another's label."""
    truths = [True] * 8 + [False] * 8
    made = []
    for name, said in (("a", lambda t: not t), ("b", lambda t: t)):
        made.append(a_run(tmp_path / name, [label(0)], [score(0, 0.5 + (name == "b") / 2)]))
        answers = [[(t, said(t)) for t in truths]]
        _predictions(made[-1], answers)
    unread = [[(t, not t if i < 5 else None) for i, t in enumerate(truths)]]
    _predictions(made[0], unread)
    table = pq.read_table(made[0].predictions)
    parsed = pa.array(table["prediction"].is_valid())
    table = table.set_column(table.schema.get_field_index("parsed"), "parsed", parsed)
    pq.write_table(table, made[0].predictions)
    pairs = autointerp.compare_runs(*(run.path for run in made))
    assert pairs["p"].tolist() == pytest.approx([2 / 2**5])
    _predictions(made[0], [[(t, not t) for t in truths]], label_of=7)
    assert autointerp.compare_runs(*(run.path for run in made))["p"].isna().all()


REPEATS = {"seed": 1}


def _three(tmp_path, repeat=0.0, config=REPEATS):
    """A, a second run of its settings and B, which is .1 better."""
    rng = np.random.default_rng(4)
    base = rng.uniform(0.5, 0.8, 60)
    first = _many(tmp_path / "a", base)
    again = _many(tmp_path / "again", base + repeat * rng.normal(0, 0.1, 60), config=config)
    second = _many(
        tmp_path / "b", base + 0.1 + rng.normal(0, 0.05, 60), config={"temperature": 0.5}
    )
    return [str(run.path) for run in (first, second, again)]


def test_a_repeat_says_how_much_is_noise(cli, tmp_path):
    first, second, again = _three(tmp_path, repeat=1.0)
    code, printed, said = cli("compare", first, second, "--repeat", again)
    assert (code, said) == (0, "")
    shown = _words(printed)
    assert f"A2: {again} (seed 0 and 1)" in shown
    table = shown.partition("A2 − A")[2]
    assert " yes " in table
    assert "nothing of the noise" not in shown


def test_a_repeat_of_the_same_replies_is_said_to_say_nothing(cli, tmp_path):
    first, second, again = _three(tmp_path, config={})
    code, printed, _ = cli("compare", first, second, "--repeat", again)
    assert code == 0
    assert "it says nothing of the noise" in _words(printed)
    assert "(the same seed)" in _words(printed)


def test_a_run_of_other_settings_is_not_a_repeat(cli, tmp_path):
    first, second, other = _three(tmp_path, config={"temperature": 1.0, "coder": "x", "seed": 3})
    code, printed, said = cli("compare", first, second, "--repeat", other)
    assert (code, printed) == (2, "")
    assert "is not a repeat of" in said
    assert "temperature, sae differ" in said
    assert said.count("\n") == 1
    code, _, said = cli("compare", first, second, "--repeat", first)
    assert code == 2
    assert "is the run A itself" in said


@pytest.mark.parametrize(
    ("setting", "values", "line"),
    [
        ("window_length", (32, 64), "window_length differs (32 in {a}, 64 in {b}): population"),
        ("split", (None, "document"), "split differs (context in {a}, document in {b})"),
        ("split", ("context", "document"), "split differs (context in {a}, document in {b})"),
        ("score_windows", (25, 30), "different windows (score_windows differ)"),
        ("coder", ("x", "y"), "different windows (sae differ)"),
    ],
)
def test_scores_of_another_meaning_are_warned_of(tmp_path, setting, values, line):
    other = STAGES | {"collect": {"inputs": "other", "hashes": {"coder": "c0de"}}}
    made = []
    for name, value, stages in zip("ab", values, (STAGES, other), strict=True):
        config = {} if value is None else {setting: value}
        made.append(_many(tmp_path / name, [0.5], config=config, stages=stages))
    a, b = (run.path for run in made)
    assert any(line.format(a=a, b=b) in said for said in warnings_about(*made))


def test_runs_side_by_side_are_warned_of_alike(tmp_path):
    made = [
        _many(tmp_path / str(length), [0.5], config={"window_length": length}).path
        for length in (32, 64)
    ]
    for together in (autointerp.load_labels, autointerp.label_differences, autointerp.load_scores):
        with pytest.warns(UserWarning, match=r"window_length differs \(32 in 32, 64 in 64\)"):
            together(made)


def test_a_repeat_goes_by_the_features_that_were_collected(cli, tmp_path):
    """`random:60` draws other features with another seed."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0.5, 0.8, 60)
    first, second, again, other = (
        str(_many(tmp_path / name, values, config=REPEATS | {"features": spec, "seed": seed}).path)
        for name, spec, seed in (
            *(("a", "random:60", 0), ("b", "random:60", 0)),
            *(("again", "@ids.txt", 1), ("other", "random:60", 1)),
        )
    )
    run = Run(tmp_path / "other")
    rows = [label(f + 1000, "x") for f in range(60)]
    write_table([{"sae": "planted"} | row for row in rows], labels_schema(), run.labels)
    assert cli("compare", first, second, "--repeat", again)[0] == 0
    code, printed, said = cli("compare", first, second, "--repeat", other)
    assert (code, printed) == (2, "")
    assert "has none of the features of" in said
    assert "--features @FILE" in said
