import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from autointerp import demo
from autointerp.errors import AutointerpError
from autointerp.vocabulary import Vocabulary, vocabulary_of

DEMO = PreTrainedTokenizerFast.from_pretrained(demo.SUBJECT)
VOCABULARY = vocabulary_of(DEMO)


@given(st.text(max_size=60))
def test_byte_level_text_survives_tokens_exactly(text):
    ids = DEMO(text, add_special_tokens=False)["input_ids"]
    assert b"".join(VOCABULARY.bytes_of(i) for i in ids).decode() == text
    pieces = VOCABULARY.pieces(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text == VOCABULARY.text(ids)


@given(st.binary(max_size=30), st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_any_bytes_cut_anywhere_give_a_piece_a_token(data, sizes):
    parts, begin = [], 0
    for size in sizes:
        parts.append(data[begin : begin + size])
        begin += size
    vocabulary, ids = Vocabulary(tuple(parts), frozenset()), list(range(len(parts)))
    pieces = vocabulary.pieces(ids)
    assert len(pieces) == len(parts)
    joined = b"".join(parts)
    assert "".join(pieces).replace("�", "") == joined.decode(errors="ignore").replace("�", "")
    assert vocabulary.text(ids) == "".join(pieces)


def test_a_character_belongs_to_the_token_that_completes_it():
    euro = "€".encode()
    vocabulary = Vocabulary((b"a" + euro[:1], euro[1:2], euro[2:] + b"b"), frozenset())
    assert vocabulary.pieces([0, 1, 2]) == ["a", "", "€b"]
    assert vocabulary.pieces([0, 1]) == ["a�", "�"]


def test_ids_beyond_the_vocabulary_are_shown_by_number():
    assert VOCABULARY.pieces([len(VOCABULARY) + 5]) == [f"⟨{len(VOCABULARY) + 5}⟩"]


def test_special_tokens_are_known_and_verbatim():
    end = DEMO.eos_token_id
    assert end in VOCABULARY.special_ids
    assert VOCABULARY.token_text(end) == "<|endoftext|>"


def test_sentencepiece_conventions():
    tokenizer = Tokenizer(
        models.BPE(
            vocab={"<unk>": 0, "<0xE2>": 1, "▁the": 2, "cat": 3}, merges=[], byte_fallback=True
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    found = vocabulary_of(PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    assert [found.bytes_of(i) for i in (1, 2, 3)] == [b"\xe2", b" the", b"cat"]


def test_round_trip_through_a_file(tmp_path):
    path = tmp_path / "vocabulary.parquet"
    VOCABULARY.save(path)
    assert Vocabulary.load(path) == VOCABULARY
    with pytest.raises(AutointerpError, match="is missing: run `autointerp collect`"):
        Vocabulary.load(tmp_path / "other.parquet")


def test_numpy_ids_are_accepted():
    ids = np.array(DEMO("def f(): pass")["input_ids"], dtype=np.int32)
    assert VOCABULARY.text(ids.tolist()) == "def f(): pass"


PARTS = Vocabulary(
    (b"a", "é".encode()[:1], "é".encode()[1:], "你".encode(), b"\xff", b""), frozenset()
)


@given(st.lists(st.lists(st.integers(-1, 7), max_size=6), max_size=12))
def test_texts_of_many_windows_are_those_of_each(windows):
    """With parts of characters, bytes that are none, empty tokens and ids beyond all."""
    ids = np.array([i for w in windows for i in w], dtype=np.int32)
    lengths = np.array([len(w) for w in windows], dtype=np.int64)
    found = PARTS.texts(ids, lengths).to_pylist()
    assert found == [PARTS.text(w) for w in windows]


def test_parts_of_characters_have_names_of_their_own():
    vocabulary = Vocabulary((b" \xe2\x94", b"\x82", b" the", "é".encode()), frozenset())
    names = [vocabulary.token_name(i) for i in range(5)]
    assert names == [r" \xe2\x94", r"\x82", " the", "é", "⟨4⟩"]
