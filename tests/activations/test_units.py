"""What lies on one side of a split: documents, short ones together, and blocks of contexts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.activations.capture import capture
from autointerp.activations.formats import find_cache
from autointerp.activations.given_activations import given_activations
from autointerp.activations.given_evidence import given_evidence
from autointerp.activations.stream import SubjectStream
from autointerp.activations.units import BLOCK, MANY, Units, block_of
from autointerp.tensors.hashing import LABEL, split_of_units
from tests.activations.test_capture import CPU, stream_settings
from tests.support.tokenizers import write_subject

LENGTH = 4
# Tokens of documents, one after the other: mostly short, some of many contexts.
SIZES = st.lists(st.one_of(st.integers(1, 9), st.integers(1, 900)), min_size=1, max_size=25)


def concatenated(sizes: list[int]) -> np.ndarray:
    """The documents' numbers in whole contexts, the last of which is padded."""
    flat = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return np.append(flat, np.full(-len(flat) % LENGTH, -1, np.int32)).reshape(-1, LENGTH)


def units_one_token_at_a_time(document: np.ndarray, block: int) -> list[int]:
    """The rule again: no unit begins but where a document does, or where one grows too long."""
    unit = begin = 0
    end = block * LENGTH
    found, before = [], -1
    for place, number in enumerate(document.ravel().tolist()):
        begins = number >= 0 and number != before
        before = number if number >= 0 else before
        if (place and begins and place - begin >= LENGTH) or place == end:
            unit, begin, end = unit + 1, place, place + block * LENGTH
        if begins:
            end = max(end, place + max(block * LENGTH, place // 2))
        found.append(unit)
    return found


@settings(max_examples=80, deadline=None)
@given(sizes=SIZES, steps=st.lists(st.integers(1, 70), min_size=1, max_size=4))
def test_units_follow_the_rule_however_the_text_is_read(sizes, steps):
    document = concatenated(sizes)
    units = Units(LENGTH, len(document))
    found, begin, turn = [], 0, 0
    while begin < len(document):
        part = document[begin : begin + steps[turn % len(steps)]]
        if turn % 3 == 2:
            units.starts(part)  # passed over
            found.append(np.full(part.shape, -1))
        else:
            found.append(units.of(part))
        begin, turn = begin + len(part), turn + 1
    expected = np.array(units_one_token_at_a_time(document, block_of(len(document))))
    joined = np.concatenate(found).ravel()
    assert (joined == expected)[joined >= 0].all()


@settings(max_examples=80, deadline=None)
@given(sizes=SIZES)
def test_a_document_is_cut_only_where_it_is_most_of_the_text(sizes):
    document = concatenated(sizes)
    units = Units(LENGTH, len(document))
    unit = units.of(document)
    cut = before = 0
    for number, size in enumerate(sizes):
        its = len(np.unique(unit[document == number]))
        cut += its > 1
        assert (its == 1) == (size <= max(block_of(len(document)) * LENGTH, before // 2))
        before += size
    assert units.cut == cut
    assert bool(units.remarks()) == (cut > 0)


@pytest.mark.parametrize(("contexts", "block"), [(1, 1), (9, 1), (30, 3), (639, 63), (640, 64)])
def test_blocks_are_smaller_only_where_ten_do_not_fit(contexts, block):
    assert block_of(contexts) == block
    assert block_of(10**9) == BLOCK


@given(seed=st.integers(0, 2**62), contexts=st.integers(3, 3000))
@settings(max_examples=60, deadline=None)
def test_a_corpus_of_one_document_leaves_no_side_without_text(seed, contexts):
    document = np.zeros((contexts, 1), dtype=np.int32)
    units = Units(1, contexts)
    side = split_of_units(torch.from_numpy(units.of(document)), seed)
    shares = np.bincount(side.flatten(), minlength=3) / contexts
    assert (shares > 0).all()
    if contexts >= 10 * BLOCK:
        assert np.abs(shares - [0.5, 0.1, 0.4]).max() < 0.1
        assert units.remarks() == [
            "1 document is longer than half of the text before: split in blocks of 64 "
            "consecutive contexts"
        ]


@given(seed=st.integers(0, 2**62), group=st.integers(0, 10**9))
def test_sides_have_their_shares_of_any_ten_units(seed, group):
    sides = split_of_units(torch.arange(10 * group, 10 * group + 10), seed)
    assert torch.bincount(sides).tolist() == [5, 1, 4]
    assert sorted(sides[:3].tolist()) == [0, 1, 2]


def test_which_units_label_depends_on_the_seed():
    sides = torch.stack([split_of_units(torch.arange(500), seed) for seed in range(200)])
    labels = (sides == LABEL).double()
    for place, expected in ((0, 1 / 3), (3, 1 / 2), (7, 2 / 3)):
        shares = labels[:, place::10].mean(0)
        # Of 200 fair draws; five standard deviations.
        assert (shares - expected).abs().max() < 5 * 0.5 / 200**0.5


@pytest.fixture
def text(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate([3, 1, 90, 2, 2, 30, 5, 400, 7, 1, 1, 1, 12, 60]):
        words = rng.choice(["the", "cat", "sat", "on", "mat"], size)
        (folder / f"{number:02}.txt").write_text(" ".join(words))
    return folder


@pytest.mark.parametrize("packing", ["concatenated", "documents"])
def test_streams_their_parts_and_caches_have_the_same_units(text, tmp_path, packing):
    subject = write_subject(tmp_path / "subject")
    asked = stream_settings(subject, text, batch=5, tokens=10_000, packing=packing)
    stream = SubjectStream(asked, CPU)
    whole = list(stream.batches(units=True))
    unit, document = (torch.cat([getattr(b, n) for b in whole]) for n in ("unit", "document"))
    assert unit.max() > 8
    assert unit.shape == document.shape
    assert (unit[1:, 0] >= unit[:-1, -1]).all()
    if packing == "concatenated":
        assert "document" in stream.remarks()[-1]
        assert "fewer than 640" in stream.remarks()[-1]
    else:  # a row is a document
        assert (unit == torch.arange(len(unit))[:, None]).all()
    capture(asked, [tmp_path / "cache"], CPU, ["x"])
    cache = find_cache(tmp_path / "cache")
    assert (cache.unit_remarks() == []) == (packing == "documents")
    for first, last in ((0, len(unit)), (7, 12), (13, len(unit))):
        parts = SubjectStream(asked, CPU, norms=stream.norm_samples)
        for source in (
            parts.batches(first, last, units=True),
            cache.batches(3, CPU, first, last, units=True),
        ):
            found = list(source)
            assert torch.equal(torch.cat([b.unit for b in found]), unit[first:last])
            assert torch.equal(torch.cat([b.document for b in found]), document[first:last])
    assert all(b.unit is None for b in cache.batches(3, CPU))


def test_what_records_no_documents_is_split_in_blocks():
    contexts = MANY + 7
    cache = given_activations(torch.ones(contexts, 2, 3), torch.ones(contexts, 2).int())
    units = torch.cat([b.unit for b in cache.batches(100, CPU, units=True)])
    assert units.flatten().tolist() == [i // BLOCK for i in range(contexts)]
    assert all(b.document is None for b in cache.batches(100, CPU, units=True))
    assert cache.unit_remarks() == [
        "the cache does not record documents: split in blocks of 64 consecutive contexts"
    ]


def test_each_given_excerpt_is_a_document():
    excerpts = [((f"a{i}", "b", "c")[: 1 + i % 3], [1.0, 0, 0][: 1 + i % 3]) for i in range(12)]
    cache, _ = given_evidence({4: excerpts, 5: [*excerpts[:1], (("x", "y"), [0.0, 2.0])]})
    (batch,) = cache.batches(100, CPU, units=True)
    assert batch.unit[:, 0].tolist() == list(range(13))
    assert ((batch.document >= 0) == (batch.mask > 0)).all()
