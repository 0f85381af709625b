"""Asking again after one answer for everything, with judges of several kinds."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from autointerp.llm.wire.logprobs import Position
from autointerp.llm.wire.reply import CallFailure, ChatReply, Usage
from autointerp.scoring import SCORERS, forms
from autointerp.scoring.again import CarefulJob
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.replies import ALL_NO, ALL_YES, CHANGED, KEPT, RECEIVED, TELLING
from autointerp.scoring.scorer import FIRES, Item, Plan, answer
from autointerp.vocabulary import Vocabulary
from tests.support.samples import window

VOCABULARY = Vocabulary((b"a",), frozenset())
PROMPT = SimpleNamespace(messages=lambda **_: [{"content": ""}, {"content": ""}])
WINDOW = window([0, 0], [1.0, 0.0])


def job(fires=8, silent=12, items=50, form=forms.BOOLEANS, seed=0):
    truths = np.random.default_rng(seed).permutation([True] * fires + [False] * silent)
    shown = [Item(WINDOW, FIRES if yes else "silent", answer(bool(yes))) for yes in truths]
    return CarefulJob(
        JudgeJob(
            scorer=SCORERS["detection"],
            plan=Plan(3, shown, 0.1, {"silent": 1.0}),
            label_of=3,
            label="a label",
            prompt=PROMPT,
            vocabulary=VOCABULARY,
            settings=JudgeSettings("m", 0.0, items),
            todo=tuple(range(len(shown))),
            chosen_task=SCORERS["detection"].forms[form],
        )
    )


def follow(one, judge):
    """A job to its end; `judge`: items → answers. What came of it, and how many were asked."""
    sizes = []
    while True:
        present = one.present
        asked = [present.plan.items[i] for i in present.todo[: present.settings.items]]
        sizes.append(len(asked))
        said = judge(asked)
        if isinstance(said, CallFailure):
            step = one.reduce(said)
        else:
            text = json.dumps({str(n): bool(yes) for n, yes in enumerate(said, 1)})
            step = one.reduce(ChatReply(text, "stop", False, Usage(10, 1), cost_usd=0.5))
        if step.results:
            (judged,) = step.results
            return judged, sizes
        (one,) = step.follow_ups


def accuracy(judged):
    said = np.array([j.prediction[0] > 0 for j in judged.judgments])
    truth = np.array([j.item.truth[0] > 0 for j in judged.judgments])
    return (said[truth].mean() + 1 - said[~truth].mean()) / 2


def truths(items):
    return [bool(item.truth[0]) for item in items]


def test_a_judge_that_cannot_take_many_is_asked_about_half_as_many():
    judged, sizes = follow(job(), lambda items: truths(items) if len(items) <= 10 else [1] * 20)
    assert sizes == [20, 1, 1, 1, 1, 10, 10]
    assert accuracy(judged) == 1
    assert not judged.is_uniform()
    assert judged.replies.counts == {RECEIVED: 7, TELLING: 1, ALL_YES: 1, CHANGED: 1}
    assert (judged.prompt_tokens, judged.cost_usd) == (70, 3.5)


def test_one_that_can_take_but_one_is_asked_one_by_one():
    judged, sizes = follow(
        job(), lambda items: truths(items) if len(items) == 1 else [0] * len(items)
    )
    assert sizes == [20, 1, 1, 1, 1, 10, 10, *[1] * 16]
    assert accuracy(judged) == 1
    assert not judged.is_uniform()


@pytest.mark.parametrize(("said", "kind"), [(True, ALL_YES), (False, ALL_NO)])
def test_one_answer_for_everything_however_it_is_asked_stays_and_is_flagged(said, kind):
    judged, sizes = follow(job(), lambda items: [said] * len(items))
    assert sizes == [20, 1, 1, 1, 1]
    assert accuracy(judged) == 0.5
    assert judged.is_uniform()
    assert judged.replies.counts == {RECEIVED: 5, TELLING: 1, kind: 1, KEPT: 1}


def test_each_request_is_looked_at_by_itself():
    lazy = iter([False, True, False])

    def judge(items):
        return [0] * len(items) if len(items) == 8 and next(lazy) else truths(items)

    judged, sizes = follow(job(10, 14, items=8), judge)
    assert sizes == [8, 8, 8, 1, 1, 1, 1, 4, 4]
    assert accuracy(judged) == 1


@pytest.mark.parametrize(("fires", "silent"), [(3, 4), (1, 19), (20, 0)])
def test_few_items_or_items_of_one_truth_tell_nothing(fires, silent):
    judged, sizes = follow(job(fires, silent), lambda items: [0] * len(items))
    assert len(sizes) == 1
    assert TELLING not in judged.replies.counts
    assert not judged.is_uniform()


def test_probabilities_are_not_asked_again_but_flagged():
    begun = job(form=forms.PROBABILITIES)
    given = {"token": "false", "logprob": 0.0}
    text = json.dumps({str(n): False for n in range(1, 21)})
    reply = ChatReply(text, "stop", False, Usage(), tokens=[Position(text, [given])])
    (judged,) = begun.reduce(reply).results
    assert judged.is_uniform()


def test_where_asking_again_fails_the_judgment_can_be_had_another_time():
    def judge(items):
        return [0] * 20 if len(items) == 20 else CallFailure("server_error", "down")

    judged, sizes = follow(job(), judge)
    assert judged.unanswered
    assert len(sizes) == 2


def fresh(rng, recall, alarms):
    """A judge that throws dice anew each time that it is asked."""

    def judge(items):
        chance = np.where(truths(items), recall, alarms)
        return (rng.random(len(items)) < chance).tolist()

    return judge


def scores_of(judge, n, **settings):
    return np.array([accuracy(follow(job(seed=i, **settings), judge)[0]) for i in range(n)])


@pytest.mark.parametrize("rate", [0.03, 0.3, 0.9, 0.99])
def test_guesses_score_a_half_at_any_rate_of_yes(rate):
    """The label says nothing, as a null's does: asking again must not make it look better."""
    rng = np.random.default_rng(1)
    found = scores_of(fresh(rng, rate, rate), 400, fires=4, silent=6)
    assert abs(found.mean() - 0.5) < 4 * found.std() / 20


@pytest.mark.parametrize(("recall", "alarms"), [(0.05, 0.0), (0.3, 0.05), (0.95, 0.6)])
def test_a_judge_that_answers_the_same_each_time_keeps_its_score(recall, alarms):
    rng = np.random.default_rng(2)
    asked_again = 0
    for seed in range(60):
        begun = job(4, 6, seed=seed)
        items = begun.present.plan.items
        said = dict(zip(map(id, items), fresh(rng, recall, alarms)(items), strict=True))
        judged, sizes = follow(begun, lambda some, said=said: [said[id(i)] for i in some])
        assert [j.prediction[0] > 0 for j in judged.judgments] == [said[id(i)] for i in items]
        asked_again += len(sizes) > 1
    assert asked_again


@pytest.mark.parametrize(
    ("recall", "alarms", "fires", "silent", "most"),
    [
        (0.2, 0.0, 4, 6, 0.04),  # the worst case: a tenth of requests of ten get all no by chance
        (0.6, 0.1, 4, 6, 0.01),
        (0.9, 0.3, 4, 6, 0.01),
        (0.2, 0.0, 20, 30, 0.01),
    ],
)
def test_dice_that_know_something_gain_little(recall, alarms, fires, silent, most):
    """Answers thrown anew that happen to be all the same are replaced: that can only help."""
    rng = np.random.default_rng(3)
    found = scores_of(fresh(rng, recall, alarms), 300, fires=fires, silent=silent)
    honest = (recall + 1 - alarms) / 2
    error = 4 * found.std() / np.sqrt(len(found))
    assert honest - error < found.mean() < honest + most + error
