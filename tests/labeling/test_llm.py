import json
from dataclasses import replace

from autointerp.labeling.llm import LabelSettings, _share, label_jobs, read_labels, shown_windows
from autointerp.labeling.prompts import load_prompt
from autointerp.llm.reply import CallFailure, ChatReply, Usage
from autointerp.vocabulary import Vocabulary
from tests.samples import evidence, window

VOCABULARY = Vocabulary((b" a", b" b"), frozenset())
SETTINGS = LabelSettings("m", 0.0, 4, 6)


def features(n):
    windows = [
        window([0, 1], [float(9 - i), 0], kind=kind, context=i + 100 * (kind == "sample"), rank=i)
        for kind in ("top", "sample")
        for i in range(8)
    ]
    return [evidence(f, windows) for f in range(n)]


def jobs(n, tmp_path):
    return list(label_jobs(iter(features(n)), load_prompt("label", tmp_path), VOCABULARY, SETTINGS))


def reply(labels, **changes):
    text = json.dumps({"labels": labels})
    return ChatReply(
        **(
            {"text": text, "finish_reason": "stop", "refused": False, "usage": Usage(10, 7)}
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


def test_half_of_the_shown_windows_are_the_largest():
    shown = shown_windows(features(1)[0], 6)
    assert [w.kind for w in shown] == ["top"] * 3 + ["sample"] * 3
    assert [w.rank for w in shown[:3]] == [0, 1, 2]
    assert len({w.context for w in shown}) == 6


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
    step = jobs(4, tmp_path)[0].reduce(reply([item(1), item(2), item(3)]))
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
    step = jobs(4, tmp_path)[0].reduce(CallFailure("timeout", "no reply in time"))
    assert {(d.status, d.error) for d in step.results} == {("failed", "no reply in time")}
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
    assert 2 not in found
    assert len(found[3].reason) == 1000
    assert found[4].label == "by string"
