"""Detection and fuzzing ask for yes or no in the form that is set."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError
from autointerp.llm.numbering import Miscounted
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.logprobs import NO_LOGPROBS, TOP_LOGPROBS, Position
from autointerp.llm.wire.reply import CallFailure, ChatReply, Usage
from autointerp.prompting.prompts import BUNDLED, load_prompt, read_prompt, samples
from autointerp.scoring import SCORERS, forms, replies
from autointerp.scoring.judge import JudgeJob
from autointerp.scoring.scorer import FIRES, Item, Plan, answer
from autointerp.scoring.scorers.detection import reduce
from tests.scoring.test_judge import SETTINGS, VOCABULARY, judged_windows
from tests.support.samples import window

PROMPT = load_prompt("detection", BUNDLED)
WITH_EXAMPLES = Path(__file__).parents[2] / "scripts/prompt_variants/detection/example.jinja"
OLD = """{% block system -%}
{"match": [2, 5], "no_match": [1, 3, 4]}
{%- endblock %}
{% block user -%}
Description: {{ label }}
{% for window in windows -%}
{{ window.number }}. {{ window.text }}
{% endfor %}
{%- endblock %}
"""


def job(form, windows=6, fires=3, **changes):
    (task, prompt), *fallbacks = forms.ways(SCORERS["detection"], form, PROMPT)
    shown = [
        replace(window([i, i], [float(i < fires), 0.0], context=i), text=f"window {i}")
        for i in range(windows)
    ]
    items = [
        Item(w, FIRES if i < fires else "silent", answer(i < fires)) for i, w in enumerate(shown)
    ]
    return JudgeJob(
        scorer=SCORERS["detection"],
        plan=Plan(3, items, 0.1, {"silent": 1.0}),
        label_of=3,
        label="a label",
        prompt=prompt,
        vocabulary=VOCABULARY,
        settings=SETTINGS,
        todo=tuple(range(windows)),
        chosen_task=task,
        fallbacks=tuple(fallbacks),
        **changes,
    )


def reply(text, **changes):
    return replace(ChatReply(text, "stop", False, Usage(10, 2), cost_usd=0.5), **changes)


def sent(one):
    return json.loads(Dialect().body(one.request()))


@pytest.mark.parametrize("form", [forms.BOOLEANS, forms.QUOTES, forms.PROBABILITIES])
def test_there_is_one_entry_for_each_excerpt_in_their_order(form):
    schema = sent(job(form, windows=12))["response_format"]["json_schema"]["schema"]
    asked = [str(n) for n in range(1, 13)]
    assert list(schema["properties"]) == schema["required"] == asked
    assert schema["additionalProperties"] is False
    entry = schema["properties"]["7"]
    if form == forms.QUOTES:
        assert list(entry["properties"]) == entry["required"] == ["quote", "match"]
        assert entry["additionalProperties"] is False
        entry = entry["properties"]["match"]
    assert entry == {"type": "boolean"}


def test_the_forms_are_the_same_wherever_they_are_named():
    """Templates are tried in all of them before anything is sent."""
    setting = get_args(RunConfig.model_fields["judge_form"].annotation)
    assert setting == forms.FORMS
    for scorer in (s for s in SCORERS.values() if s.forms):
        assert tuple(scorer.forms) == forms.FORMS
        assert {sample["form"] for sample in samples(scorer.name)} == set(forms.FORMS)


def test_only_probabilities_ask_for_log_probabilities():
    assert {form for form in forms.FORMS if "top_logprobs" in sent(job(form))} == {
        forms.PROBABILITIES
    }


@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
@pytest.mark.parametrize("form", forms.FORMS)
def test_the_template_names_the_keys_that_the_reader_reads(scorer, form):
    prompt = load_prompt(scorer, BUNDLED)
    system = prompt.messages(label="a", windows=[], form=form, open_mark="<", close_mark=">")[0]
    asked = system["content"].partition("Reply with one JSON object")[2]
    yes, no = {"detection": ("match", "no_match"), "fuzzing": ("right", "wrong")}[scorer]
    named = {name for name in (yes, no, "quote") if f'"{name}"' in asked}
    keys = {forms.LISTS: {yes, no}, forms.QUOTES: {yes, "quote"}}
    assert named == keys.get(form, set())
    # Only lists show an example: models that were shown one of another form gave it back.
    assert ("{" in asked) == (form == forms.LISTS)


@pytest.mark.parametrize("form", forms.FORMS)
def test_an_example_that_a_template_shows_is_not_an_answer(form):
    """A template of the user's own, say, with the examples that ours once had."""
    prompt = read_prompt("detection", WITH_EXAMPLES)
    variables = {"label": "a", "windows": [], "form": form}
    (system, _) = prompt.messages(**variables)
    example = next(line for line in system["content"].splitlines() if line.startswith("{"))
    assert SCORERS["detection"].forms[form].said(example)
    tokens = [Position(example, [{"token": example, "logprob": 0.0}])]
    step = replace(job(form), prompt=prompt).reduce(reply(example, tokens=tokens))
    assert step.unread
    assert not step.results
    assert step.follow_ups[0].replies.counts[replies.COPIED] == 1


def test_a_template_of_the_users_own_that_knows_no_forms_asks_for_lists_alone(tmp_path):
    (tmp_path / "detection.jinja").write_text(OLD)
    old = load_prompt("detection", tmp_path)
    assert forms.ways(SCORERS["detection"], forms.LISTS, old)
    with pytest.raises(
        AutointerpError, match=r"detection\.jinja only supports lists.*--judge-form quot"
    ):
        forms.ways(SCORERS["detection"], forms.QUOTES, old)


def test_lists_are_asked_for_as_ever():
    """What is sent in this form is what versions before the other forms sent."""
    (system, user) = job(forms.LISTS, windows=2, fires=1).messages()
    assert system["content"].endswith(
        "Reply with one JSON object and nothing else:\n"
        '{"match": [2, 5], "no_match": [1, 3, 4]}\n'
        "with the number of every excerpt in one of the two lists."
    )
    assert user["content"] == "Description: a label\n\n1. window 0\n2. window 1"
    assert job(forms.LISTS).request().max_tokens == 50 + 6 * 4


def booleans(chances):
    """A reply whose booleans were as likely as this, one token each."""
    tokens = [Position("{")]
    for n, p in enumerate(chances, 1):
        word = "true" if p > 0.5 else "false"
        given = [{"token": w, "logprob": math.log(c)} for w, c in (("true", p), ("false", 1 - p))]
        tokens += [Position(f'"{n}": '), Position(word, given), Position(", ")]
    text = "".join(t.text for t in tokens).rstrip(", ") + "}"
    return reply(text, tokens=tokens)


def test_probabilities_rank_what_a_timid_judge_says_no_to():
    (judged,) = job(forms.PROBABILITIES).reduce(booleans([0.3, 0.4, 0.2, 0.1, 0.05, 0.25])).results
    assert [j.probability for j in judged.judgments] == pytest.approx(
        [0.3, 0.4, 0.2, 0.1, 0.05, 0.25]
    )
    assert judged.mode == forms.PROBABILITIES
    found = reduce(judged, 0)
    assert found["balanced_accuracy"].value == 0.5
    assert found["auroc"].value == pytest.approx(8 / 9)


def test_without_log_probabilities_all_is_asked_anew_in_booleans():
    """Whether the endpoint refuses them, or answers as if they had not been asked for."""
    plain = reply('{"1": true, "2": true, "3": true, "4": false, "5": false, "6": false}')
    for outcome in (CallFailure(NO_LOGPROBS, "none"), plain):
        (again,) = job(forms.PROBABILITIES).reduce(outcome).follow_ups
        assert again.request().logprobs is None
        assert again.task.form == forms.BOOLEANS
        (judged,) = again.reduce(plain).results
        assert judged.mode == forms.BOOLEANS
        assert judged_windows(judged) == list(range(6))
        assert "auroc" not in reduce(judged, 0)
    assert job(forms.PROBABILITIES).request().logprobs == TOP_LOGPROBS


def test_an_excerpt_without_an_answer_is_asked_about_again_alone():
    first = job(forms.QUOTES)
    text = {str(n): {"quote": "", "match": n < 4} for n in (1, 2, 3, 5, 6)}
    (again,) = first.reduce(reply(json.dumps(text))).follow_ups
    assert list(sent(again)["response_format"]["json_schema"]["schema"]["properties"]) == ["1"]
    (judged,) = again.reduce(reply('{"1": {"quote": "", "match": false}}')).results
    assert [j.prediction[0] for j in judged.judgments] == [1, 1, 1, 0, 0, 0]
    assert judged.replies.counts[replies.LEFT_OUT] == 1


RECORDED = list(map(json.loads, Path("tests/data/doubtful/judging.jsonl").read_text().splitlines()))


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row['model'][:6]}-{row['form']}")
def test_replies_of_real_models_are_read_as_they_are_meant(row):
    """`answers`: y, n or - for none, by excerpt; null where the numbers are not the excerpts'."""
    task = SCORERS["detection"].forms[row["form"]]
    items = [None] * row["n"]
    if row["answers"] is None:
        with pytest.raises(Miscounted):
            task.read(row["text"], items, row["scattered"])
        return
    found = task.read(row["text"], items, row["scattered"])
    said = ["-" if i not in found else "ny"[int(found[i][0])] for i in range(row["n"])]
    assert "".join(said) == row["answers"]
