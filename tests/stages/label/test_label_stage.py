"""What a labeling model is shown and what becomes of its replies, on the command line."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import autointerp
from autointerp.evidence.evidence_schema import FEATURES_SCHEMA
from tests.support import scripted
from tests.support.fake_server import FakeServer

TOP, QUANTILES, CONTRAST, OUTPUT = 4, 3, 14, 2
ALL = ["--label-top", str(TOP), "--label-quantiles", str(QUANTILES)]
ALL += ["--label-activations", "numbers", "--label-contrast", str(CONTRAST)]
ALL += ["--label-output-tokens", str(OUTPUT), "--label-meanings", "3"]


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")


def model_flags(server: FakeServer) -> list[str]:
    return ["--model", "test-model", "--base-url", server.url, "--features-per-request", "4"]


def with_meanings(request):
    if not scripted.asks_for_labels(request):
        return scripted.answer(request)
    features = enumerate(scripted.asked(request), 1)
    return json.dumps({"labels": [scripted.label_with_meanings(n, f) for n, f in features]})


def put_output_tokens(features):
    """As if the subject model had been at hand for features of even number."""
    table = pq.read_table(features)
    for name in ("raised_tokens", "lowered_tokens"):
        column = table.column_names.index(name)
        values = [
            [{"token": f"{name[0]}{feature}-{i}", "logit": 1.0} for i in range(5)]
            if feature % 2 == 0
            else None
            for feature in table["feature"].to_pylist()
        ]
        kind = FEATURES_SCHEMA.field(name)
        table = table.set_column(column, kind, pa.array(values, kind.type))
    pq.write_table(table, features)


def asked_by_feature(requests, windows):
    """What was asked about each feature, found by the text of its first excerpt."""
    firing = windows[windows["kind"].isin(["top", "sample"])]
    found = {}
    for request in filter(scripted.asks_for_labels, requests):
        for asked in scripted.asked(request):
            sets = [set(firing["feature"][firing["text"] == e.text]) for e in asked.excerpts]
            (feature,) = set.intersection(*sets)
            found[feature] = asked
    return found


def runs_of(row, maximum):
    """By brute force: the words that are to be marked, joined where they touch, and strengths."""
    runs, touching = [], False
    largest = max(row["activations"])
    for word, activation in zip(row["text"].split(), row["activations"], strict=True):
        active = activation > 0 and activation >= 0.3 * largest
        if active and touching:
            text, strongest = runs.pop()
            runs.append((f"{text} {word}", max(strongest, activation)))
        elif active:
            runs.append((f" {word}", activation))
        touching = active
    return [(text, round(10 * float(a) / maximum)) for text, a in runs]


def of_feature(windows, feature, split, kind):
    chosen = (windows["feature"] == feature) & (windows["split"] == split)
    return windows[chosen & (windows["kind"] == kind)].sort_values("rank")


@pytest.fixture(scope="module")
def everything(planted, tmp_path_factory):
    """A whole run with all of it shown: its folder, what was asked, its flags and the server."""
    from tests.conftest import run_command

    out = tmp_path_factory.mktemp("everything") / "out"
    with pytest.MonkeyPatch.context() as patched, FakeServer(with_meanings) as server:
        patched.setenv("OPENAI_API_KEY", "sk-planted-secret")
        flags = [*model_flags(server), *planted.flags(out), *ALL, "--near-miss-windows", "8"]
        assert run_command("collect", *flags)[0] == 0
        put_output_tokens(out / "features.parquet")
        code, _, err = run_command("run", *flags)
        assert code == 0, err
        yield out, list(server.requests), flags, server


def test_the_labeler_sees_the_evidence_as_it_is_stored(everything):
    out, requests, *_ = everything
    windows = pq.read_table(out / "windows.parquet").to_pandas()
    features = pq.read_table(out / "features.parquet").to_pandas().set_index("feature")
    asked = asked_by_feature(requests, windows)
    assert sorted(asked) == list(range(12))
    for feature, prompt in asked.items():
        maximum = float(features["max_activation"][feature])
        top, sample, near, negative = (
            of_feature(windows, feature, "label", kind)
            for kind in ("top", "sample", "near_miss", "negative")
        )
        texts = [e.text for e in prompt.excerpts]
        assert len(texts) == TOP + QUANTILES
        assert texts[:TOP] == top["text"].tolist()[:TOP]
        # One of each third of the firings, strongest first.
        rows = [sample[sample["text"] == text].iloc[0] for text in texts[TOP:]]
        assert [int(row["quantile"] * QUANTILES) for row in rows] == [2, 1, 0]
        rows = [top.iloc[i] for i in range(TOP)] + rows
        for row, excerpt in zip(rows, prompt.excerpts, strict=True):
            assert excerpt.runs == runs_of(row, maximum)
            assert excerpt.strength == round(10 * float(max(row["activations"])) / maximum)
            assert excerpt.peak.strip() == row["text"].split()[int(np.argmax(row["activations"]))]
        assert len(near) == 8
        assert prompt.near_misses == near["text"].tolist()
        apart = negative[~negative["context"].isin(near["context"])]
        assert prompt.negatives == apart["text"].tolist()[: CONTRAST - 8]
        assert len(prompt.negatives) == CONTRAST - 8
        for name, shown in (("raised_tokens", prompt.raised), ("lowered_tokens", prompt.lowered)):
            stored = features[name][feature]
            known = [] if stored is None else [t["token"] for t in stored]
            assert shown == known[:OUTPUT]
            assert bool(shown) == (feature % 2 == 0)


def test_no_token_of_a_scoring_context_is_in_a_labeling_prompt(everything):
    out, requests, *_ = everything
    windows = pq.read_table(out / "windows.parquet").to_pandas()
    scoring = set(windows["context"][windows["split"] == "score"])
    shown_contexts = set()
    prompts = asked_by_feature(requests, windows)
    assert len(prompts) == 12
    for feature, prompt in prompts.items():
        own = windows[windows["feature"] == feature]
        texts = [e.text for e in prompt.excerpts] + prompt.near_misses + prompt.negatives
        # Every text, of which `asked` overlooks none, is that of windows to label from alone.
        for text in texts:
            stored = own[own["text"] == text]
            assert set(stored["split"]) == {"label"}
            shown_contexts |= set(stored["context"])
        fires = own[(own["split"] == "label") & own["kind"].isin(["top", "sample"])]
        words = {
            word
            for row in fires.to_dict("records")
            for word, a in zip(row["text"].split(), row["activations"], strict=True)
            if a > 0
        }
        assert {token.strip() for token in prompt.top_tokens} <= words
    assert shown_contexts
    assert not shown_contexts & scoring


def test_features_of_two_words_are_polysemantic_and_judged_by_both(everything, planted):
    out, requests, *_ = everything
    labels = autointerp.load_labels(out).set_index("feature")
    assert labels["polysemantic"].dtype == "boolean"
    windows = pq.read_table(out / "windows.parquet").to_pandas()
    asked = asked_by_feature(requests, windows)
    several = 0
    for feature, words in enumerate(planted.words[:12]):
        row = labels.loc[feature]
        alone = [
            [
                words == {w}
                for words in (
                    set(" ".join(t for t, _ in e.runs).split()) for e in asked[feature].excerpts
                )
            ].count(True)
            for w in words
        ]
        if len(words) == 2 and min(alone) >= 2:
            several += 1
            assert row["polysemantic"]
            assert set(row["meanings"]) == set(words)
            assert row["label"] == "either " + ", or ".join(row["meanings"])
        else:
            assert not row["polysemantic"]
            assert list(row["meanings"]) == []
        assert row["detection_balanced_accuracy"] >= 0.95
    assert several >= 2
    assert labels.loc[12:13, "polysemantic"].isna().all()
    assert labels.loc[12:13, "meanings"].isna().all()


@pytest.mark.parametrize(
    "change",
    [
        ["--label-top", "3"],
        ["--label-quantiles", "4"],
        ["--label-activations", "marks"],
        ["--label-contrast", "0"],
        ["--label-output-tokens", "1"],
        ["--label-meanings", "1"],
    ],
    ids=lambda change: change[0],
)
def test_another_choice_of_what_is_shown_redoes_the_labels(everything, cli, tmp_path, change):
    out, _, flags, server = everything
    shutil.copytree(out, tmp_path / "out")
    flags = [*flags, "--out", str(tmp_path / "out")]
    before = len(server.requests)
    assert "label: already done" in cli("label", *flags)[2]
    assert len(server.requests) == before
    assert cli("label", *flags, *change)[0] == 0
    assert len(server.requests) == before + 3


def test_by_default_the_silent_and_the_logits_are_not_shown(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = [*model_flags(server), *planted.flags(out)]
        assert cli("collect", *flags)[0] == 0
        put_output_tokens(out / "features.parquet")
        assert cli("label", *flags)[0] == 0
    features = [f for r in server.requests for f in scripted.asked(r)]
    assert len(features) == 12
    for feature in features:
        assert len(feature.excerpts) == 10
        assert not feature.near_misses + feature.negatives + feature.raised + feature.lowered
        assert {strength for e in feature.excerpts for _, strength in e.runs} == {None}
    # This model says nothing of meanings: they are unknown, not absent.
    labels = autointerp.load_labels(out)
    assert labels["polysemantic"].isna().all()
