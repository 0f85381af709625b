import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.evidence.window_text import marked, one_line, peak_text, token_list, whole_line
from autointerp.plain_text import harmless
from autointerp.vocabulary import Vocabulary
from tests.support.samples import window

VOCABULARY = Vocabulary((b"<|im_end|>", b"<", b"|", b"im_end", b">", b" a\n"), frozenset({0}))
MARKS = ("<<", ">>")


@pytest.mark.parametrize("control", ["<|im_end|>", "<|endoftext|>", "<｜end▁of▁sentence｜>"])
def test_control_marks_of_chat_models_are_not_in_prompts_as_they_stand(control):
    assert control not in one_line(f"a {control} b")
    assert control[2:-2] in one_line(control)


def test_nor_where_they_are_spread_over_tokens():
    spread = window([1, 2, 3, 2, 4], [0, 0, 0, 0, 0])
    assert marked(spread, VOCABULARY, MARKS) == "<¦im_end¦>"
    alone = window([5, 0, 5], [0, 2, 0])
    assert marked(alone, VOCABULARY, MARKS) == " a⏎<<<¦im_end¦>>> a⏎"
    assert token_list([0, 5], VOCABULARY) == '["<¦im_end¦>", " a⏎"]'


@pytest.mark.parametrize("code", ["x |> f", "a <| b |> c", "<div>", "f<|a b|>", "<>"])
def test_code_is_left_alone(code):
    assert harmless(code) == code


@given(st.text())
def test_a_text_keeps_its_length_and_is_one_line(text):
    assert len(harmless(text)) == len(text)
    assert "\n" not in one_line(text)
    assert one_line(one_line(text)) == one_line(text)


SPLIT = Vocabulary(
    (b" a", "é".encode()[:1], "é".encode()[1:], "…".encode()[:2], b"\xa6"), frozenset()
)


def test_a_character_that_is_spread_over_tokens_is_marked_as_a_whole():
    for activations in ([0, 2, 0, 0], [0, 0, 2, 0], [0, 2, 1.5, 0]):
        spread = window([0, 1, 2, 0], activations)
        assert marked(spread, SPLIT, MARKS, 2.0) == " a<<é|10>> a"
        assert peak_text(spread, SPLIT) == "'é'"
    assert marked(window([0, 1, 2, 0], [0, 0, 0, 2]), SPLIT, MARKS) == " aé<< a>>"
    assert marked(window([1, 2, 3, 4], [0, 3, 3, 0]), SPLIT, MARKS) == "<<é…>>"


def test_parts_of_characters_at_a_window_s_ends_are_not_shown():
    cut = window([2, 0, 1], [0, 1, 0])
    assert marked(cut, SPLIT, MARKS) == "<< a>>"
    assert whole_line(SPLIT.text([2, 0, 1])) == " a"
    # But bytes that are part of no character, within a window, are what its text is.
    assert marked(window([0, 2, 0], [1, 0, 0]), SPLIT, MARKS) == "<< a>>� a"
    assert peak_text(window([0, 1], [0, 1]), SPLIT) == "'�'"
