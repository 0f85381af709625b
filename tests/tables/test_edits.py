"""Edits are kept beside a run, whoever writes them and whatever is in them."""

import multiprocessing
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest

import autointerp
from autointerp.errors import AutointerpError
from autointerp.plain_text import tidy
from autointerp.runs.directory import Run
from autointerp.tables.edits import Edit, add_edit, read_edits
from tests.support.hostile import EVERYTHING
from tests.tables.test_compare import score
from tests.tables.test_read import a_run, label

THEN = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
SCORED = {"detection_balanced_accuracy": 0.75, "detection_n": 50, "population_f1": 0.5}


@pytest.fixture
def run(tmp_path):
    rows = [
        label(0, "own", **SCORED, meanings=["m"], request="0123", prompt_tokens=10, cost_usd=0.5),
        label(1, "own", **SCORED),
        label(2, None, "failed", error="no reply"),
        label(3, "Twin", label_of=0, flags=["detection_parse_rate"], confidence=0.25),
    ]
    return Run(a_run(tmp_path / "run", rows, [score(0, 0.75)]))


def edit(feature=0, kind="label", author="ann", minutes=0, **columns):
    return Edit(feature, kind, author, THEN + timedelta(minutes=minutes), **columns)


def test_edits_come_back_as_they_were_made(run):
    assert read_edits(run) == []
    made = [
        edit(label="new", reason="why", confidence=0.75),
        edit(1, "vote", "bob", 1, vote=-1),
        edit(0, "note", "bob", 2, text="hm"),
        edit(
            2, "model_label", "m", 3, label="x", prompt_tokens=9, completion_tokens=2, cost_usd=1.0
        ),
    ]
    for one in [made[2], made[0], made[3], made[1]]:  # the clocks of writers may be apart
        add_edit(run, one)
    assert read_edits(run) == made
    assert read_edits(run, 0) == [made[0], made[2]]
    assert read_edits(run, 3) == []


def test_the_newest_label_stands_in_without_the_scores_of_the_other(run):
    before = pq.read_table(run.labels)
    add_edit(run, edit(0, label="mine", reason="seen", confidence=0.5, minutes=1))
    add_edit(run, edit(0, label="older"))
    add_edit(run, edit(2, label="own", author="bob"))
    add_edit(run, edit(3, label="Twin", author="bob"))  # as it is: its scores are its own
    found = autointerp.load_labels(run.path, edits=True)
    assert found.label.tolist() == ["mine", "own", "own", "Twin"]
    assert found.status.tolist() == ["labeled"] * 4
    assert found.labeler.isna().tolist() == [False, True, False, False]
    assert found.labeler.dropna().tolist() == ["ann", "bob", "bob"]
    assert found.edited.tolist() == [True, False, True, True]
    assert found.original_label.dropna().tolist() == ["own", "Twin"]
    assert found.shares_label.tolist() == [0, 1, 1, 0]
    for name in (*SCORED, "meanings", "request", "error"):
        assert found.loc[[0, 2], name].isna().all()
    assert found.loc[1, "detection_balanced_accuracy"] == 0.75
    assert found.loc[3, "label_of"] == 0
    assert list(found.loc[3, "flags"]) == ["detection_parse_rate"]
    assert found.loc[[0, 3], "confidence"].tolist()[0] == 0.5
    # What the run has written is not touched, nor what is read without edits.
    assert pq.read_table(run.labels).equals(before)
    assert autointerp.load_labels(run.path).label.tolist()[0] == "own"


def test_each_author_has_one_vote_and_notes_pile_up(run):
    for minutes, (feature, author, vote) in enumerate(
        [(0, "ann", 1), (0, "bob", 1), (0, "ann", -1), (0, "eve", 1), (1, "ann", 1), (1, "ann", 0)]
    ):
        add_edit(run, edit(feature, "vote", author, minutes, vote=vote))
    add_edit(run, edit(1, "note", minutes=2, text="second"))
    add_edit(run, edit(1, "note", minutes=1, text="first"))
    found = autointerp.load_labels(run.path, edits=True)
    assert found.votes.tolist() == [1, pd.NA, pd.NA, pd.NA]
    assert [list(notes) for notes in found.notes] == [[], ["first", "second"], [], []]
    assert not found.edited.any()
    assert found.label.tolist()[0] == "own"


def test_a_new_label_has_no_votes_yet(run):
    add_edit(run, edit(0, "vote", "ann", 1, vote=-1))
    add_edit(run, edit(0, label="better", minutes=2))
    assert autointerp.load_labels(run.path, edits=True).votes.isna()[0]
    add_edit(run, edit(0, "vote", "bob", 3, vote=1))
    assert autointerp.load_labels(run.path, edits=True).votes[0] == 1


def test_labels_that_were_asked_for_cost_something(run):
    add_edit(run, edit(0, "model_label", "m", label="x", prompt_tokens=5, cost_usd=0.25))
    add_edit(run, edit(0, "model_label", "m", label="y", prompt_tokens=5, cost_usd=0.25))
    add_edit(run, edit(3, "model_label", "m", label="x", prompt_tokens=5))
    found = autointerp.load_labels(run.path, edits=True)
    assert found.loc[0, ["prompt_tokens", "cost_usd"]].tolist() == [20, 1.0]
    assert found.loc[3, "prompt_tokens"] == 5
    assert pd.isna(found.loc[3, "cost_usd"])


def test_edits_of_features_that_the_table_no_longer_has_are_kept(run):
    add_edit(run, edit(3, label="x"))
    pq.write_table(pq.read_table(run.labels).slice(0, 2), run.labels)
    found = autointerp.load_labels(run.path, edits=True)
    assert not found.edited.any()
    assert len(read_edits(run)) == 1


def test_whatever_a_text_holds_comes_back(run):
    texts = {name: text for name, text in EVERYTHING.items() if tidy(text) and len(text) < 20_000}
    assert len(texts) > 40
    kept = {}
    for name, text in texts.items():
        text = text[:1000]
        add_edit(run, edit(0, label=text, reason=text, author=(tidy(name) + text)[:100]))
        add_edit(run, edit(0, "note", text=text))
        kept[name] = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    found = read_edits(run)
    assert [e.label for e in found if e.kind == "label"] == list(kept.values())
    assert [e.text for e in found if e.kind == "note"] == list(kept.values())
    frame = autointerp.load_labels(run.path, edits=True)
    assert frame.label[0] == list(kept.values())[-1]
    assert list(frame.notes[0]) == list(kept.values())


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"feature": 9}, "feature 9 is not in"),
        ({"feature": -1}, "feature -1 is not in"),
        ({"feature": 1 << 40}, "is not in"),
        ({"label": None}, "the label of an edit must not be empty"),
        ({"label": " \u200b\n"}, "the label of an edit must not be empty"),
        ({"label": "x" * 1001}, r"label has 1,001 characters; the limit is 1,000"),
        ({"reason": "x" * 5001}, "reason has"),
        ({"author": "\t"}, "the author of an edit must not be empty"),
        ({"author": "x" * 101}, "author has"),
        ({"confidence": 1.5}, "between 0 and 1"),
        ({"confidence": float("nan")}, "between 0 and 1"),
        ({"time": datetime(2026, 1, 1)}, "no time zone"),
        ({"kind": "delete"}, "not 'delete'"),
        ({"kind": "note"}, "the text of an edit must not be empty"),
        ({"kind": "note", "text": "x" * 20_001}, "text has"),
        ({"kind": "vote"}, "a vote must be 1, -1, or 0"),
        ({"kind": "vote", "vote": 2}, "not 2"),
        ({"kind": "vote", "vote": True}, "not True"),
        ({"kind": "vote", "vote": 0.5}, "not 0.5"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line(run, wrong, why):
    with pytest.raises(AutointerpError, match=why) as refused:
        add_edit(run, replace(edit(label="x"), **wrong))
    assert "\n" not in str(refused.value)
    assert not run.edits.exists()


def test_a_run_without_features_takes_no_edits(tmp_path):
    with pytest.raises(AutointerpError, match="no features yet"):
        add_edit(Run(tmp_path), edit(label="x"))


def add_ten(run, author, *, begin_runs=False):
    for i in range(10):
        add_edit(run, edit(0, "note", author, i, text=str(i)))
        if begin_runs:
            with run.locked():  # clears leftovers away
                pass


def test_writers_at_once_lose_nothing(run):
    """Processes and threads, while runs begin."""
    processes = [
        multiprocessing.get_context("fork").Process(target=add_ten, args=[run, name])
        for name in ("a", "b")
    ]
    threads = [
        threading.Thread(target=add_ten, args=[run, "c"], kwargs={"begin_runs": True}),
        threading.Thread(target=add_ten, args=[run, "d"]),
    ]
    for one in [*processes, *threads]:
        one.start()
    for one in [*processes, *threads]:
        one.join()
    assert [one.exitcode for one in processes] == [0, 0]
    found = {name: [e.text for e in read_edits(run) if e.author == name] for name in "abcd"}
    assert found == {name: [str(i) for i in range(10)] for name in "abcd"}


def test_a_writer_that_dies_leaves_the_edits_as_they_were(run, monkeypatch):
    add_edit(run, edit(label="first"))
    before = run.edits.read_bytes()

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            add_edit(run, edit(label="second"))
    assert run.edits.read_bytes() == before
    (run.path / f".{run.edits.name}.1.new").write_bytes(b"half")  # of one that was killed
    add_edit(run, edit(label="third"))
    assert [one.label for one in read_edits(run)] == ["first", "third"]
    assert sorted(p.name for p in run.path.glob(".*")) == [".edits.lock"]
