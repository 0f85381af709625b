"""Expected activations from servers' log probabilities of known distributions."""

import json

import numpy as np
import pytest

from autointerp.llm.wire.logprobs import Position
from autointerp.llm.wire.reply import read_reply
from autointerp.plain_text import one_line
from autointerp.scoring.scorers.expectations import expected, of_prompt, of_reply
from tests.support.hostile import HOSTILE
from tests.support.simulators import openai_reply, vllm_prompt

WINDOWS = [
    [" the", " red", "?", " car", "\n", "\t", "10", " 10", "", "Ä", "日本", "\ufffd", " 7"],
    [text[:1000] for text in HOSTILE.values()],  # no length is treated in a way of its own
    ["9", " ?", " Excerpt 2", "1\t9"],
]
SHOWN = [[one_line(token) for token in window] for window in WINDOWS]
LENGTHS = [len(window) for window in WINDOWS]


def chances(label, token):
    """A distribution over digits of its own for each token, some of them impossible."""
    rng = np.random.default_rng([ord(c) for c in label + token] or 0)
    weights = rng.exponential(1, 10) * (rng.random(10) < 0.7)
    return weights / weights.sum() if weights.any() else np.eye(10)[3]


def truth(label="red things"):
    return [
        np.array([np.dot(chances(label, t), np.arange(10)) * 10 / 9 for t in window])
        for window in SHOWN
    ]


def sent(numbered):
    lines = []
    for number, window in enumerate(SHOWN, 1):
        lines.append(f"Excerpt {number}")
        lines += [f"{i}\t{t}" if numbered else f"{t}\t?" for i, t in enumerate(window, 1)]
    return "\n".join(lines)


EXAMPLE = {"role": "system", "content": "Example:\n dark\t?\n blue\t9\n?\t?"}
ABOUT = "Description: red things"
OF_PROMPT = {
    "messages": [
        EXAMPLE, {"role": "user", "content": ABOUT},
        {"role": "assistant", "content": sent(False)},
    ],
    "return_token_ids": True,
}  # fmt: skip
OF_REPLY = {"messages": [EXAMPLE, {"role": "user", "content": f"{ABOUT}\n{sent(True)}"}]}


def received(reply, **whole):
    message = {"content": reply.content}
    body = {"choices": [{"message": message} | reply.choice]} | reply.whole | whole
    return read_reply(json.dumps(body).encode())


def assert_equal(found, expectations):
    assert sorted(found) == list(range(len(expectations)))
    for i, values in enumerate(expectations):
        np.testing.assert_allclose(found[i], values, atol=1e-6)


@pytest.mark.parametrize("mass", [1e-6, 0.9])
@pytest.mark.parametrize("split", ["qwen", "llama", "gpt2", "characters"])
def test_expectations_of_a_prompt_are_exact_for_any_tokenizer(split, mass):
    positions = received(vllm_prompt(OF_PROMPT, chances, split, mass)).prompt
    assert_equal(of_prompt(positions, sent(False), LENGTHS), truth())


@pytest.mark.parametrize("split", ["qwen", "llama", "gpt2", "characters"])
def test_expectations_of_a_reply_are_exact_for_any_tokenizer(split):
    positions = received(openai_reply(OF_REPLY, chances, split)).tokens
    assert_equal(of_reply(positions, LENGTHS), truth())


def test_the_prompts_own_tokens_are_known_by_their_ids_where_rows_were_sorted():
    reply = vllm_prompt(OF_PROMPT, chances)
    rows = [dict(sorted(row.items())) if row else row for row in reply.whole["prompt_logprobs"]]
    positions = received(reply, prompt_logprobs=rows).prompt
    assert_equal(of_prompt(positions, sent(False), LENGTHS), truth())


def test_parts_of_characters_may_be_lost_in_a_prompt_but_nothing_else():
    positions = list(received(vllm_prompt(OF_PROMPT, chances, "characters")).prompt)
    lossy = [p if p.text.isascii() else Position("\ufffd", p.given) for p in positions]
    assert_equal(of_prompt(lossy, sent(False), LENGTHS), truth())
    # A prompt that was cut, is another, or is not given at all.
    begin = sum(p.text.count("\t") for p in positions) // 2
    tabs = [i for i, p in enumerate(positions) if p.text == "\t"]
    assert of_prompt(positions[tabs[begin] :], sent(False), LENGTHS) == {}
    assert of_prompt(positions, sent(False).replace(" red", " tan"), LENGTHS) == {}
    assert of_prompt([], sent(False), LENGTHS) == {}
    assert of_prompt(positions, sent(False), LENGTHS[:2]) == {}


@pytest.mark.parametrize("split", ["tab and mark in one", "lines"])
def test_a_mark_that_no_token_begins_with_is_missing_not_zero(split):
    found = of_prompt(received(vllm_prompt(OF_PROMPT, chances, split)).prompt, sent(False), LENGTHS)
    assert all(np.isnan(values).all() for values in found.values())
    assert len(found) == 3


def digits(**logprobs):
    return Position("?", [{"token": t, "logprob": p} for t, p in logprobs.items()])


def test_only_single_digits_count_and_their_probabilities_sum_to_one():
    assert np.isnan(expected(Position("?")))
    assert np.isnan(expected(digits(a=-0.1, b=-2.0)))
    assert np.isnan(expected(Position("?", [{"token": "10", "logprob": -0.1}, 3, {"token": "1"}])))
    assert np.isnan(expected(Position("?", [{"token": "4", "logprob": -9999.0}])))
    half = np.log(0.25)
    found = [("9", half), (" 9", half), ("\t9", -1e9), ("0", half), ("10", -0.1), ("12", -0.1)]
    position = Position("9", [{"token": t, "logprob": p} for t, p in found])
    assert expected(position) == pytest.approx(10 * 2 / 3, abs=1e-12)
    # What is all but impossible is weighed as well as what is certain.
    far = Position("?", [{"token": "3", "logprob": -900.0}, {"token": "6", "logprob": -900.0}])
    assert expected(far) == pytest.approx(5.0)


def written(text, among=None):
    """Positions of a reply, one a character, with one alternative each: itself."""
    return [Position(c, [{"token": c, "logprob": -0.5}]) for c in text]


def test_replies_are_read_line_by_line():
    def read(text, *lengths):
        found = of_reply(written(text), lengths)
        return {i: [round(float(v) * 9 / 10) for v in values] for i, values in found.items()}

    assert read("1\t0\n2\t9", 2) == {0: [0, 9]}
    assert read("Excerpt 2\n1\t4\n2\t5\n**Excerpt 1:**\n1: 3", 1, 2) == {0: [3], 1: [4, 5]}
    # Thoughts are no answer, and of a number said twice the last counts.
    assert read("<think>1\t7</think>Excerpt 1\n1\t2\n1\t3\n2\t0", 2) == {0: [3, 0]}
    # A window of which a line is lacking, or holds another number, is not read.
    assert read("1\t5\n2\t10\nExcerpt 2\n1\t5", 2, 1) == {1: [5]}
    assert read("1\t5\n2\t-3", 2) == {}
    assert read("", 2) == {}


def test_a_digit_within_a_longer_token_is_missing():
    positions = [Position("1\t", ()), *written("5"), Position("\n2\t4\n", ())]
    found = of_reply(positions, [2])[0]
    assert found[0] == pytest.approx(5 * 10 / 9, abs=1e-6)
    assert np.isnan(found[1])
