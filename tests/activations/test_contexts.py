import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from autointerp import demo
from autointerp.activations.chat import conversation_tokens
from autointerp.activations.contexts import ContextReader, TextSettings
from autointerp.activations.documents import documents
from autointerp.activations.rows import BadRow
from autointerp.errors import AutointerpError
from tests.support.tokenizers import CHAT_WORDS, WORDS, chat_tokenizer, word_tokenizer

TALK = [
    {"role": "user", "content": "the cat sat"},
    {"role": "assistant", "content": " on the mat "},
    {"role": "user", "content": "the mat"},
]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def read(path, tokenizer, length=4, **changes):
    reader = ContextReader(TextSettings(str(path), length, **changes), tokenizer)
    return reader, list(reader.batches(2, 100))


def joined(batches, name):
    return np.concatenate([getattr(b, name) for b in batches]).tolist()


@pytest.mark.parametrize("separator", [" ", "\n", "  ", "\n\n", "x"])
def test_long_texts_come_in_pieces_that_are_tokenized_alike(tmp_path, monkeypatch, separator):
    monkeypatch.setattr("autointerp.activations.documents.PIECE", 500)
    whole = separator.join(f"word{i} (x);\nnext " for i in range(400)).strip()
    (tmp_path / "a.txt").write_text(whole)
    rows = write_rows(tmp_path / "b.jsonl", [{"text": whole}, {"text": "short"}])
    tokenizer = AutoTokenizer.from_pretrained(demo.SUBJECT)
    expected = tokenizer(whole, add_special_tokens=False)["input_ids"]
    for path in (tmp_path / "a.txt", rows):
        pieces = list(documents(str(path)))
        assert "".join(p.text for p in pieces).removesuffix("short") == whole
        assert max(len(p.text) for p in pieces) <= 500
        assert pieces[0].begins
        assert pieces[-1].ends
        assert sum(p.begins for p in pieces) == sum(p.ends for p in pieces)
        _, batches = read(path, tokenizer, length=64, packing="concatenated", bos="none")
        ids = np.concatenate([b.token_ids.ravel() for b in batches]).tolist()
        assert len(ids) > 2000
        assert ids[: len(expected)] == expected[: len(ids)]
        numbers = np.concatenate([b.document.ravel() for b in batches])
        assert set(numbers[: len(expected)]) == {0}


def test_a_long_document_a_context_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("autointerp.activations.documents.PIECE", 100)
    rows = write_rows(tmp_path / "b.jsonl", [{"text": "the cat sat on " * 40}, {"text": "the mat"}])
    reader, batches = read(rows, word_tokenizer(), length=10, packing="documents", bos="document")
    assert reader.truncated == 1
    assert joined(batches, "token_ids")[0] == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]
    assert joined(batches, "valid")[1] == [True, True] + [False] * 8


def test_documents_are_concatenated_with_an_end_after_each(tmp_path):
    path = write_rows(
        tmp_path / "t.jsonl",
        [{"text": "the cat sat"}, {"text": "on the mat"}, {"text": "cat " * 6}],
    )
    _, batches = read(path, word_tokenizer())
    assert joined(batches, "token_ids") == [[1, 2, 3, 0], [4, 1, 5, 0], [2, 2, 2, 2]]
    assert joined(batches, "document") == [[0] * 4, [1] * 4, [2] * 4]
    assert np.all(joined(batches, "valid"))
    assert [len(b) for b in batches] == [2, 1]


def test_one_document_a_context_is_cut_or_padded(tmp_path):
    path = write_rows(
        tmp_path / "t.jsonl", [{"text": "the cat"}, {"text": " "}, {"text": "cat " * 6}]
    )
    reader, batches = read(path, word_tokenizer(), packing="documents")
    assert joined(batches, "token_ids") == [[1, 2, 0, 0], [2, 2, 2, 2]]
    assert joined(batches, "valid") == [[True, True, False, False], [True] * 4]
    assert joined(batches, "document") == [[0, 0, -1, -1], [2] * 4]
    assert reader.truncated == 1


@pytest.mark.parametrize(
    ("bos", "adds_bos", "expected", "used"),
    [
        ("none", True, [[1, 2, 3, 0], [4, 5, 0, 1]], "none"),
        ("context", False, [[7, 1, 2, 3], [7, 0, 4, 5], [7, 0, 1, 2]], "context"),
        ("document", False, [[7, 1, 2, 3], [0, 7, 4, 5], [0, 7, 1, 2]], "document"),
        ("auto", False, [[1, 2, 3, 0], [4, 5, 0, 1]], "none"),
        ("auto", True, [[7, 1, 2, 3], [7, 0, 4, 5], [7, 0, 1, 2]], "context"),
    ],
)
def test_where_the_beginning_of_text_token_goes(tmp_path, bos, adds_bos, expected, used):
    rows = [{"text": "the cat sat"}, {"text": "on mat"}, {"text": "the cat"}]
    path = write_rows(tmp_path / "t.jsonl", rows)
    reader, batches = read(path, chat_tokenizer(adds_bos=adds_bos), bos=bos)
    assert joined(batches, "token_ids") == expected
    assert reader.bos == used


def test_a_tokenizer_without_such_a_token_puts_none(tmp_path):
    path = write_rows(tmp_path / "t.jsonl", [{"text": "the cat sat on"}])
    reader, batches = read(path, word_tokenizer(), bos="context")
    assert reader.bos == "none"
    assert joined(batches, "token_ids") == [[1, 2, 3, 4]]


@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS[1:6]), min_size=1, max_size=9), max_size=12),
    length=st.integers(2, 6),
    bos=st.sampled_from(["none", "context", "document"]),
    skip=st.integers(0, 4),
)
@settings(max_examples=60, deadline=None)
def test_no_token_is_lost_between_contexts(tmp_path_factory, texts, length, bos, skip):
    path = write_rows(
        tmp_path_factory.mktemp("t") / "t.jsonl", [{"text": " ".join(t)} for t in texts]
    )
    tokenizer = chat_tokenizer()
    stream = []
    for text in texts:
        stream += [7] * (bos == "document") + [CHAT_WORDS.index(w) for w in text] + [0]
    room = length - (bos == "context")
    expected = [
        [7] * (bos == "context") + stream[i : i + room]
        for i in range(0, len(stream) - room + 1, room)
    ]
    reader = ContextReader(TextSettings(str(path), length, bos=bos), tokenizer)
    found = [row.tolist() for b in reader.batches(3, 1000) for row in b.token_ids]
    assert found == expected
    later = [row.tolist() for b in reader.batches(2, 1000, skip=skip) for row in b.token_ids]
    assert later == expected[skip:]


def test_a_conversation_goes_through_the_template_and_turns_are_told():
    words = {w: i for i, w in enumerate(CHAT_WORDS)}
    said = "<bos> <user> the cat sat <end> <assistant> on the mat <end> <user> the mat <end>"
    ids, counted = conversation_tokens(chat_tokenizer(), TALK, "all")
    assert ids == [words[w] for w in said.split()]
    assert counted.all()
    for role, expected in (
        ("user", "0 0 1 1 1 0 0 0 0 0 0 0 1 1 0"),
        ("assistant", "0 0 0 0 0 0 0 1 1 1 0 0 0 0 0"),
        ("system", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
    ):
        same, counted = conversation_tokens(chat_tokenizer(), TALK, role)
        assert same == ids
        assert counted.astype(int).tolist() == [int(c) for c in expected.split()]


def test_turns_that_do_not_count_are_context_of_those_that_do(tmp_path):
    path = write_rows(tmp_path / "t.jsonl", [{"messages": TALK}])
    _, batches = read(
        path, chat_tokenizer(), 16, packing="documents", turns="assistant", bos="context"
    )
    assert joined(batches, "token_ids")[0][:2] == [7, 8]  # one beginning-of-text token, not two
    assert sum(joined(batches, "counted")[0]) == 3
    assert sum(joined(batches, "valid")[0]) == 15
    # What stands between packed conversations is nobody's words.
    _, batches = read(path, chat_tokenizer(), 8, turns="assistant")
    assert np.array(joined(batches, "counted")).sum() == 3


@pytest.mark.parametrize("said", ["user", "a", "<end>", "", "end <end>", " the\n", "{{ x }}"])
def test_words_that_are_the_templates_own_are_told_apart(said):
    tokenizer = chat_tokenizer()
    turns = [{"role": "user", "content": said}, {"role": "assistant", "content": "the mat"}]
    ids, counted = conversation_tokens(tokenizer, turns, "user")
    words = ["<bos>", "<user>", *said.split(), "<end>", "<assistant>", "the", "mat", "<end>"]
    assert len(ids) == len(words)
    expected = [False] * 2 + [True] * len(said.split()) + [False] * 5
    assert counted.tolist() == expected


def test_thinking_that_a_template_takes_out_or_keeps_is_not_what_was_said():
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %} <{{ m['role'] }}> {% if not loop.last %}"
        "{{ m['content'].split('</think>')[-1].lstrip() }}{% else %}{{ m['content'] }}{% endif %}"
        "{% endfor %}"
    )
    turns = [
        {"role": "assistant", "content": "<think> cat </think> the mat"},
        {"role": "assistant", "content": "<think> cat </think>\n\nsat on"},
    ]
    _, counted = conversation_tokens(tokenizer, turns, "assistant")
    assert counted.tolist() == [False, True, True, False, False, False, False, True, True]


def test_templates_that_are_missing_or_change_what_was_said(tmp_path):
    with pytest.raises(AutointerpError, match="has no chat template"):
        conversation_tokens(word_tokenizer(), TALK, "all")
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = "{% for m in messages %} {{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(BadRow, match="changes what the user says"):
        conversation_tokens(tokenizer, TALK, "user")
    assert conversation_tokens(tokenizer, TALK, "all")[1].all()
    tokenizer.chat_template = "{{ raise_exception('no system turns') }}"
    with pytest.raises(BadRow, match="rejects it: no system turns"):
        conversation_tokens(tokenizer, TALK, "all")
