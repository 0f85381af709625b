import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.wire.reply import ChatReply, Usage
from autointerp.llm.wire.structured import lists
from autointerp.metrics.estimates import wilson
from autointerp.prompting.prompts import BUNDLED, load_prompt
from autointerp.rules.lexical import LexicalLabeler
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.null import Labeled
from autointerp.scoring.scorer import Judged, Judgment, Material
from autointerp.scoring.scorers import discrimination
from autointerp.scoring.scorers.choices import LETTERS, Choices, KnownLabels
from autointerp.vocabulary import Vocabulary
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.planted import plant
from tests.support.samples import corpus_of, evidence, window

VOCABULARY = Vocabulary(tuple(f" w{i}".encode() for i in range(10)), frozenset())
CORPUS = corpus_of({}, {}, 10)


def labels(names, n_active=lambda feature: 100):
    return KnownLabels(Labeled(f, name, n_active(f)) for f, name in names.items())


def windows(token, feature_tokens=4, kind="sample", split="score"):
    return [
        window([0, token, 0], [0, 2 + i, 0], kind=kind, split=split, context=i, rank=i,
               text=f" w0 w{token} w0")
        for i in range(feature_tokens)
    ]  # fmt: skip


def plan(known, similar=(), feature=3, token=3, seed=0, n=10):
    found = evidence(feature, windows(token), similar=similar)
    return discrimination.plan(
        Material(found, CORPUS, [], seed, labels=known),
        discrimination.DiscriminationSettings(windows=n),
    )


def job(planned, label="three"):
    return JudgeJob(
        scorer=discrimination.SCORER,
        plan=planned,
        label_of=3,
        label=label,
        prompt=load_prompt("discrimination", BUNDLED),
        vocabulary=VOCABULARY,
        settings=JudgeSettings("m", 0.0, 50),
        todo=tuple(range(len(planned.items))),
    )


def asked(first, reply):
    """The judgment of a judge that replies so to every request."""
    step = first.reduce(ChatReply(reply, "stop", False, Usage(1, 1), 0.0))
    while step.follow_ups:
        step = step.follow_ups[0].reduce(ChatReply(reply, "stop", False, Usage(1, 1), 0.0))
    return step.results[0]


def said(letter, n):
    return json.dumps({each: list(range(1, n + 1)) * (each == letter) for each in LETTERS})


NAMES = dict(enumerate(("nought", "one", "two", "three", "four", "five", "six")))


def test_the_nearest_features_come_first_then_those_that_fire_as_often():
    known = labels(NAMES, n_active=lambda f: 10**f)
    for similar, expected in (
        ([(6, 0.9), (0, 0.8), (1, 0.7), (2, 0.6)], {6, 0, 1}),
        ([(6, 0.9), (9, 0.8), (3, 0.7)], {6, 2, 1}),  # 9 has no label, 3 is the feature itself
        ([], {2, 1, 4}),  # it fires 100 times; 4 is as far as 0
    ):
        planned = plan(known, similar)
        assert len(planned.items) == 4
        assert all(item.window.fires for item in planned.items)
        for item in planned.items:
            assert {other.feature for other in item.choices.others} == expected
    again = plan(known).items[0].choices
    assert again == plan(known).items[0].choices
    places = {plan(known, seed=seed).items[0].choices.place for seed in range(40)}
    assert places == {0, 1, 2, 3}


def test_too_few_other_labels_are_nothing_to_choose_from():
    known = labels({f: NAMES[f] for f in (1, 2, 3)})
    planned = plan(known)
    assert list(planned.items) == []
    found = discrimination.reduce(Judged(planned, "discrimination", 3, []), 0)
    assert np.isnan(found["accuracy"].value)
    assert found["accuracy"].n == 0


def test_the_prompt_lists_each_label_once_and_marks_what_is_active():
    user = job(plan(labels(NAMES))).messages()[1]["content"]
    lines = user.splitlines()
    assert [line[:3] for line in lines[:4]] == ["A. ", "B. ", "C. ", "D. "]
    assert sorted(line[3:] for line in lines[:4]) == sorted(["nought", "one", "two", "three"])
    assert lines[4:] == ["", *(f"{n}.  w0<< w3>> w0" for n in range(1, 5))]
    planned = plan(labels(NAMES))
    odd = Vocabulary(tuple(f" <{i}".encode() for i in range(10)), frozenset())
    for item in planned.items:
        object.__setattr__(item.window, "text", " <0 <3 <0")
    first = job(planned)
    object.__setattr__(first, "vocabulary", odd)
    assert "1. [⟦ ⟧]  <0⟦ <3⟧ <0" in first.messages()[1]["content"]


def test_choices_are_worth_one_or_nothing_where_labels_differ():
    planned = plan(labels(NAMES))
    place = planned.items[0].choices.place
    for letter in LETTERS:
        judged = asked(job(planned), said(letter, 4))
        found = discrimination.reduce(judged, 0)["accuracy"]
        right = letter == LETTERS[place]
        assert (found.value, found.n) == (float(right), 4)
        assert (found.ci_low, found.ci_high) == wilson(4 * right, 4)
    mixed = {letter: [] for letter in LETTERS}
    mixed[LETTERS[place]], mixed[LETTERS[place - 1]] = [1, 2, 3], [4]
    found = discrimination.reduce(asked(job(planned), json.dumps(mixed)), 0)["accuracy"]
    assert found.value == 0.75


@given(
    others=st.lists(st.sampled_from(["a", "A", "b", "c"]), min_size=3, max_size=3),
    own=st.sampled_from(["a", "b", "c", "d"]),
    place=st.integers(0, 3),
)
def test_chance_is_a_quarter_whatever_labels_are_shared(others, own, place):
    choices = Choices(tuple(Labeled(i, x, 1) for i, x in enumerate(others)), place).with_own(own)
    worth = [choices.credit(letter) for letter in LETTERS]
    assert sum(worth) == pytest.approx(1)
    assert choices.labels()[place] == own
    same = [label.casefold() == own for label in choices.labels()]
    assert all((w > 0) == s for w, s in zip(worth, same, strict=True))


def test_a_label_that_a_neighbor_shares_scores_half():
    planned = plan(labels(NAMES | {1: "Three"}), similar=[(1, 0.9)])
    for letter, label in zip(LETTERS, job(planned)._items()[0].choices.labels(), strict=True):
        judged = asked(job(planned), said(letter, 4))
        value = discrimination.reduce(judged, 0)["accuracy"].value
        assert value == (0.5 if label.casefold() == "three" else 0)


def test_windows_that_are_under_several_letters_or_none_are_asked_again_then_missing():
    planned = plan(labels(NAMES))
    place = LETTERS[planned.items[0].choices.place]
    other = LETTERS[planned.items[0].choices.place - 1]
    reply = {letter: [] for letter in LETTERS} | {place: [1, 2], other: [2]}
    judged = asked(job(planned), json.dumps(reply))
    # Of the three asked about again, in their order, the first is now 1 and the second 2.
    assert [j.prediction is not None for j in judged.judgments] == [True, True, False, False]
    assert judged.parse_rate() == 0.5
    assert discrimination.reduce(judged, 0)["accuracy"].n == 2


def test_lists_of_numbers_are_read_where_a_reply_leaves_some_out_or_breaks_off():
    assert lists('{"A": [1], "C": [2, 3]}', LETTERS, 3) == {1: "A", 2: "C", 3: "C"}
    assert lists('So: ```{"A": [], "B": [1, 2], "C": [3], "D": [', LETTERS, 4) == {
        1: "B", 2: "B", 3: "C",
    }  # fmt: skip
    assert lists('{"A": [1, 3], "B": [1], "C": [], "D": ["2"]}', LETTERS, 3) == {2: "D", 3: "A"}


def learned(labeler, token):
    shown = [
        *windows(token, split="label"),
        *(window([0, 0, 0], [0, 0, 0], kind="negative", split="label", context=50 + i,
                 text=" w0 w0 w0") for i in range(4)),
    ]  # fmt: skip
    return labeler.learn(evidence(token, shown))


def test_the_rule_that_predicts_most_is_chosen_and_equal_ones_share():
    labeler = LexicalLabeler(VOCABULARY)
    rules = {token: learned(labeler, token) for token in (3, 4, 5, 6)}

    def judged(own, others):
        known = KnownLabels(
            Labeled(f, rules[t].phrase(), 100, rules[t].to_json()) for f, t in others.items()
        )
        planned = plan(known)
        found: list[Judgment] = discrimination.SCORER.by_rule(labeler, rules[own], planned.items)
        return [float(j.prediction[0]) for j in found]

    assert judged(3, {4: 4, 5: 5, 6: 6}) == [1.0] * 4
    assert judged(4, {4: 3, 5: 5, 6: 6}) == [0.0] * 4
    assert judged(3, {4: 3, 5: 5, 6: 6}) == [0.5] * 4
    assert judged(4, {4: 4, 5: 5, 6: 6}) == [0.25] * 4  # none says anything of these windows


def test_a_run_scores_it_by_rules_and_by_a_judge(cli, planted, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    scorers = ["--scorers", "detection,discrimination"]
    code, _, text = cli("run", *planted.flags(tmp_path / "rules"), *scorers)
    assert code == 0, text
    rules = pd.read_parquet(tmp_path / "rules" / "labels.parquet").set_index("feature")
    with FakeServer(scripted.answer) as server:
        flags = [*planted.flags(tmp_path / "judge"), *scorers, "--model", "test-model"]
        flags += ["--base-url", server.url, "--features-per-request", "4"]
        code, _, text = cli("run", *flags)
    assert code == 0, text
    judge = pd.read_parquet(tmp_path / "judge" / "labels.parquet").set_index("feature")
    for table in (rules, judge):
        right = table[table.status == "labeled"]
        assert len(right) == 12
        assert (right.discrimination_accuracy > 0.9).all()
        assert (right.discrimination_n == 10).all()
        assert (right.discrimination_null == 0.25).all()
        assert (right.discrimination_parse_rate == 1).all()
        assert (table[table.status != "labeled"].discrimination_accuracy.isna()).all()


def test_a_run_of_too_few_labels_says_that_there_was_nothing_to_choose_from(
    cli, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    small = plant(tmp_path, contexts=120, features=5)
    flags = [*small.flags(tmp_path / "out"), "--scorers", "discrimination"]
    with FakeServer(scripted.answer) as server:
        flags += ["--model", "test-model", "--base-url", server.url, "--features-per-request", "1"]
        code, _, text = cli("run", *flags)
    assert code == 0, text
    table = pd.read_parquet(tmp_path / "out" / "labels.parquet")
    labeled = table[table.status == "labeled"]
    assert len(labeled) == 3
    assert labeled.discrimination_accuracy.isna().all()
    assert labeled.error.str.contains("discrimination: there are too few").all()
    assert sum('"A": [' in r["messages"][0]["content"] for r in server.requests) == 0
