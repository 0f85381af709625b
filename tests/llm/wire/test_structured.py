import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.numbering import Miscounted
from autointerp.llm.wire.structured import items, lists, sides

ROWS = [
    {"n": n, "meanings": [], "label": f"L{n}", "reason": "r", "confidence": 0.8} for n in (1, 2, 3)
]
GOOD = json.dumps({"labels": ROWS})
SLOPPY = {
    "trailing commas": GOOD.replace("0.8}", "0.8,}"),
    "a Python literal": str({"labels": [row | {"reason": None, "sure": True} for row in ROWS]}),
    "comments": GOOD.replace('"n": ', '// feature\n"n": '),
    "block comments": GOOD.replace('"n": ', '/* one */ "n": '),
    "no-break spaces": GOOD.replace(" ", "\u00a0"),
    "names without quotes": GOOD.replace('"n"', "n").replace('"label"', "label"),
    "no commas between": GOOD.replace("}, {", "} {"),
    "capitals": GOOD.replace('"label', '"Label').replace('"n"', '"N"'),
    "a string": json.dumps(GOOD),
    "prose around": f"Sure! {GOOD.replace('0.8}', '0.8,}')} I hope {{this}} helps.",
    "a fence": f"```json\n{GOOD.replace('0.8}', '0.8,}')}\n```\nHope this helps.",
    "keyed by number": json.dumps({str(row["n"]): {"label": row["label"]} for row in ROWS}),
    "labels keyed by number": json.dumps({"labels": {row["n"]: row["label"] for row in ROWS}}),
    "keyed by name": json.dumps({f"Feature {row['n']}": row["label"] for row in ROWS}),
}


def said(text):
    return [(item.get("n"), item.get("label")) for item in items(text, "labels", "n", "label")]


@pytest.mark.parametrize("name", SLOPPY)
def test_json_that_is_only_sloppy_is_read(name):
    assert said(SLOPPY[name]) == [(1, "L1"), (2, "L2"), (3, "L3")]


@pytest.mark.parametrize(
    "label",
    ["", "it's", r"L2 \d+", "http://x // y /* z */ # q", "{a, b,}", "True, None", "“so”", "été 🙂"],
)
def test_what_stands_in_strings_is_left_as_it_is(label):
    rows = [row | {"label": label if row["n"] == 2 else row["label"]} for row in ROWS]
    sloppy = json.dumps({"labels": rows}, ensure_ascii=False).replace("0.8}", "0.8,}")
    assert said(sloppy)[1] == (2, label)


def test_a_backslash_that_is_not_escaped_is_a_backslash():
    assert said(GOOD.replace("L2", r"L2 \d+"))[1] == (2, r"L2 \d+")


def test_a_string_that_swallowed_what_follows_it_is_not_a_label():
    text = "{'labels': [{'n': 1, 'label': 'the word don't'}, {'n': 2, 'label': 'b'}]}"
    assert all(label in ("the word don't", "b") for _, label in said(text))


@given(st.sampled_from(sorted(SLOPPY)), st.integers(0, 400))
def test_of_sloppy_json_that_breaks_off_only_whole_items_are_read(name, cut):
    text = SLOPPY[name]
    if cut < len(text):
        assert [label for _, label in said(text[:cut])] in (
            [f"L{i}" for i in (1, 2, 3)][:k] for k in range(4)
        )


@pytest.mark.parametrize("text", ["{[" * 9000, '{"a":' * 5000, '{"a": "' + '"x" ' * 9000])
def test_hostile_text_is_soon_given_up(text):
    began = time.process_time()
    assert items(text, "labels", "n", "label") == []
    assert lists(text, ("yes", "no"), 3) == {}
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"yes": [1, 3], "no": [2]}', {1: True, 2: False, 3: True}),
        ('```json\n{"yes": ["1"], "no": [2, 3]}\n```', {1: True, 2: False, 3: False}),
        ('{"yes": [], "no": []}', {}),
        ('{"yes": [1, 2], "no": [2, 3]}', {1: True, 3: False}),  # 2 is in both
        ('{"yes": [1, true, 1.5, "x", null], "no": []}', {1: True}),
        ('Well: {"yes": [1]} and {"no": [3]}', {1: True, 3: False}),
        (
            'Not {"yes": [2], "no": []} but\n{"yes": [1], "no": [2, 3]}',
            {1: True, 2: False, 3: False},
        ),
        ('{"yes": [1], "no": [2]} Window 3 says {"yes": [3], "no": []}', {1: True, 2: False}),
        ('{"yes": [1, 2], "no": [3', {1: True, 2: True}),  # 3 might have become 31
        ('{"yes": [1, 2', {1: True}),
        ('{"yes": [0, 2], "no": [1]}', {1: True, 2: False, 3: True}),  # counted from 0
        ('{"yes": [1, 3,], "no": [2,],}', {1: True, 2: False, 3: True}),
        ("{'yes': [1, 3], 'no': [2]}", {1: True, 2: False, 3: True}),
        ("{'yes': [1], 'no': [2, 3", {}),
        ('{"Yes": [1, 3], "NO": ["Excerpt 2"]}', {1: True, 2: False, 3: True}),
        (json.dumps('{"yes": [1, 3], "no": [2]}'), {1: True, 2: False, 3: True}),
        ("<think>yes: [1]</think> none", {}),
        ("", {}),
    ],
)
def test_numbers_on_two_sides_are_read(text, expected):
    assert sides(text, "yes", "no", 3) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"yes": [0], "no": [1]}',  # from 0, and the last is missing
        '{"yes": [0, 1], "no": [2, 3]}',
        '{"yes": [1, 2, 3, 4], "no": []}',
        '{"yes": [1, 9], "no": [2]}',
    ],
)
def test_numbers_that_were_not_asked_for_say_that_count_was_lost(text):
    with pytest.raises(Miscounted):
        sides(text, "yes", "no", 3)


def test_scattered_numbers_are_read_by_place():
    assert sides('{"yes": [43], "no": [76, 16]}', "yes", "no", 3, True) == {
        1: True, 2: False, 3: False,
    }  # fmt: skip


@given(st.text(st.sampled_from('{}[]":,yesno 0123456789\\'), max_size=60))
def test_whatever_is_written_no_number_is_on_both_sides_or_beyond(text):
    try:
        found = sides(text, "yes", "no", 5)
    except Miscounted:
        return
    assert set(found) <= {1, 2, 3, 4, 5}


@given(st.text(max_size=200), st.text(st.sampled_from("{}[]\"':,nlabel 01\\/\n"), max_size=200))
def test_any_text_is_read_without_an_error(text, json_like):
    for one in (text, json_like, text + json_like):
        assert isinstance(items(one, "labels", "n", "label"), list)


def test_a_name_that_swallowed_what_follows_it_gives_no_feature_anothers_label():
    text = (
        '{"labels": [{"n": 1, "label": "alpha", "confidence: 0.5}, '
        '{"n": 2, "label": "bravo", "confidence": 0.5,}, '
        '{"n": 3, "label": "charlie", "confidence": 0.5,},]}'
    )
    right = {1: "alpha", 2: "bravo", 3: "charlie"}
    found = {item["n"]: item["label"] for item in items(text, "labels")}
    assert found.items() <= right.items()
    assert 3 in found


def test_no_single_character_lost_gives_a_feature_anothers_label():
    right = {1: "alpha", 2: "bravo", 3: "charlie"}
    text = str({"labels": [{"n": n, "label": label, "c": 0.5} for n, label in right.items()]})
    for place in range(len(text)):
        broken = text[:place] + text[place + 1 :]
        for item in (one for one in items(broken, "labels") if "n" in one):
            # A letter of the label itself may be the one that is lost.
            wanted = right.get(item.get("n"), "")
            label = item.get("label", wanted)
            assert label == wanted or set(label) <= set(wanted), broken
