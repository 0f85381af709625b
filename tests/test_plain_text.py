import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.plain_text import (
    MAX_LINE,
    harmless,
    json_line,
    line_for_person,
    one_line,
    tidy,
)
from tests.support.hostile import EVERYTHING

# Written out, so that the tests do not repeat the code's own patterns.
CONTROLS = [
    "<|im_end|>",
    "<|im_start|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<s>",
    "</s>",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "[TOOL_CALLS]",
    "</think>",
    "</tool_call>",
]
UNSEEN = "\u034f\u115f\u1160\u2800\u3164\uffa0\U000e0100\U000e01ef"


def safe(text):
    return text.isprintable() and not set(text) & set(UNSEEN)


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_is_shown_is_one_line_that_acts_on_nothing(name):
    for made in (one_line, tidy, line_for_person):
        shown = made(EVERYTHING[name])
        assert safe(shown), repr(shown[:100])
        assert len(shown.splitlines()) <= 1
        assert not any(ord(c) > 127 and f"{c}" * 7 in shown for c in "\u0300\u0489\u0e47")
    shown = one_line(EVERYTHING[name])
    assert not [c for c in CONTROLS if c in shown]
    assert one_line(shown) == shown
    assert len(line_for_person(EVERYTHING[name])) <= MAX_LINE


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_of_chat_models_keep_their_words_and_their_length(control):
    changed = harmless(f"a {control} b")
    assert control not in changed
    assert len(changed) == len(f"a {control} b")
    assert control.strip("<>|｜[]/") in changed


@pytest.mark.parametrize(
    "code", ["a[i]", "x < s > y", "<b>bold</b>", "vector<string>", "[INSTALL]", "1 << SYS", "<S>"]
)
def test_code_and_markup_are_left_alone(code):
    assert one_line(code) == code


@pytest.mark.parametrize(
    "text", ["Ångström", "Việt Nam", "हिन्दी में", "ภาษาไทยที่นี่", "שָׁלוֹם", "日本語、テキスト", "e\u0301"]
)
def test_scripts_are_left_alone(text):
    assert one_line(text) == tidy(text) == text


def test_labels_lose_what_is_unseen_and_keep_their_words():
    assert (
        tidy("\x1b[31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x9b1mb") == "red link b"
    )
    assert tidy("zero\u200bwidth\u202e, two\u2028lines\r\n\tand\0more") == (
        "zerowidth, two lines and more"
    )
    assert tidy("x" + "".join(chr(0xE0000 + ord(c)) for c in "secret")) == "x"
    assert tidy("a\ud800b") == "a b"
    assert tidy("\x1b]0;never ended") == ""


@given(st.text())
def test_any_text(text):
    for made in (one_line, tidy):
        assert safe(made(text))
        assert made(made(text)) == made(text)
    assert json.loads(json_line([text])) == [text]
    assert json_line([text]).isprintable()


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"])))
def test_plain_ascii_is_left_as_it_is(text):
    assert one_line(text) == text
