import json
from dataclasses import replace

from autointerp.llm.wire.reply import CallFailure, ChatReply, Usage
from autointerp.prompting.prompts import BUNDLED, load_prompt
from autointerp.scoring import SCORERS
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.scorer import FIRES, Item, Plan, answer
from autointerp.vocabulary import Vocabulary
from tests.support.samples import window

VOCABULARY = Vocabulary(tuple(f" w{i}".encode() for i in range(10)), frozenset())
SETTINGS = JudgeSettings("m", 0.0, 50)


def job(windows=4, **changes):
    shown = [
        replace(window([i, i], [1.0, 0.0], context=i), text=f"window {i}") for i in range(windows)
    ]
    return JudgeJob(
        scorer=SCORERS["detection"],
        plan=Plan(3, [Item(w, FIRES, answer(True)) for w in shown], 0.1),
        label_of=3,
        label="a label",
        prompt=load_prompt("detection", BUNDLED),
        vocabulary=VOCABULARY,
        settings=SETTINGS,
        todo=tuple(range(windows)),
        **changes,
    )


def judge(first, answer):
    """Follow a job to its end; `answer` gives an outcome for the texts in a request."""
    jobs, results, asked = [first], [], []
    while jobs:
        one = jobs.pop(0)
        user = one.request().messages[1]["content"]
        shown = [i for i in range(len(first.plan.items)) if f"window {i}" in user]
        asked.append(shown)
        step = one.reduce(answer(shown))
        jobs += step.follow_ups
        results += step.results
    assert len(results) == 1
    return results[0], asked


def matches(shown, **changes):
    text = json.dumps({"match": list(range(1, len(shown) + 1)), "no_match": []})
    return replace(ChatReply(text, "stop", False, Usage(10, 2), cost_usd=0.5), **changes)


def judged_windows(judged):
    return [i for i, j in enumerate(judged.judgments) if j.prediction is not None]


def test_a_window_that_cannot_be_asked_about_costs_only_itself():
    for outcome in (
        CallFailure("too_long", "too long"),
        CallFailure("content_filter", "filtered"),
        CallFailure("bad_request", "odd"),
        matches([], declined=True),
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


def test_no_more_items_a_request_than_the_settings_allow():
    settings = JudgeSettings("m", 0.0, 3)
    judged, asked = judge(replace(job(8), settings=settings), matches)
    assert asked == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert judged_windows(judged) == list(range(8))
    assert judged.error is None


def test_numbers_in_both_lists_or_in_none_are_asked_for_again_once():
    replies = [
        {"match": [1, 2], "no_match": [2, 3]},  # 2 is in both, 4 in none
        {"match": [2], "no_match": []},  # 4, the second of those that were left
    ]
    judged, asked = judge(
        job(), lambda _: ChatReply(json.dumps(replies.pop(0)), "stop", False, Usage(1, 1), 0.0)
    )
    assert asked == [[0, 1, 2, 3], [1, 3]]
    assert [None if j.prediction is None else j.prediction[0] for j in judged.judgments] == [
        1, None, 0, 1,
    ]  # fmt: skip
    assert "1 of 4 windows" in judged.error


def test_what_is_enough_ends_it_and_what_was_not_asked_is_not_missing():
    looked = []

    def enough(judged):
        looked.append(len(judged.judgments))
        return len(judged.judgments) >= 4

    settings = JudgeSettings("m", 0.0, 2)
    judged, asked = judge(replace(job(10, enough=enough), settings=settings), matches)
    assert asked == [[0, 1], [2, 3]]
    assert looked == [2, 4]
    assert len(judged.judgments) == 4
    assert judged.parse_rate() == 1
    assert judged.error is None


def test_judgments_counted_from_0_are_put_right():
    reply = json.dumps({"match": [0, 2], "no_match": [1, 3]})
    judged, asked = judge(job(), lambda _: matches([], text=reply))
    assert [j.prediction[0] for j in judged.judgments] == [1, 0, 1, 0]
    assert len(asked) == 1


def test_where_count_was_lost_windows_are_asked_about_again_by_scattered_numbers():
    first = job()
    lost = first.reduce(matches([], text=json.dumps({"match": [0, 1], "no_match": [2]})))
    (again,) = lost.follow_ups
    user = again.messages()[1]["content"]
    shown = [int(line.partition(".")[0]) for line in user.splitlines() if "window" in line]
    assert len(shown) == 4
    assert not set(shown) & {0, 1, 2, 3, 4}
    listed = again.request().schema.schema["properties"]["match"]
    assert (listed["items"]["enum"], listed["maxItems"]) == (shown, 4)
    text = json.dumps({"match": shown[:1], "no_match": shown[1:]})
    (judged,) = again.reduce(matches([], text=text)).results
    assert [j.prediction[0] for j in judged.judgments] == [1, 0, 0, 0]


def test_the_example_of_the_template_is_not_an_answer():
    example = json.dumps({"match": [2, 5], "no_match": [1, 3, 4]})
    step = job(12).reduce(matches([], text=example))
    assert not step.results
    assert step.unread
    assert step.follow_ups[0].scattered
