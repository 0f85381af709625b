"""Whole runs against a real model that others serve: what must hold whatever it replies.

How good its labels and judgments are is not asked: it is a very small one.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest

import autointerp
from autointerp.errors import AutointerpError
from autointerp.llm.journal.journal_file import info
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from tests.conftest import run_command
from tests.support.llama import MODEL, served
from tests.support.relay import Relay, relayed

pytestmark = pytest.mark.real_model

LABELS = {
    1: "parentheses that close a call",
    4: "the words for, to, from and of",
    97: "the articles the and a",
    167: "the word self",
}
DEAD = 154
# Without those of other tools' protocols: some ask for lists that no schema keeps in form, of which
# a model as small as this one writes none that can be read.
ASKED = [
    name for name, scorer in SCORERS.items() if scorer.task is not None and scorer.protocol is None
]
STATUSES = {"labeled", "failed", "refused", "too_few", "dead"}
PATIENCE_S = 600
# Little of everything: each prompt token takes some milliseconds.
SHOWN = ["--window-length", "8", "--window-before", "5"]
SHOWN += ["--features-per-request", "2", "--label-top", "2", "--label-quantiles", "2"]
SHOWN += ["--label-meanings", "1"]
JUDGED = ["--scorers", ",".join(ASKED), "--judge-items", "6", "--intruder-windows", "1"]
JUDGED += [
    part
    for name in ("detection", "fuzzing", "discrimination", "simulation", "fade")
    for part in (f"--{name}-windows", "2")
]
JUDGED += ["--fade-texts", "2", "--fade-factors", "10", "--fade-continuations", "2"]


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    with served(log) as address, relayed(int(address.rpartition(":")[2])) as relay:
        # Tables as wide as they need, and no key, which no server on this machine needs.
        environment = {"COLUMNS": "300", "OMP_NUM_THREADS": "1"}
        with mock.patch.dict(os.environ, environment):
            os.environ.pop("OPENAI_API_KEY", None)
            yield relay


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> list[str]:
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text(Path(tarfile.__file__).read_text())
    features = ",".join(map(str, [*LABELS, DEAD]))
    flags = ["--subject", "demo", "--coder", "demo", "--tokens", "8192", "--text", str(text)]
    return [*flags, "--features", features, *SHOWN]


def asking(relay: Relay) -> list[str]:
    flags = ["--model", MODEL, "--base-url", relay.url, "--timeout", str(PATIENCE_S)]
    # A model that does not come to an end by itself is not waited for.
    flags += ["--extra-body", '{"max_tokens": 200}']
    return [*flags, "--concurrency", "2", "--max-concurrency", "4", *JUDGED]


def received(out: Path) -> int:
    """Replies in the journal, whatever came of them."""
    found = info(out / "journal.sqlite")
    return found.replies + found.unreadable


def killed_after(out: Path, replies: int, *arguments: str) -> None:
    """Start a command and kill it once the journal has so many replies more."""
    enough = replies + (received(out) if (out / "journal.sqlite").is_file() else 0)
    process = subprocess.Popen(
        [sys.executable, "-m", "autointerp", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(AutointerpError):  # it is being made
                if (out / "journal.sqlite").is_file() and received(out) >= enough:
                    break
            time.sleep(0.02)
    finally:
        process.kill()
    _, said = process.communicate()
    assert process.returncode == -9, said
    assert "Traceback" not in said


def gone_on(relay: Relay, out: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command to its end; what it asks for is new, and all of it is kept."""
    before = info(out / "journal.sqlite")
    relay.exchanges()
    code, said, errors = run_command(*arguments)
    assert "Traceback" not in said + errors
    replies = [json.loads(raw) for _, head, raw in relay.exchanges() if b" 200 " in head]
    bought = [reply for reply in replies if reply.get("object") == "chat.completion"]
    after = info(out / "journal.sqlite")
    # A reply that was there already would have been written over: the journal has one of each.
    assert len(bought) == after.replies + after.unreadable - before.replies - before.unreadable
    for kind in ("prompt_tokens", "completion_tokens"):
        spent = sum(reply["usage"][kind] for reply in bought)
        assert spent == getattr(after, kind) - getattr(before, kind)
    return code, said, errors


def check_labels(labels: pd.DataFrame) -> None:
    assert labels["feature"].tolist() == sorted([*LABELS, DEAD])
    assert set(labels["status"]) <= STATUSES
    labeled = labels["status"] == "labeled"
    assert (labels["label"].notna() == labeled).all()
    assert (labels["label"].dropna().str.strip() != "").all()
    assert (
        labels.loc[labels["status"].isin(["failed", "refused", "too_few"]), "error"].notna().all()
    )
    assert labels["confidence"].dropna().between(0, 1).all()


def check_scores(out: Path, labels: pd.DataFrame) -> None:
    """Parse rates and counts are those of the judgments, and what was not read is said."""
    scores = autointerp.load_scores(out)
    judged = pd.read_parquet(Run(out).predictions)
    labeled = set(labels.loc[labels["status"] == "labeled", "feature"])
    assert set(scores["feature"]) <= labeled
    assert set(judged["feature"]) <= labeled
    judged["generated"] = judged["window"].map(lambda window: window["kind"] == "generated")
    own = judged[judged["label_of"] == judged["feature"]]
    rows = labels.set_index("feature")
    for (feature, scorer, generated), each in own.groupby(["feature", "scorer", "generated"]):
        rate = read_share(each)
        of_it = (scores["feature"] == feature) & (scores["scorer"] == scorer)
        metric = "fade_faithfulness" if generated else SCORERS[scorer].metric
        found = scores[of_it & (scores["metric"] == metric)]
        assert found["parse_rate"].tolist() == pytest.approx([rate])
        if not generated:
            assert rows.loc[feature, f"{scorer}_parse_rate"] == pytest.approx(rate)
            assert (f"{scorer}_parse_rate" in rows.loc[feature, "flags"]) == (rate < 0.9)
        if rate < 1:
            assert f"{scorer}: " in rows.loc[feature, "error"]
    counted = own[own["parsed"] & ~own["generated"]].groupby(["feature", "scorer"]).size()
    for scorer in {"detection", "fuzzing", "intruder", "discrimination"} & set(own["scorer"]):
        for feature in labeled:
            is_scored = pd.notna(rows.loc[feature, f"{scorer}_{SCORERS[scorer].metric}"])
            n = counted.get((feature, scorer), 0) if is_scored else 0
            assert rows.loc[feature, f"{scorer}_n"] == n


def read_share(judged: pd.DataFrame) -> float:
    """The share of judgments, of simulation of tokens, that were read."""
    if judged["scorer"].iloc[0] != "simulation":
        return judged["parsed"].mean()
    asked = judged["token_truth"].map(len).sum()
    read = (
        judged["token_prediction"]
        .dropna()
        .map(lambda v: sum(x is not None and not math.isnan(x) for x in v))
    )
    return read.sum() / asked


def check_spending(out: Path, labels: pd.DataFrame, said: str) -> None:
    """What features took is what all replies took; those with one label may share a reply."""
    journal = info(out / "journal.sqlite")
    bought = journal.prompt_tokens, journal.completion_tokens
    prompt, completion = (int(labels[f"{k}_tokens"].sum()) for k in ("prompt", "completion"))
    if labels["label"].dropna().is_unique:
        assert (prompt, completion) == bought
    else:
        assert prompt >= bought[0]
        assert completion >= bought[1]
    assert f"{prompt:,} prompt and {completion:,} completion tokens, price unknown" in said


def is_hopeless(code: int, errors: str) -> bool:
    """Whether the run ended because reply after reply was unreadable, and said so."""
    return code == 2 and "paused: replies could be read in the last" in errors


def check_summary(labels: pd.DataFrame, code: int, said: str, errors: str) -> None:
    for status, n in labels["status"].value_counts().items():
        assert f"{n} {status}" in said
    failed = int((labels["status"] == "failed").sum())
    many = failed > 0.1 * len(labels)
    assert code == int(many), errors
    assert (f"{failed} of {len(labels)} features failed" in errors) == many


def test_a_killed_run_goes_on_and_all_of_it_adds_up(relay, source, tmp_path):
    out = tmp_path / "out"
    # Every scorer has its turn below.
    few = ["--scorers", "detection,simulation,intruder"]
    flags = [*source, "--out", str(out), *asking(relay), *few]
    code, _, errors = run_command("collect", *flags)
    assert code == 0, errors
    killed_after(out, 2, "run", *flags)
    code, said, errors = gone_on(relay, out, "run", *flags)
    labels = autointerp.load_labels(out)
    check_labels(labels)
    check_scores(out, labels)
    if is_hopeless(code, errors):
        return
    check_spending(out, labels, said)
    check_summary(labels, code, said, errors)

    # Once more: what was answered is not asked again, what was in vain is.
    again = gone_on(relay, out, "run", *flags)
    if not (labels["status"] == "failed").any() and "missing" not in errors:
        assert again[0] == 0
        pd.testing.assert_frame_equal(labels, autointerp.load_labels(out))


def test_every_scorer_judges_labels_that_are_there(relay, source, tmp_path):
    """The model's own labels may be few: these are somebody else's."""
    out, theirs = tmp_path / "out", tmp_path / "explanations.jsonl"
    rows = [{"index": str(f), "description": text} for f, text in LABELS.items()]
    made_by = {"modelId": "m", "layer": "l", "explanationModelName": "e", "typeName": "t"}
    theirs.write_text("".join(json.dumps(row | made_by) + "\n" for row in rows))
    # As JSON: what a schema keeps in form can be read, and one reply that can be keeps a run going.
    flags = [*source, "--out", str(out), *asking(relay), "--simulation-mode", "json"]
    flags += ["--judge-form", "booleans"]
    for command in (
        ("collect", *flags),
        ("import", "neuronpedia", str(theirs), "--run", str(out)),
    ):
        code, _, errors = run_command(*command)
        assert code == 0, errors
    killed_after(out, 8, "score", *flags)
    code, said, errors = gone_on(relay, out, "score", *flags)
    assert code == 0, errors
    labels = autointerp.load_labels(out)
    check_scores(out, labels)
    check_spending(out, labels, said)
    judged = pd.read_parquet(Run(out).predictions)
    of_each = judged.groupby("scorer")["feature"].agg(set)
    assert of_each.to_dict() == {name: set(LABELS) for name in ASKED}
    nulls = judged[judged["label_of"] != judged["feature"]].groupby("scorer")["feature"].agg(set)
    assert nulls.to_dict() == {n: set(LABELS) for n in ASKED if SCORERS[n].needs_label}
    metrics = set(autointerp.load_scores(out)["metric"])
    assert {SCORERS[name].metric for name in ASKED} | {
        "fade_clarity",
        "fade_faithfulness",
    } <= metrics
    assert set(judged.loc[judged["scorer"] == "simulation", "mode"]) == {"json"}


def test_doctor_says_what_the_endpoint_can_do(relay, source, tmp_path):
    out = tmp_path / "out"
    code, said, errors = run_command("doctor", *source, "--out", str(out), *asking(relay))
    assert code in (0, 1), errors
    assert "Traceback" not in said + errors
    assert relay.url in said
    assert MODEL in said
    assert "json_schema" in said
    assert "top_logprobs" in said
    assert "usage" in said
    assert "reported" in said
