"""Yes or no about numbered items, in every shape in which models were seen to say it."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.numbering import Miscounted, numbers
from autointerp.llm.verdicts import chances, read, said, slips
from autointerp.llm.wire.logprobs import Position

NAMES = ("match", "no_match")
YES_NO_YES = {
    "booleans": '{"1": true, "2": false, "3": true}',
    "on lines of their own": '{\n  "1": true,\n  "2": false,\n  "3": true\n}',
    "with quotes": '{"1": {"quote": "x", "match": true}, "2": {"quote": "", "match": false}, '
    '"3": {"quote": "\\"2\\": true} {", "match": true}}',
    "strings": '{"1": "true", "2": "No", "3": "yes"}',
    "numbers": '{"1": 1, "2": 0, "3": 1}',
    "the lists' names": '{"1": "match", "2": "no match", "3": "match"}',
    "in order": "[true, false, true]",
    "in order, named": '{"answers": ["yes", "no", "yes"]}',
    "objects": '[{"n": 1, "match": true}, {"n": 3, "match": true}, {"n": 2, "match": false}]',
    "lists": '{"match": [1, 3], "no_match": [2]}',
    "fenced": '```json\n{"1": true, "2": false, "3": true}\n```\nHope this helps.',
    "a string": json.dumps('{"1": true, "2": false, "3": true}'),
    "after thoughts": '<think>{"1": false}</think>{"1": true, "2": false, "3": true}',
    "after a draft": 'First {"1": false, "2": true, "3": false}, no: '
    '{"1": true, "2": false, "3": true}',
    "names": '{"Excerpt 1": true, "Excerpt 2": false, "Excerpt 3": true}',
    "with a remark": '{"1": true, "2": false, "3": true, "remark": "all are code"}',
    "single quotes": "{'1': True, '2': False, '3': True}",
    "bare numbers": "{1: true, 2: false, 3: true,}",
    "lines": "1. yes\n2. no\n3. yes",
    "counted from 0": '{"0": true, "1": false, "2": true}',
}


@pytest.mark.parametrize("name", YES_NO_YES)
def test_yes_and_no_are_read_however_they_are_said(name):
    assert read(YES_NO_YES[name], NAMES, 3) == {1: True, 2: False, 3: True}
    assert slips(said(YES_NO_YES[name], NAMES), 3) == set()


@pytest.mark.parametrize(
    ("text", "expected", "kinds"),
    [
        ("[true, false]", {}, {"left_out"}),
        ("[true, false, true, true]", {}, {"strays"}),
        ('[true, "perhaps", false, true]', {}, set()),
        ("[1, 0, 1]", {}, set()),  # may be excerpts' numbers
        ('{"1": true, "1": false, "2": true, "3": false}', {2: True, 3: False}, {"disputed"}),
        ('{"1": true, "3": false}', {1: True, 3: False}, {"left_out"}),
        ('{"1": true, "2": "maybe", "3": false}', {1: True, 3: False}, {"left_out"}),
        ('{"match": [1, 2], "no_match": [2, 3]}', {1: True, 3: False}, {"disputed"}),
        ('{"1": true, "2": {"quote": "a", "match": fal', {1: True}, {"left_out"}),
        ("I cannot tell.", {}, set()),
        ("", {}, set()),
    ],
)
def test_what_is_left_open_is_left_out_and_said(text, expected, kinds):
    assert slips(said(text, NAMES), 3) == kinds
    try:
        assert read(text, NAMES, 3) == expected
    except Miscounted:
        assert kinds == {"disputed"}


def test_an_answer_for_an_excerpt_that_there_is_not_is_a_stray():
    text = json.dumps({str(n): True for n in range(1, 13)})
    assert slips(said(text, NAMES), 10) == {"strays"}
    with pytest.raises(Miscounted):
        read(text, NAMES, 10)


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.booleans(), st.integers(0, 400))
def test_of_a_reply_that_breaks_off_no_answer_is_made_up(answers, scattered, cut):
    asked = numbers(len(answers), scattered)
    whole = json.dumps(dict(zip(map(str, asked), answers, strict=True)))
    truth = dict(enumerate(answers, 1))
    assert read(whole, NAMES, len(answers), scattered) == truth
    found = read(whole[:cut], NAMES, len(answers), scattered)
    assert found.items() <= truth.items()


@given(st.text(max_size=200) | st.text('{}[]":,truefals 123\n\\', max_size=80), st.integers(1, 5))
def test_nothing_breaks_the_reader(text, n):
    try:
        found = read(text, NAMES, n)
    except Miscounted:
        found = {}
    assert set(found) <= set(range(1, n + 1))
    slips(said(text, NAMES), n)


def tokens(*values):
    """A reply of plain tokens, but those that are given with their alternatives."""
    return [v if isinstance(v, Position) else Position(v) for v in values]


def of(text, alternatives):
    return Position(text, [{"token": t, "logprob": math.log(p)} for t, p in alternatives.items()])


@pytest.mark.parametrize(
    "reply",
    [
        tokens("{", '"', "1", '":', of(" true", {" true": 0.6, " false": 0.2, " [": 0.2}), "}"),
        tokens('{"1": ', of("true", {"true": 0.3, "false": 0.1, "1": 0.6}), "}"),
        tokens('{"1": ', of("tr", {"tr": 0.45, "true": 0.15, "fal": 0.2}), "ue", "}"),
        tokens('{"1"', of(":true", {":true": 0.3, ":false": 0.1, ": true": 0.3, ": false": 0.1})),
        tokens('{"1": ', of('"yes', {'"yes': 0.6, '"no': 0.2, '"true': 0.2}), '"}'),
        tokens("{'1': ", of("True", {"True": 0.5, "true": 0.1, "False": 0.2}), "}"),
        tokens(
            '<think>{"1": ',
            "false",
            "}</think>",
            '{"1": ',
            of("true", {"true": 0.75, "false": 0.25}),
            "}",
        ),
    ],
)
def test_the_chance_of_yes_is_read_at_the_answers_token(reply):
    assert chances(reply, 1) == {0: pytest.approx(0.75)}


def test_chances_belong_to_the_numbers_that_are_written():
    def entry(n, p):
        return [f'"{n}": ', of("true", {"true": p, "false": 1 - p}), ", "]

    asked = numbers(3, scattered=True)
    reply = tokens("{", *entry(asked[2], 0.9), *entry(asked[0], 0.2), *entry(asked[1], 0.4), "}")
    found = chances(reply, 3, scattered=True)
    assert found == {0: pytest.approx(0.2), 1: pytest.approx(0.4), 2: pytest.approx(0.9)}
    twice = tokens("{", *entry(1, 0.9), *entry(1, 0.2), *entry(2, 0.4), "}")
    assert set(chances(twice, 2)) == {1}


def test_where_only_one_of_the_two_is_given_the_other_is_at_most_the_least_likely():
    rest = {f"x{i}": 0.001 for i in range(5)}
    sure = of(" true", {" true": 0.9, **rest})
    assert chances(tokens('{"1":', sure, "}"), 1) == {0: pytest.approx(0.9 / 0.901)}
    sure = of(" false", {" false": 0.9, **rest})
    assert chances(tokens('{"1":', sure, "}"), 1) == {0: pytest.approx(0.001 / 0.901)}


def test_where_the_grammar_chose_what_was_unlikely_nothing_is_known():
    """`true` was taken since nothing else was allowed but false, which may be as likely."""
    forced = of("true", {"true": 1e-7, "1": 0.9, "2": 0.05, "\n": 0.003})
    assert chances(tokens('{"1": ', forced, "}"), 1) == {}
    neither = of("true", {"1": 0.9, "2": 0.05})
    assert chances(tokens('{"1": ', neither, "}"), 1) == {}
    assert chances(tokens('{"1": ', "true", "}"), 1) == {}


def recorded(*entries):
    """Tokens as llama.cpp sent them: the likeliest before the grammar had its say."""
    return [
        Position(token, [{"token": other, "logprob": p} for other, p in others])
        for token, *others in entries
    ]


def test_qwens_chances_are_those_of_the_booleans_that_it_wrote():
    """Of "1" it wanted a string: true is among the five likeliest, false is not, but may be."""
    reply = recorded(
        ('{\n  "1":',),
        (" true", (' "', -0.03), (" {\n", -4.01), (' ["', -5.61), (" true", -6.28), (" [", -6.86)),
        (',\n  "2":',),
        (" false", (" false", -0.009), (" true", -4.82), ("false", -8.55), (" null", -8.72)),
        (',\n  "3":',),
        (" false", (" false", -0.495), (" true", -0.96), (' "', -5.18), ("false", -7.7)),
        ("\n}\n",),
    )
    found = chances(reply, 3)
    assert found == {1: pytest.approx(0.0081, abs=1e-4), 2: pytest.approx(0.3857, abs=1e-3)}


def test_of_a_model_that_wanted_numbers_nothing_is_known_where_only_one_word_is_given():
    """SmolLM2 began each value with a space of its own and would have written the number again."""
    reply = recorded(
        ('{\n  "1": ',),
        ("true", ("1", -0.08), ("2", -3.48), (' "', -4.26), ("3", -4.79), ("true", -15.97)),
        (',\n  "2": ',),
        ("true", ("2", -0.91), ("1", -1.0), ("0", -3.05), ("3", -3.12), ("true", -3.4)),
        ("\n}",),
    )
    assert chances(reply, 2) == {}
