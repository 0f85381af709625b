import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.evidence.text import marked, one_line, token_list
from autointerp.plain_text import harmless
from autointerp.vocabulary import Vocabulary
from tests.samples import window

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
