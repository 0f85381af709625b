import json
from dataclasses import replace

from autointerp.labeling.prompts import BUNDLED, load_prompt
from autointerp.llm.reply import CallFailure, ChatReply, Usage
from autointerp.scoring import detection
from autointerp.scoring.judge import TASKS, JudgeJob, JudgeSettings
from autointerp.vocabulary import Vocabulary
from tests.samples import window

VOCABULARY = Vocabulary(tuple(f" w{i}".encode() for i in range(10)), frozenset())
SETTINGS = JudgeSettings("m", 0.0)


def job(windows=4):
    shown = [
        replace(window([i, i], [1.0, 0.0], context=i), text=f"window {i}") for i in range(windows)
    ]
    return JudgeJob(
        task=TASKS[detection.NAME],
        feature=3,
        label_of=3,
        label="a label",
        max_activation=1.0,
        windows=shown,
        prompt=load_prompt(detection.NAME, BUNDLED),
        vocabulary=VOCABULARY,
        settings=SETTINGS,
        todo=tuple(range(windows)),
    )


def judge(first, answer):
    """Follow a job to its end; `answer` gives an outcome for the texts in a request."""
    jobs, results, asked = [first], [], []
    while jobs:
        one = jobs.pop(0)
        user = one.request().messages[1]["content"]
        shown = [i for i in range(len(first.windows)) if f"window {i}" in user]
        asked.append(shown)
        step = one.reduce(answer(shown))
        jobs += step.follow_ups
        results += step.results
    assert len(results) == 1
    return results[0], asked


def matches(shown, **changes):
    text = json.dumps({"answers": [{"w": n, "match": True} for n in range(1, len(shown) + 1)]})
    return replace(ChatReply(text, "stop", False, Usage(10, 2), cost_usd=0.5), **changes)


def judged_windows(judged):
    return [i for i, j in enumerate(judged.judgments) if j.prediction is not None]


def test_a_window_that_cannot_be_asked_about_costs_only_itself():
    for outcome in (
        CallFailure("too_long", "too long"),
        CallFailure("content_filter", "filtered"),
        CallFailure("bad_request", "odd"),
        matches([], refused=True),
    ):
        judged, asked = judge(job(), lambda shown, o=outcome: o if 2 in shown else matches(shown))
        assert judged_windows(judged) == [0, 1, 3]
        assert not judged.unanswered
        assert judged.error
        assert len(asked) <= 6


def test_when_nobody_answers_the_judgment_can_be_had_another_time():
    judged, _ = judge(job(), lambda _: CallFailure("server_error", "down"))
    assert judged.unanswered
    assert judged_windows(judged) == []


def test_a_reply_cut_off_before_anything_gets_more_room_once():
    rooms = []

    def cut(shown):
        return matches(shown, text="", finish_reason="length")

    first = job()
    rooms.append(first.request().max_tokens)
    step = first.reduce(cut([0]))
    rooms.append(step.follow_ups[0].request().max_tokens)
    assert rooms[1] == 8 * rooms[0]
    judged, asked = judge(job(), cut)
    assert judged_windows(judged) == []
    assert len(asked) <= 4


def test_what_was_spent_adds_up_over_all_requests():
    judged, asked = judge(
        job(), lambda shown: CallFailure("too_long", "x") if len(shown) > 2 else matches(shown)
    )
    assert judged.cost_usd == 0.5 * (len(asked) - 1)
    assert judged.prompt_tokens == 10 * (len(asked) - 1)
