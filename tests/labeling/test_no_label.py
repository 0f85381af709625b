import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.evidence.store import EvidenceStore
from autointerp.labeling import no_label
from autointerp.labeling.excerpts import Shown, shown_text
from autointerp.labeling.label_reply import read_labels
from autointerp.labeling.labeler import Draft
from autointerp.labeling.no_label import alike, doubt, gives_heading, recites, same, template_of
from autointerp.prompting.prompts import BUNDLED, template_path
from autointerp.tables.read import load_labels
from autointerp.tables.write import read_drafts
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.samples import WITH_EXAMPLE

REPLIES = Path(__file__).parent.parent / "data" / "doubtful" / "labels.jsonl"
SOURCE = WITH_EXAMPLE.read_text(encoding="utf-8")
TEMPLATE = template_of(SOURCE)
SHIPPED = template_of(template_path("label", BUNDLED).read_text(encoding="utf-8"))
either_template = pytest.mark.parametrize("template", [TEMPLATE, SHIPPED], ids=["own", "shipped"])
EXAMPLE = ["last", "words", "of", "ferries'", "names", "in", "timetables"]
PASSAGES = [text.split() for text in TEMPLATE.instructions.texts if len(text.split()) >= 3]


def nothing() -> str:
    return ""


@given(st.data())
def test_no_passage_of_the_template_is_a_label(data):
    words = data.draw(st.sampled_from(PASSAGES))
    start = data.draw(st.integers(0, len(words) - 3))
    end = data.draw(st.integers(start + 3, min(len(words), start + 30)))
    passage = " ".join(words[start:end])
    for label in (passage, passage.capitalize() + ".", f"“{passage}”", passage.upper()):
        assert doubt(label, TEMPLATE, nothing) is not None
    # Unless it is what the excerpts say.
    assert doubt(passage, TEMPLATE, lambda: f"see: {passage}!") is None


@given(st.data())
def test_no_part_of_the_example_is_a_label(data):
    start = data.draw(st.integers(0, len(EXAMPLE) - 3))
    end = data.draw(st.integers(start + 3, len(EXAMPLE)))
    part = " ".join(EXAMPLE[start:end])
    assert doubt(part, TEMPLATE, nothing) in ("copied", "borrowed")
    assert doubt(part, TEMPLATE.without_examples(), nothing) is None


def test_most_of_a_label_is_a_quotation_or_it_is_a_label():
    quoted = "the tokens themselves, what comes just before them"
    assert doubt(f"{quoted}, and verbs", TEMPLATE, nothing) == "instructions"
    own = "verbs of motion, of speech, of thought and of feeling in the past tense"
    assert doubt(f"{own}, {quoted}", TEMPLATE, nothing) is None


@either_template
@pytest.mark.parametrize(
    "label",
    [
        "names of months in dates",
        "last words of sentences",
        "operators and parentheses",
        "None values in comparisons",
        "unknown keys in error messages",
        "I and we at the start of sentences",
        "the verb “cannot” before infinitives",
        "sorry, in apologies",
        "no as an answer",
        "“as an” before vowels",
        "information in the sense of news",
        "not, in negations",
        "placeholder names such as foo",
        "a newline",
        "words after an opening bracket",
    ],
)
def test_labels_that_only_sound_like_it_are_labels(label, template):
    assert doubt(label, template, nothing) is None


@either_template
@pytest.mark.parametrize(
    "label",
    [
        "I'm sorry, I can’t help with that",
        "As an AI language model, I do not have access",
        "I cannot determine the pattern",
        "Cannot be determined from the excerpts",
        "The meaning cannot be determined",
        "Not enough information",
        "insufficient data to label",
        "No clear pattern",
        "There is no obvious common theme",
        "N/A",
        "n/a.",
        "unknown",
        "Unclear pattern",
        "none",
        "null",
        "not applicable",
    ],
)
def test_declining_in_a_label_s_place_is_told(label, template):
    assert doubt(label, template, nothing) == "declined"
    assert doubt(label, template, lambda: f"it said: {label}") is None


@either_template
@pytest.mark.parametrize("named", ["meanings", "Windows", "“label”", "various", "related to"])
def test_what_the_template_names_is_a_label_only_where_the_excerpts_have_it(named, template):
    assert doubt(named, template, nothing) == "instructions"
    assert doubt(named, template, lambda: f"see {named.casefold()} there") is None


def test_signs_are_a_label_where_the_excerpts_have_them():
    for label in ("'('", "( )", "'...'", "…"):
        assert doubt(label, TEMPLATE, nothing) == "empty"
    assert doubt("'('", TEMPLATE, lambda: "f(x)") is None
    assert doubt("( )", TEMPLATE, lambda: "f(x)") is None


def test_words_of_the_example_are_suspect_only_where_the_excerpts_lack_them():
    assert doubt("F and O on ferries", TEMPLATE, lambda: "F O") == "borrowed"
    assert doubt("F and O on ferries", TEMPLATE, lambda: "the ferry F O") is None
    # Words that labels are made of are nobody's.
    assert doubt("last words of names", TEMPLATE, lambda: "F O") is None


def test_a_label_is_the_same_in_any_case_and_with_other_punctuation():
    written = ("Months of the year", "months  of the year.", "“months” of the year")
    assert len(set(map(same, written))) == 1
    assert same("'('") != same("')'")
    assert alike({1: "a b", 2: "A b.", 3: "a b", 4: "c"}) == {1, 2, 3}
    assert alike({1: "a", 2: "a", 3: "b"}) == set()
    assert alike({1: "a", 2: "a", 3: "a", 4: "b", 5: "c", 6: "d"}) == set()
    assert alike({}) == set()


@either_template
def test_every_rule_s_label_is_a_label(finished, template):
    """Rules say what they fire on: none of them is to be taken for a copy or a refusal."""
    store = EvidenceStore(finished.windows, finished.features)
    labels = load_labels(finished.path).dropna(subset="label").set_index("feature")["label"]
    assert len(labels) > 10
    for evidence in store.read(list(labels.index)):
        label = labels[evidence.feature]
        assert doubt(label, template, lambda e=evidence: shown_text(e, Shown(8, 8))) is None


@given(st.data())
def test_no_passage_of_the_shipped_template_is_a_label(data):
    texts = [text.split() for text in SHIPPED.instructions.texts if len(text.split()) >= 3]
    words = data.draw(st.sampled_from(texts))
    start = data.draw(st.integers(0, len(words) - 3))
    end = data.draw(st.integers(start + 3, min(len(words), start + 30)))
    assert doubt(" ".join(words[start:end]), SHIPPED, nothing) is not None


def test_leaving_out_the_example_leaves_the_excerpts_alone():
    excerpt = '{"label": "names of rivers", "reason": "their beds"}'
    example = '{"label": "last words of ferries\' names in timetables"}'
    (message,) = no_label.without_example(
        [{"role": "user", "content": excerpt + example}], TEMPLATE
    )
    assert message["content"].startswith(excerpt)
    assert "timetables" not in message["content"]


def test_a_word_over_and_over_is_no_label_unless_the_excerpts_have_it():
    for label in (
        "format-1.1.1.1.1.1.1.1.1.1",
        "active_tokens_on_n_n_n_n_n_n_n_n_n",
        "a a a a a a a a a",
    ):
        assert doubt(label, TEMPLATE, nothing) == "looped"
        assert doubt(label, TEMPLATE, lambda shown=label: f"it has {shown} in it") is None
    for label in ("runs of 00000000000", "'la la la la la la'", "rows of --------------------"):
        assert doubt(label, TEMPLATE, nothing) is None


RECITED = [  # labels of Qwen2.5-Coder-1.5B-Instruct, without an example in the template
    "The feature is active on 1.2% of tokens and most often on ' ', ' '.",
    "The 'T' token is active on 1.2 % of tokens, most often on 'T', '25', '22', ' size'.",
]


def test_numbers_above_the_excerpts_are_told_where_they_come_back():
    assert all(gives_heading(label, "1.2") for label in RECITED)
    assert gives_heading("active on … % of tokens", "0.5")
    # Of another feature of the request, as Qwen2.5-Coder-1.5B wrote.
    assert gives_heading("The feature is active on 1.2% of tokens and most often on ' '.", "0.44")
    for label in (
        "shares such as 11.2% in reports",
        "the sign % after 1.2",
        "sales of 5% of the tokens",
    ):
        assert not gives_heading(label, "0.2")
    assert not gives_heading("shares such as 11.2 % in reports", "1.2")


TOKENS = ["x", "f", "loop", "cor", "map", "dumps", " ", "_", "."]


@either_template
def test_a_label_that_only_lists_tokens_in_the_template_s_words_recites(template):
    listing = "The feature is active on tokens 'loop', 'cor', 'map', 'dumps'."
    assert recites(listing, lambda: TOKENS, template)
    assert recites("The active tokens are '_', '.', ' '", lambda: TOKENS, template)
    assert recites("x, loop, or map", lambda: TOKENS, template)
    assert not recites("'loop', 'map' and 'dumps' as calls of json", lambda: TOKENS, template)
    assert not recites("the tokens 'x' and 'f'", lambda: TOKENS, template)
    assert not recites("the tokens 'a', 'b', 'c'", lambda: TOKENS, template)


def test_a_label_with_the_heading_is_asked_for_again_without_it(
    cli, planted, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")
    stubborn, several = planted.words[3][0], []

    def answer(request):
        text = request["messages"][1]["content"]
        heading = re.findall(r"active on (\S+) % of tokens; most often on (.*)\)", text)
        shown = re.sub(r"most often on …", "most often on '…'", text)
        asked = request | {"messages": [request["messages"][0], {"content": shown}]}
        said = json.loads(scripted.answer(asked))
        several.append(len(heading))
        peaks = [str([e.peak for e in feature.excerpts]) for feature in scripted.asked(asked)]
        for label, peak, (percent, tokens) in zip(said["labels"], peaks, heading, strict=True):
            if percent != "…" or stubborn in peak:
                label["label"] = f"active on {percent} % of tokens and most often on {tokens}"
        return json.dumps(said)

    out = tmp_path / "out"
    flags = ["--model", "test-model", "--features-per-request", "2", *planted.flags(out)]
    assert cli("collect", *flags)[0] == 0
    with FakeServer(answer) as server:
        _, _, said = cli("label", *flags, "--base-url", server.url)
    assert (
        "12 labels giving back the numbers above the excerpts, retried alone: "
        "11 then labeled, 1 failed" in said
    )
    drafts = {draft.feature: draft for draft in read_drafts(out / "drafts.parquet")}
    assert drafts[3].error == "not a label, but text giving back the numbers above the excerpts"
    assert drafts[4].label
    assert several == [2] * 6 + [1] * 13


def test_a_summary_names_each_kind_and_what_became_of_it():
    drafts = [
        *(Draft(f, "labeled", "m", f"label {f}", asked_again=["copied"]) for f in range(3)),
        Draft(3, "failed", "m", asked_again=["copied", "copied"]),
        Draft(4, "labeled", "m", "a, b", asked_again=["left_out"], flags=["label_recites_tokens"]),
        Draft(5, "labeled", "m", "c"),
    ]
    assert list(no_label.summary(drafts)) == [
        "4 labels copied from the template's example, retried alone: 3 then labeled, 1 failed",
        "1 label missing from replies with fewer features than requested, retried in "
        "smaller groups: 1 then labeled",
        "1 label kept with the flag label_recites_tokens",
    ]
    assert no_label.counts(drafts) == {
        "copied": {"labeled": 3, "failed": 1},
        "left_out": {"labeled": 1},
    }
    alike = [Draft(f, "labeled", "m", "The text.") for f in range(6)]
    assert list(no_label.summary(alike)) == ["6 of 6 labels are the same: 'the text'"]


def test_a_run_says_what_it_asked_again_and_what_became_of_it(cli, planted, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")
    stubborn = planted.words[3][0]

    def answer(request):
        said = json.loads(scripted.answer(request))
        shown = scripted.asked(request)
        for label, feature in zip(said["labels"], shown, strict=True):
            if stubborn in str(feature.top_tokens):
                label["label"] = "I'm sorry, I cannot determine this."
            elif len(shown) > 1 and "ferries" in request["messages"][0]["content"]:
                label["label"] = "Last words of ferries' names in timetables"
        return json.dumps(said)

    out = tmp_path / "out"
    shutil.copy(WITH_EXAMPLE, tmp_path / "label.jinja")
    flags = ["--model", "test-model", "--features-per-request", "2", *planted.flags(out)]
    flags += ["--prompts", str(tmp_path)]
    assert cli("collect", *flags)[0] == 0
    with FakeServer(answer) as server:
        flags += ["--base-url", server.url]
        _, _, said = cli("label", *flags)
    # 12 features can be labeled, two a request.
    assert "11 labels copied from the template's example, retried alone: 11 then labeled" in said
    assert "1 label in which the model declines to answer, retried alone: 1 failed" in said
    drafts = {draft.feature: draft for draft in read_drafts(out / "drafts.parquet")}
    assert drafts[3].error == "not a label, but text in which the model declines to answer"
    assert drafts[4].asked_again == ["copied"]
    assert len(server.requests) == 6 + 11 + 2


@pytest.mark.parametrize("said", [json.loads(line) for line in REPLIES.open(encoding="utf-8")])
def test_what_real_models_wrote_is_told_apart(said):
    """`example`: whether the template's example was in the prompt."""
    template = TEMPLATE if said["example"] else TEMPLATE.without_examples()
    (item,) = read_labels(said["reply"], 1).values()
    assert doubt(item.label, template, nothing) == said["kind"]
