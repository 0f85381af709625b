import json
import re
import shutil
from dataclasses import replace

import pytest

from autointerp.labeling.excerpts import Shown
from autointerp.labeling.llm import LabelSettings, _share, label_jobs, read_labels
from autointerp.llm.wire.reply import CallFailure, ChatReply, Usage
from autointerp.prompting.prompts import load_prompt
from autointerp.vocabulary import Vocabulary
from tests.support.samples import WITH_EXAMPLE, evidence, window

VOCABULARY = Vocabulary((b" a", b" b"), frozenset())
SETTINGS = LabelSettings("m", 0.0, 4, Shown(3, 3), meanings=5)


def features(n):
    windows = [
        window([0, 1], [float(9 - i), 0], kind=kind, context=i + 100 * (kind == "sample"), rank=i)
        for kind in ("top", "sample")
        for i in range(8)
    ]
    return [evidence(f, windows) for f in range(n)]


def jobs(n, tmp_path, settings=SETTINGS):
    return list(label_jobs(iter(features(n)), load_prompt("label", tmp_path), VOCABULARY, settings))


def reply(labels, **changes):
    text = json.dumps({"labels": labels})
    return ChatReply(
        **(
            {"text": text, "finish_reason": "stop", "declined": False, "usage": Usage(10, 7)}
            | changes
        )
    )


def item(n, label="x"):
    return {"n": n, "label": label, "reason": "r", "confidence": 0.5}


def test_features_are_grouped_and_the_same_request_renders_the_same_bytes(tmp_path):
    assert [len(j.group) for j in jobs(10, tmp_path)] == [4, 4, 2]
    first, again = jobs(4, tmp_path), jobs(4, tmp_path)
    assert first[0].request() == again[0].request()


def test_what_differs_between_requests_comes_after_what_does_not(tmp_path):
    marked = [replace(w, text="a << b >> c") for w in features(1)[0].windows]
    other = label_jobs(
        iter([evidence(0, marked)]), load_prompt("label", tmp_path), VOCABULARY, SETTINGS
    )
    (system, user), (system_there, user_there) = (
        (m["content"] for m in job.messages()) for job in (jobs(1, tmp_path)[0], next(other))
    )
    assert "between << and >>" in user
    assert "between << and >>" not in user_there
    assert system == system_there
    assert len(system) > 1000


def test_missing_labels_are_asked_again_in_halves_down_to_one(tmp_path):
    step = jobs(4, tmp_path)[0].reduce(reply([item(2)]))
    assert [d.feature for d in step.results] == [1]
    assert [[e.feature for e in j.group] for j in step.follow_ups] == [[0, 2], [3]]
    alone = step.follow_ups[1].reduce(reply([]))
    assert not alone.results
    last = alone.follow_ups[0].reduce(reply([]))
    assert [(d.feature, d.status) for d in last.results] == [(3, "failed")]
    assert not last.follow_ups


def test_a_feature_pays_for_every_request_it_was_in(tmp_path):
    step = jobs(4, tmp_path)[0].reduce(reply([item(1), item(2), item(3, "y")]))
    assert sum(d.prompt_tokens for d in step.results) + _share(10, 3, 4) == 10
    done = step.follow_ups[0].reduce(reply([item(1)]))
    assert done.results[0].prompt_tokens == _share(10, 3, 4) + 10


def test_too_long_and_filtered_requests_are_cut_in_two(tmp_path):
    for kind, status in (("too_long", "failed"), ("content_filter", "refused")):
        step = jobs(4, tmp_path)[0].reduce(CallFailure(kind, "why"))
        assert [len(j.group) for j in step.follow_ups] == [2, 2]
        one = step.follow_ups[0].reduce(CallFailure(kind, "why")).follow_ups[0]
        last = one.reduce(CallFailure(kind, "why"))
        if last.follow_ups:
            last = last.follow_ups[0].reduce(CallFailure(kind, "why"))
        assert [(d.status, d.error) for d in last.results] == [(status, "why")]


def test_retries_that_ran_out_fail_the_group_with_the_reason(tmp_path):
    step = jobs(4, tmp_path)[0].reduce(CallFailure("timeout", "timed out waiting for a reply"))
    assert {(d.status, d.error) for d in step.results} == {
        ("failed", "timed out waiting for a reply")
    }
    assert len(step.results) == 4


def test_labels_are_cleaned_and_bounded():
    text = json.dumps(
        {
            "labels": [
                item(1, " two\nlines\t\u202e\0 "),
                item(2, "x" * 301),
                item(3) | {"reason": "r" * 5000},
                item("4", "by string"),
            ]
        }
    )
    found = read_labels(text, 4)
    assert found[1].label == "two lines"
    assert found[2].label == "x" * 299 + "…"
    assert len(found[3].reason) == 1000
    assert found[4].label == "by string"


def test_labels_counted_from_0_are_each_put_on_their_own_feature(tmp_path):
    step = jobs(4, tmp_path)[0].reduce(reply([item(n, f"label {n + 1}") for n in range(4)]))
    assert [(d.feature, d.label) for d in step.results] == [(f, f"label {f + 1}") for f in range(4)]
    assert not step.follow_ups


@pytest.mark.parametrize("numbers", [(0, 1, 2), (1, 2, 3, 4, 5), (1, 2, 2, 3), (2, 3, 5)])
def test_where_count_was_lost_nothing_is_believed_and_numbers_are_scattered(tmp_path, numbers):
    step = jobs(4, tmp_path)[0].reduce(
        reply([item(n, f"label {i}") for i, n in enumerate(numbers)])
    )
    assert not step.results
    assert [len(job.group) for job in step.follow_ups] == [2, 2]
    again = step.follow_ups[0]
    user = again.messages()[1]["content"]
    shown = [int(n) for n in re.findall(r"^Feature (\d+) ", user, re.MULTILINE)]
    assert not {1, 2} & set(shown)
    fields = again.request().schema.schema["properties"]["labels"]["items"]["properties"]
    assert fields["n"]["enum"] == shown
    done = again.reduce(reply([item(n, f"label of {n}") for n in shown]))
    assert [d.label for d in done.results] == [f"label of {n}" for n in shown]


def test_a_schema_says_which_numbers_and_how_many(tmp_path):
    request = jobs(4, tmp_path)[0].request()
    labels = request.schema.schema["properties"]["labels"]
    assert (labels["minItems"], labels["maxItems"]) == (4, 4)
    assert labels["items"]["properties"]["n"] == {"type": "integer", "enum": [1, 2, 3, 4]}
    windows = labels["items"]["properties"]["meanings"]["items"]["properties"]["windows"]
    assert windows["items"]["enum"] == list(range(1, windows["maxItems"] + 1))
    assert not re.search("enum|Items", str(request.schema.without_counts()))


@pytest.mark.parametrize(
    "copied",
    [
        "last words of ferries' names in timetables",
        "Last words of ferries’ names, in timetables.",
        "Names of ferries",
        "**names of ferries**",
        "ferry timetables",
    ],
)
def test_words_of_the_template_are_asked_again_alone_and_without_the_example(tmp_path, copied):
    shutil.copy(WITH_EXAMPLE, tmp_path / "label.jinja")
    labels = [item(1, "a"), item(2, copied), item(3, "c"), item(4, "d")]
    step = jobs(4, tmp_path)[0].reduce(reply(labels))
    assert [d.feature for d in step.results] == [0, 2, 3]
    (alone,) = step.follow_ups
    assert [e.feature for e in alone.group] == [1]
    assert "ferr" not in str(alone.messages())
    assert "meanings" not in str(alone.request())
    assert '"label": "…"' in alone.messages()[0]["content"]
    # It cannot come from the template now.
    (draft,) = alone.reduce(reply([item(1, copied)])).results
    assert (draft.status, draft.label) == ("labeled", copied.strip("*"))
    assert len(draft.asked_again) == 1


@pytest.mark.parametrize(
    "said", ["what the text is about", "I'm sorry, I can't determine this.", "N/A", "…"]
)
def test_what_is_no_label_is_asked_again_and_failed_in_the_end(tmp_path, said):
    job = jobs(1, tmp_path)[0]
    asked = 0
    while True:
        step = job.reduce(reply([item(1, said)]))
        asked += 1
        if step.results:
            break
        (job,) = step.follow_ups
    (draft,) = step.results
    assert asked in (2, 3)
    assert (draft.status, draft.label) == ("failed", None)
    assert draft.error.startswith("not a label, but text ")
    assert len(draft.asked_again) == asked
    assert step.unreadable


def test_a_refusal_in_prose_is_told_from_a_reply_that_cannot_be_read(tmp_path):
    job = jobs(4, tmp_path)[0]
    step = job.reduce(reply([], text="I'm sorry, but I can't help with that."))
    assert [len(again.group) for again in step.follow_ups] == [1, 1, 1, 1]
    step = step.follow_ups[0].reduce(reply([item(1, "months")]))
    assert step.results[0].asked_again == ["declined"]
    assert not job.reduce(reply([], text="Feature 1: months")).follow_ups[0].doubts


def test_half_a_character_is_asked_again_and_kept_with_a_flag(tmp_path):
    job = jobs(1, tmp_path)[0]
    (again,) = job.reduce(reply([item(1, "� between brackets")])).follow_ups
    (draft,) = again.reduce(reply([item(1, "� between brackets")])).results
    assert (draft.status, draft.flags) == ("labeled", ["label_half_characters"])
    (draft,) = again.reduce(reply([item(1, "é between brackets")])).results
    assert (draft.label, draft.flags) == ("é between brackets", None)


def test_a_list_of_the_shown_tokens_is_a_label_with_a_flag(tmp_path):
    vocabulary = Vocabulary((b" a", b" b", b"c"), frozenset())
    windows = [window([i % 3], [1.0], context=i, rank=i) for i in range(8)]
    (job,) = label_jobs(
        iter([evidence(0, windows)]), load_prompt("label", tmp_path), vocabulary, SETTINGS
    )
    for label, flags in (
        ("a, b or C", ["label_recites_tokens"]),
        ("'a', 'b', 'c'", ["label_recites_tokens"]),
        ("a, b or c after d", None),
        ("a and b", None),
    ):
        assert job.reduce(reply([item(1, label)])).results[0].flags == flags


def test_a_reason_that_is_the_example_s_goes(tmp_path):
    shutil.copy(WITH_EXAMPLE, tmp_path / "label.jinja")
    said = item(1, "months") | {"reason": "Each marked token ends the name of a ferry."}
    (draft,) = jobs(1, tmp_path)[0].reduce(reply([said])).results
    assert (draft.label, draft.reason) == ("months", "")


def test_what_was_cut_off_while_answering_gets_no_more_room(tmp_path):
    step = jobs(2, tmp_path)[0].reduce(
        reply([], text='{"labels": [{"n": 1, "meanings": [', finish_reason="length")
    )
    assert [(len(job.group), job.room) for job in step.follow_ups] == [(1, 1), (1, 1)]
    step = jobs(2, tmp_path)[0].reduce(reply([], text="Well, let me", finish_reason="length"))
    assert [(len(job.group), job.room) for job in step.follow_ups] == [(2, 8)]


@pytest.mark.parametrize("word", ["newline", "Tokens", "the text", "excerpts"])
def test_single_words_of_the_template_are_labels(tmp_path, word):
    step = jobs(1, tmp_path)[0].reduce(reply([item(1, word)]))
    assert [draft.label for draft in step.results] == [word]


def test_one_label_for_most_of_a_request_is_asked_again_alone(tmp_path):
    same = [item(1, "the text"), item(2, "The text."), item(3, "“the text”"), item(4, "months")]
    step = jobs(4, tmp_path)[0].reduce(reply(same))
    assert [d.label for d in step.results] == ["months"]
    assert [[e.feature for e in job.group] for job in step.follow_ups] == [[0], [1], [2]]
    assert all(job.example for job in step.follow_ups)
    (draft,) = step.follow_ups[0].reduce(reply(same[:1])).results
    assert (draft.label, draft.asked_again) == ("the text", ["alike"])


def test_two_features_may_be_alike(tmp_path):
    same = [item(n, "the text") for n in (1, 2)]
    assert len(jobs(2, tmp_path)[0].reduce(reply(same)).results) == 2
    half = [*same, item(3, "months"), item(4, "days")]
    assert len(jobs(4, tmp_path)[0].reduce(reply(half)).results) == 4


def test_lists_that_are_too_short_or_too_long_are_counted(tmp_path):
    step = jobs(4, tmp_path)[0].reduce(reply([item(1), item(2, "y"), item(3, "z")]))
    assert step.follow_ups[0].doubts == {3: ("left_out",)}
    step = jobs(2, tmp_path)[0].reduce(reply([item(n, f"label {n}") for n in range(1, 6)]))
    assert step.follow_ups[0].doubts == {0: ("miscounted",), 1: ("miscounted",)}


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("**names of months**", "names of months"),
        ("`self` in Python", "`self` in Python"),
        ("***`names`***", "names"),
        ("**a** and **b**", "**a** and **b**"),
        ("**", "**"),
        ("__init__", "__init__"),
        (["names of months"], "names of months"),
    ],
)
def test_emphasis_around_a_label_goes(written, label):
    assert read_labels(json.dumps({"labels": [item(1, written)]}), 1)[1].label == label


def test_a_long_label_is_cut_between_words():
    long = read_labels(json.dumps({"labels": [item(1, "word " * 80)]}), 1)[1].label
    assert long == " ".join(["word"] * 60) + "…"


def meaning(label, *windows):
    return {"label": label, "windows": list(windows)}


def labeled(meanings, tmp_path, most=5):
    job = jobs(1, tmp_path, replace(SETTINGS, meanings=most))[0]
    step = job.reduce(reply([item(1, "the label") | {"meanings": meanings}]))
    return step.results[0]


def test_a_feature_of_several_meanings_is_labeled_with_all_of_them(tmp_path):
    draft = labeled([meaning(" cats\n", 1, 2, 3), meaning("rivers", 4, 5)], tmp_path)
    assert (draft.polysemantic, draft.meanings) == (True, ["cats", "rivers"])
    assert draft.label == "either cats, or rivers"
    for none in ([], [meaning("cats", 1, 2)], [meaning("cats", 1, 2), meaning("rivers", 3)]):
        draft = labeled(none, tmp_path)
        assert (draft.polysemantic, draft.meanings, draft.label) == (False, [], "the label")


@pytest.mark.parametrize(
    "malformed",
    [
        "cats or rivers",
        None,
        3,
        {"label": "cats"},
        ["cats", "rivers"],
        [meaning("cats", 1, 2), {"label": "rivers"}],
        [meaning("cats", "first", "second"), meaning("rivers", 3, 4)],
        [meaning("", 1, 2), meaning("rivers", 3, 4)],
        [meaning("x" * 101, 1, 2), meaning("rivers", 3, 4)],
        [{"label": 3, "windows": None}],
    ],
    ids=repr,
)
def test_meanings_that_cannot_be_read_lose_no_label_and_are_unknown(tmp_path, malformed):
    draft = labeled(malformed, tmp_path)
    assert (draft.status, draft.label) == ("labeled", "the label")
    assert (draft.polysemantic, draft.meanings) == (None, None)


def test_meanings_that_were_not_asked_for_are_unknown(tmp_path):
    offered = [meaning("cats", 1, 2), meaning("rivers", 3, 4)]
    assert labeled(offered, tmp_path).polysemantic
    assert labeled(offered, tmp_path, most=1).polysemantic is None
    without = jobs(1, tmp_path)[0].reduce(reply([item(1)])).results[0]
    assert (without.label, without.polysemantic, without.meanings) == ("x", None, None)


def test_the_reply_s_form_has_meanings_only_where_they_are_asked_for(tmp_path):
    asking, plain = (
        jobs(1, tmp_path, replace(SETTINGS, meanings=most))[0].request() for most in (5, 1)
    )
    fields = [
        list(r.schema.schema["properties"]["labels"]["items"]["properties"])
        for r in (asking, plain)
    ]
    assert fields[0] == ["n", "meanings", "reason", "label", "confidence"]
    assert fields[1] == ["n", "reason", "label", "confidence"]
    assert asking.max_tokens > plain.max_tokens
    assert "meanings" not in str(plain)
    assert asking.messages[0] == plain.messages[0]


def test_a_template_without_meanings_is_not_overruled_by_them(tmp_path):
    bundled = load_prompt("label", tmp_path).path.read_text()
    assert bundled.count("most_meanings > 1") == 1
    named = "most_meanings"
    (tmp_path / "label.jinja").write_text(
        bundled.replace("most_meanings > 1", "false", 1).replace("{{ most_meanings }}", "many")
    )
    assert named not in load_prompt("label", tmp_path).variables
    assert "meanings" not in str(jobs(1, tmp_path)[0].request())
    assert labeled([meaning("cats", 1, 2), meaning("rivers", 3, 4)], tmp_path).label == "the label"


def test_a_label_without_a_reason_is_a_label():
    for reason in ({}, {"reason": None}, {"reason": ""}):
        said = {"n": 1, "label": "months", "confidence": 0.5} | reason
        found = read_labels(json.dumps({"labels": [said]}), 1)
        assert (found[1].label, found[1].reason) == ("months", "")


@pytest.mark.parametrize(
    "stated", [{}, {"confidence": None}, {"confidence": "high"}, {"confidence": 90}]
)
def test_a_label_without_a_usable_confidence_is_kept(stated):
    said = {"n": 1, "label": "months", "reason": "r"} | stated
    (item,) = read_labels(json.dumps({"labels": [said]}), 1).values()
    assert (item.label, item.confidence) == ("months", None)


def test_a_confidence_in_percent_is_a_share():
    said = {"n": 1, "label": "months", "confidence": "80 %"}
    assert read_labels(json.dumps({"labels": [said]}), 1)[1].confidence == 0.8


def test_a_percentage_without_quotes_loses_no_label():
    reply = (
        '{"labels": [{"n": 1, "label": "months", "reason": "in dates: 80%, or so", '
        '"confidence": 80%}, {"n": 2, "label": "days", "reason": "", "confidence": 7.5 % }]}'
    )
    found = read_labels(reply, 2)
    assert {n: (item.label, item.confidence) for n, item in found.items()} == {
        1: ("months", 0.8),
        2: ("days", 0.075),
    }


def test_meanings_counted_from_0_or_beyond_are_put_right_or_unknown(tmp_path):
    from_0 = [meaning("cats", 0, 1, 2), meaning("rivers", 3, 4, 5)]
    assert labeled(from_0, tmp_path).meanings == ["cats", "rivers"]
    for lost in ([0, 1], [7]):
        assert labeled([meaning("cats", 1, 2), meaning("b", *lost)], tmp_path).meanings is None


def test_a_confidence_as_text_is_a_number():
    said = {"n": 1, "label": "months", "confidence": "0.9"}
    assert read_labels(json.dumps({"labels": [said]}), 1)[1].confidence == 0.9
