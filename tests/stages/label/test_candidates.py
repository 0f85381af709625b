import json
import re
import shutil
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import autointerp
from autointerp.evidence.window_text import one_line
from autointerp.labeling.candidates import views
from autointerp.labeling.excerpts import Shown
from autointerp.labeling.labeler import Candidate, Draft
from autointerp.llm.journal.journal import Journal
from autointerp.scoring.scorer import FIRES, Item, Judged, Judgment, Plan, answer
from autointerp.stages.label.validation import SILENT, Choice, choice_plan, chosen
from tests.conftest import run_command
from tests.support import scripted
from tests.support.fake_server import FakeServer, Fault, key_of, status
from tests.support.planted import WORDS, plant_coder
from tests.support.processes import Command
from tests.support.samples import evidence, window

# What each feature fires on; the last never does.
WORD_OF = ["bade", "bafi", "bago", "baku", "bala", "bame", "bade"]
SECOND_IS_RIGHT, BOTH_ARE_WRONG = [1, 2], [3]
TWIN, DEAD = 6, 7
ASKED = range(6)


@pytest.fixture(scope="module")
def collected(planted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    words = [(word,) for word in WORD_OF] + [()]
    decoder = torch.eye(len(WORDS))[[WORDS.index(w[0]) if w else 60 for w in words]]
    plant_coder(folder / "coder", words, decoder)
    here = replace(planted, coder=folder / "coder", words=words)
    assert run_command("collect", "--split", "context", *here.flags(folder / "run"))[0] == 0
    return here, folder / "run"


@pytest.fixture
def flags(collected, tmp_path, monkeypatch):
    """The flags of a run whose evidence is collected, one in each folder."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    here, run = collected

    def of(server: FakeServer, *more: str, out: str = "out") -> list[str]:
        if not (tmp_path / out).exists():
            shutil.copytree(run, tmp_path / out)
        flags = ["--model", "test-model", "--base-url", server.url, "--features-per-request", "2"]
        flags += ["--input-price", "1", "--output-price", "2", "--link-twins", "0.98"]
        return [*flags, "--candidates", "2", *more, *here.flags(tmp_path / out)]

    return of


def is_usual(asked: scripted.Asked) -> bool:
    """Half of the windows are of the largest activations; another view has one or two of them."""
    return sum(excerpt.strength == 10 for excerpt in asked.excerpts) >= 3


def wrong(number: int, asked: scripted.Asked) -> bool:
    word = scripted.label(number, asked)["label"]
    if word in [WORD_OF[f] for f in BOTH_ARE_WRONG]:
        return True
    return is_usual(asked) == (word in [WORD_OF[f] for f in SECOND_IS_RIGHT])


def respond(request) -> str:
    """As the scripted model does; where a label is to be wrong, one that nothing matches."""
    if not scripted.asks_for_labels(request):
        return scripted.answer(request)
    labels = []
    for number, asked in enumerate(scripted.asked(request), 1):
        label = scripted.label(number, asked)
        if wrong(number, asked):
            label |= {"label": "first guess" if is_usual(asked) else "second guess"}
            label["reason"] = "guessed"
        labels.append(label)
    return json.dumps({"labels": labels})


def table(out) -> pd.DataFrame:
    return autointerp.load_labels(out).set_index("feature")


def stage(out) -> dict:
    return json.loads((out / "run.json").read_text())["stages"]["label"]


def judging(server: FakeServer) -> list[tuple[str, list[str]]]:
    """The label and the texts of each judge's request, sorted."""
    users = [
        r["messages"][1]["content"] for r in server.requests if not scripted.asks_for_labels(r)
    ]
    return [
        (
            re.search(r"^Description: (.*)$", user, re.MULTILINE)[1],
            sorted(text for _, text in re.findall(r"^(\d+)\. (.*)$", user, re.MULTILINE)),
        )
        for user in users
    ]


def test_the_candidate_that_is_right_on_other_windows_wins(cli, flags, tmp_path):
    with FakeServer(respond) as server:
        _, _, said = cli("label", *flags(server), "--dry-run")
        # Two views of 3 groups, and two judgings of 6 features at most.
        assert "label: 18 requests" in said
        assert not server.requests
        assert cli("label", *flags(server))[0] == 0
        # A first candidate without a fault is not compared: nothing can be better.
        assert server.served.total() == 6 + 6 + len(SECOND_IS_RIGHT) + len(BOTH_ARE_WRONG)
        used = [json.loads(body) for body in server.bodies]
        prompt_tokens = sum(len(body) // 4 for body in server.bodies)
        completion_tokens = sum(len(respond(request)) // 4 for request in used)
        code, _, said = cli("label", *flags(server))
        assert (code, "label: already done" in said) == (0, True)
    labels = table(tmp_path / "out")
    right = [f for f in ASKED if f not in BOTH_ARE_WRONG]
    assert labels.loc[right, "label"].tolist() == [WORD_OF[f] for f in right]
    assert labels.loc[right, "reason"].eq("marked").all()
    assert (labels.loc[3, "label"], labels.loc[3, "reason"]) == ("first guess", "guessed")
    for feature, (first, second) in labels.loc[list(ASKED), "candidates"].items():
        if feature in SECOND_IS_RIGHT:
            assert (first["label"], second["label"]) == ("first guess", WORD_OF[feature])
            assert (first["balanced_accuracy"], second["balanced_accuracy"]) == (0.5, 1.0)
        elif feature in BOTH_ARE_WRONG:
            assert first["balanced_accuracy"] == second["balanced_accuracy"] == 0.5
        else:
            assert (first["label"], first["balanced_accuracy"]) == (WORD_OF[feature], 1.0)
            assert (second["label"], second["balanced_accuracy"]) == ("second guess", None)
        assert 10 <= first["n"] <= 24
    # All that was paid is on the rows of those it was paid for.
    assert labels["prompt_tokens"].sum() == prompt_tokens
    assert labels["completion_tokens"].sum() == completion_tokens
    cost = (prompt_tokens + 2 * completion_tokens) / 1e6
    assert labels["cost_usd"].sum() == pytest.approx(cost)
    assert labels.loc[1, "prompt_tokens"] > labels.loc[0, "prompt_tokens"]
    assert labels.loc[DEAD, "candidates"] is pd.NA
    assert labels["error"].isna().all()


def test_a_twin_takes_the_label_that_was_chosen(cli, flags, tmp_path):
    with FakeServer(respond) as server:
        assert cli("label", *flags(server, "--features", "0,6,7"))[0] == 0
        assert len(judging(server)) == 1
    labels = table(tmp_path / "out")
    assert labels.loc[TWIN, "label_of"] == 0
    assert labels.loc[TWIN, "label"] == "bade"
    assert labels.loc[TWIN, "candidates"] is pd.NA
    assert labels.loc[TWIN, "prompt_tokens"] == 0
    assert stage(tmp_path / "out")["saved_by_twins"]["requests"] == 4


def test_only_windows_of_the_validation_split_decide(cli, flags, tmp_path):
    with FakeServer(respond) as server:
        assert cli("label", *flags(server))[0] == 0
        asked = judging(server)
    out = tmp_path / "out"
    windows = pq.read_table(out / "windows.parquet").to_pandas()
    shown = {text for _, texts in asked for text in texts}
    by_split = {
        split: {one_line(t) for t in rows["text"]} for split, rows in windows.groupby("split")
    }
    assert shown <= by_split["validate"]
    assert not shown & (by_split["score"] | by_split["label"])
    corpus = pq.read_table(out / "corpus.parquet").to_pandas()
    assert not shown & {one_line(text) for text in corpus["text"]}
    # Whoever is judged twice is judged by the same windows in the same order.
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, texts in asked:
        groups.setdefault(tuple(texts), []).append(label)
    assert sorted(map(sorted, groups.values())) == sorted(
        [["bade"], ["bala"], ["bame"]]
        + [sorted(["first guess", WORD_OF[f]]) for f in SECOND_IS_RIGHT]
        + [["first guess", "second guess"]]
    )


def test_a_judge_to_whom_all_is_alike_keeps_the_first(cli, flags, tmp_path):
    def undecided(request):
        if scripted.asks_for_labels(request):
            return respond(request)
        numbers = [int(n) for n, _ in scripted._LINE.findall(request["messages"][1]["content"])]
        return json.dumps({"match": numbers, "no_match": []})

    with FakeServer(undecided) as server:
        assert cli("label", *flags(server))[0] == 0
        assert len(judging(server)) == 12
    labels = table(tmp_path / "out").loc[list(ASKED)]
    assert [first["label"] for first, _ in labels["candidates"]] == labels["label"].tolist()


def test_the_first_candidate_is_what_is_asked_for_without_others(cli, flags, tmp_path):
    with FakeServer(respond) as server:
        assert cli("label", *flags(server, "--candidates", "1"))[0] == 0
        alone = table(tmp_path / "out")
        assert alone["candidates"].isna().all()
        before = set(server.bodies)
        assert len(before) == 3
        assert cli("label", *flags(server))[0] == 0
        assert max(server.served.values()) == 1
    both = table(tmp_path / "out")
    kept = [f for f in ASKED if f not in SECOND_IS_RIGHT]
    assert both.loc[kept, "label"].tolist() == alone.loc[kept, "label"].tolist()


@pytest.mark.parametrize("served", [10])
def test_a_killed_run_pays_for_nothing_twice(cli, flags, tmp_path, served):
    with FakeServer(respond) as server:
        slow = ["--max-concurrency", "1"]
        server.on_served = lambda n: process.send(signal.SIGKILL) if n == served else None
        process = Command("label", *flags(server), *slow)
        process.wait()
        server.on_served = None
        journal = Journal.open(tmp_path / "out" / "journal.sqlite")
        written = {b for b in server.bodies if journal.get(key_of(server.url, b)) is not None}
        journal.close()
        before = len(server.bodies)
        assert written
        assert cli("label", *flags(server), *slow)[0] == 0
        assert not written & set(server.bodies[before:])
        assert len(set(server.bodies)) == 15
        disturbed = table(tmp_path / "out")
        assert cli("label", *flags(server, out="calm"), *slow)[0] == 0
    pd.testing.assert_frame_equal(disturbed, table(tmp_path / "calm"))


def test_where_no_judge_can_be_had_the_first_is_kept_until_one_can(cli, flags, tmp_path):
    def no_judge(request, _seen, _index):
        bad = not scripted.asks_for_labels(request) and "Description: bafi" in str(request)
        return status(500) if bad else None

    with FakeServer(respond) as server:
        server.faults = no_judge
        assert cli("label", *flags(server, "--max-attempts", "1"))[0] == 0
        labels = table(tmp_path / "out")
        assert (labels.loc[1, "status"], labels.loc[1, "label"]) == ("labeled", "first guess")
        assert "the first of 2 candidate labels is kept: " in labels.loc[1, "error"]
        # What the first got is known all the same.
        got = [c["balanced_accuracy"] for c in labels.loc[1, "candidates"]]
        assert got == [0.5, None]
        assert labels.loc[2, "label"] == "bago"
        assert labels["error"].isna().sum() == len(labels) - 1
        server.faults = None
        assert cli("label", *flags(server, "--max-attempts", "1"))[0] == 0
    labels = table(tmp_path / "out")
    assert labels.loc[1, "label"] == "bafi"
    assert labels["error"].isna().all()


def test_judgments_that_cannot_be_read_keep_the_first_and_are_asked_again(cli, flags, tmp_path):
    few = list(ASKED)[:4]  # of more, the run would pause
    with FakeServer(lambda r: respond(r) if scripted.asks_for_labels(r) else "hm") as server:
        asked = flags(server, "--features", "0-3")
        assert cli("label", *asked)[0] == 0
        labels = table(tmp_path / "out").loc[few]
        sent = len(server.requests)
        server.respond = respond
        assert cli("label", *asked)[0] == 0
        again = server.requests[sent:]
    assert labels["label"].tolist() == [c[0]["label"] for c in labels["candidates"]]
    assert all(c["balanced_accuracy"] is None for both in labels["candidates"] for c in both)
    assert labels["error"].str.endswith("is kept: too few judgments could be read").all()
    assert again
    assert not any(scripted.asks_for_labels(request) for request in again)
    assert table(tmp_path / "out").loc[few]["error"].isna().all()


def test_a_run_that_stops_keeps_the_first_and_goes_on(cli, flags, tmp_path):
    def revoked(request, _seen, _index):
        return None if scripted.asks_for_labels(request) else status(401, "key revoked")

    with FakeServer(respond) as server:
        server.faults = revoked
        assert cli("label", *flags(server))[0] == 2
        labels = table(tmp_path / "out").loc[list(ASKED)]
        assert labels["status"].eq("labeled").all()
        assert labels["error"].str.endswith("is kept: the run was stopped").all()
        server.faults = None
        assert cli("label", *flags(server))[0] == 0
        assert max(server.served.values()) == 1
    assert table(tmp_path / "out").loc[1, "label"] == "bafi"


def test_what_the_budget_does_not_allow_is_taken_up(cli, flags, tmp_path):
    with FakeServer(respond) as server:
        assert cli("label", *flags(server))[0] == 0
        whole = table(tmp_path / "out")
        # Enough for the first candidates and their worst cases, not for everything.
        budget = str(0.6 * whole["cost_usd"].sum())
        slow = ["--max-concurrency", "1"]
        assert cli("label", *flags(server, "--budget", budget, *slow, out="short"))[0] == 0
        short = table(tmp_path / "short")
        assert "the budget of" in " ".join(short["error"].dropna())
        assert not short.equals(whole)
        assert cli("label", *flags(server, "--budget", "1", *slow, out="short"))[0] == 0
    pd.testing.assert_frame_equal(table(tmp_path / "short"), whole)


def test_where_the_first_is_refused_another_candidate_is_the_label(cli, flags, tmp_path):
    def refuse(request, _seen, _index):
        if not scripted.asks_for_labels(request):
            return None
        return Fault("refusal") if any(map(is_usual, scripted.asked(request))) else None

    with FakeServer(respond, faults=refuse) as server:
        alone = ["--features-per-request", "1", "--features", "1,7"]
        assert cli("label", *flags(server, *alone))[0] == 0
        assert not judging(server)
    labels = table(tmp_path / "out")
    assert (labels.loc[1, "status"], labels.loc[1, "label"]) == ("labeled", "bafi")
    assert labels.loc[1, "error"].startswith("a candidate label is missing: the model declin")
    assert [c["label"] for c in labels.loc[1, "candidates"]] == ["bafi"]


def test_two_runs_are_compared(cli, flags, tmp_path):
    with FakeServer(respond) as server:
        for n in ("1", "2"):
            given = flags(server, "--candidates", n, out=f"run{n}")
            assert cli("label", *given)[0] == cli("score", *given)[0] == 0
    code, said, _ = cli("compare", str(tmp_path / "run1"), str(tmp_path / "run2"))
    assert code == 0
    assert "warning" not in said
    paired = autointerp.compare_runs(tmp_path / "run1", tmp_path / "run2")
    paired = paired[paired["metric"] == "balanced_accuracy"].set_index("feature")
    assert (paired.loc[SECOND_IS_RIGHT, "difference"] > 0.4).all()
    assert (paired.drop(SECOND_IS_RIGHT)["difference"] == 0).all()


def test_views_are_the_usual_then_all_strengths_then_the_largest():
    usual = Shown(5, 5, "numbers", 3, 2)
    broad, narrow = Shown(0, 10, "numbers", 3, 2), Shown(10, 0, "numbers", 3, 2)
    assert views(usual, 1, 20) == [usual]
    assert views(usual, 2, 20) == [usual, broad]
    assert views(usual, 3, 20) == [usual, broad, narrow]
    assert views(usual, 2, 7) == [usual, replace(broad, quantiles=7)]
    assert views(broad, 2, 20) == [broad, narrow]
    assert views(narrow, 2, 20) == [narrow, broad]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["--sample-windows", "0", "--label-quantiles", "0"],
            "candidates need sample_windows",
        ),
        (["--candidates", "3", "--label-top", "0"], "needs label_top and label_quantiles"),
    ],
)
def test_settings_that_leave_no_choice_are_refused(cli, flags, settings, said):
    with FakeServer(respond) as server:
        code, _, error = cli("label", *flags(server, *settings))
    assert (code, said in error) == (2, True)


def test_a_plan_is_of_validation_windows_alone_and_needs_some_of_each_side():
    def some(kind, split, n, first=0):
        fires = [1.0, 0.0] if kind != "negative" else [0.0, 0.0]
        places = range(first, first + n)
        return [window([0, 1], fires, kind=kind, split=split, context=i, rank=i) for i in places]

    kept = some("sample", "validate", 12) + some("top", "validate", 8, first=6)
    kept += some("negative", "validate", 8, first=50)
    other = some("sample", "score", 9, first=90) + some("negative", "label", 9, first=70)
    plan = choice_plan(evidence(3, kept + other), seed=0)
    assert {item.window.split for item in plan.items} == {"validate"}
    fires = [item.window.context for item in plan.items if item.stratum == FIRES]
    assert sorted(fires) == list(range(14))
    assert sum(item.stratum == SILENT for item in plan.items) == 8
    assert all(bool(item.truth[0]) == item.window.fires for item in plan.items)
    assert choice_plan(evidence(3, some("sample", "validate", 9) + other), seed=0) is None
    few = some("sample", "validate", 4) + some("negative", "validate", 8, first=50)
    assert choice_plan(evidence(3, few), seed=0) is None


ANSWERS = st.lists(st.sampled_from([True, False, None]), min_size=8, max_size=8)


@given(st.lists(ANSWERS, min_size=2, max_size=3))
def test_the_best_on_windows_that_were_read_for_all_is_taken_and_the_first_of_equals(answers):
    truth = [i % 3 > 0 for i in range(8)]
    windows = [window([0], [float(t)], split="validate", context=i) for i, t in enumerate(truth)]
    items = [
        Item(w, FIRES if t else SILENT, answer(t)) for w, t in zip(windows, truth, strict=True)
    ]
    plan = Plan(0, items, 0.1, {SILENT: 1.0})
    drafts = [Draft(0, "labeled", "m", label=f"label {i}") for i in range(len(answers))]
    judged = [
        Judged(
            plan,
            "detection",
            0,
            [
                Judgment(item, None if a is None else answer(a))
                for item, a in zip(items, said, strict=True)
            ],
        )
        for said in answers
    ]
    first = replace(drafts[0], candidates=[Candidate(d.label) for d in drafts])
    got = chosen(first, drafts, Choice(0, judged))
    read = [i for i in range(8) if all(said[i] is not None for said in answers)]
    sides = [[i for i in read if truth[i] == side] for side in (True, False)]
    if not all(sides):
        assert (got.label, got.error is None) == ("label 0", False)
        return
    values = [
        np.mean([np.mean([said[i] == truth[i] for i in side]) for side in sides])
        for said in answers
    ]
    assert [c.balanced_accuracy for c in got.candidates] == pytest.approx(values)
    assert {c.n for c in got.candidates} == {len(read)}
    rounded = np.round(values, 9)
    assert got.label == f"label {int(np.argmax(rounded))}"
    assert got.error is None
