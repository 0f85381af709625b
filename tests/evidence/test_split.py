"""Evidence split by document: against brute force, and whatever the batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.activations.activation_batch import VALID
from autointerp.activations.units import Units
from autointerp.evidence.checkpoint import load_checkpoint, save_checkpoint
from autointerp.evidence.collector import Collector, CollectSettings
from autointerp.evidence.corpus import sampled
from autointerp.evidence.selection import NONE
from autointerp.tensors.hashing import split_of_units
from tests.evidence.test_collector import CPU, SPECS, Corpus, cut, kept, similar_to
from tests.evidence.test_merge import assert_equal
from tests.support import oracle

SIDES = ("label", "validate", "score")
FEATURES = [0, 1, 3]


class Documents(Corpus):
    """A corpus of documents one after the other, of about `size` tokens each."""

    def __init__(self, seed, contexts, length, features, rate, size=6):
        super().__init__(seed, contexts, length, features, rate)
        rng = np.random.default_rng(seed + 1)
        begins = rng.random((contexts, length)) < 1 / size
        number = begins.cumsum().reshape(contexts, length).astype(np.int32)
        self.document = np.where((self.mask & VALID) != 0, number, np.int32(-1))
        self.unit = Units(length, contexts).of(self.document)

    def batch(self, rows):
        batch, firings = super().batch(rows)
        chosen = slice(rows.start, rows.stop)
        document, unit = (torch.from_numpy(a[chosen]) for a in (self.document, self.unit))
        return replace(batch, document=document, unit=unit), firings

    def shown(self, seed):
        """Each context's side, and which of its tokens are on it and to be shown, by the rule."""
        side = split_of_units(torch.from_numpy(self.unit), seed).numpy()
        valid = (self.mask & VALID) != 0
        sides, shown = [], np.zeros_like(valid)
        for context in range(len(valid)):
            best, begin = range(0), 0
            for p in range(1, valid.shape[1] + 1):
                if p == valid.shape[1] or (side[context, p], valid[context, p]) != (
                    side[context, p - 1],
                    valid[context, p - 1],
                ):
                    if valid[context, begin] and p - begin > len(best):
                        best = range(begin, p)
                    begin = p
            shown[context, best.start : best.stop] = True
            sides.append(SIDES[side[context, best.start]])
        return sides, shown


def collector_of(corpus, window, before, seed, split="document", most=9):
    _, length, width = corpus.values.shape
    chosen = CollectSettings(window, before, SPECS, seed, corpus=most, split=split)
    similar = similar_to(FEATURES, width)
    return Collector(torch.tensor(FEATURES), torch.arange(width), length, chosen, CPU, similar)


def collect(corpus, window, before, seed, batches, **choices):
    collector = collector_of(corpus, window, before, seed, **choices)
    for rows in batches:
        collector.add(*corpus.batch(rows))
    collector.settle()
    return collector


CASES = {
    "seed": st.integers(0, 2**31),
    "contexts": st.integers(1, 40),
    "length": st.integers(2, 9),
    "window": st.integers(2, 12),
    "before": st.integers(0, 11),
    "size": st.sampled_from([1, 3, 8, 40]),
    "sizes": st.lists(st.integers(1, 13), min_size=1, max_size=3),
}


@settings(max_examples=15, deadline=None)
@given(**CASES)
def test_windows_equal_brute_force_for_any_batches(
    seed, contexts, length, window, before, size, sizes
):
    corpus = Documents(seed, contexts, length, 4, 0.3, size)
    before = min(before, window - 1)
    collector = collect(corpus, window, before, seed, cut(contexts, sizes, seed))
    sides, shown = corpus.shown(seed)
    values = np.where(shown[:, :, None], corpus.masked_values(), np.float32(0))
    tokens = np.where(shown, corpus.token_ids, -1)
    for row, feature in enumerate(FEATURES):
        others = values[:, :, similar_to([feature], 4)[0]]
        for number, spec in enumerate(SPECS):
            places = collector.settings.places(spec)
            asked = (feature, values[:, :, feature], tokens, window, before, seed, "near", others)
            found = kept(collector, number, row)
            expected = oracle.select(spec.kind, spec.split, places, *asked, sides=sides)
            assert found == expected


@settings(max_examples=15, deadline=None)
@given(**CASES)
def test_no_window_has_text_of_another_side(seed, contexts, length, window, before, size, sizes):
    corpus = Documents(seed, contexts, length, 4, 0.3, size)
    before = min(before, window - 1)
    batches = cut(contexts, sizes, seed)
    collector = collect(corpus, window, before, seed, batches)
    side_of = {}
    side = split_of_units(torch.from_numpy(corpus.unit), seed).numpy()

    def look(context, start, token_ids, document, name):
        at = np.arange(start, start + len(token_ids))[token_ids >= 0]
        assert {SIDES[s] for s in side[context, at]} == {name}
        of = corpus.document[context, at]
        assert document in of
        for number, unit in zip(of.tolist(), corpus.unit[context, at].tolist(), strict=True):
            # A document has one side, unless it was so long that it was cut.
            assert side_of.setdefault((number, unit), name) == name

    for selection in collector.selections:
        for row, place in (selection.priority != NONE).nonzero().tolist():
            at = [getattr(selection, n)[row, place] for n in ("context", "start", "token_ids")]
            context, start, token_ids = int(at[0]), int(at[1]), at[2].numpy()
            document = int(selection.document[row, place])
            look(context, start, token_ids, document, selection.spec.split)
    sample = sampled(collector.corpus, torch.arange(4))
    for i, context in enumerate(sample.context.tolist()):
        look(context, sample.start[i], sample.token_ids[i], sample.document[i], "score")
    # What counts does not depend on the split.
    other = collect(corpus, window, before, seed, batches, split="context")
    for name, table in collector.statistics.tables().items():
        assert torch.equal(table, other.statistics.tables()[name]), name


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), stop=st.integers(0, 30))
def test_merged_and_resumed_collections_are_the_same(tmp_path_factory, seed, stop):
    corpus = Documents(seed, 30, 7, 4, 0.3)
    whole = collect(corpus, 4, 2, seed, [range(30)])
    first, second = (collect(corpus, 4, 2, seed, [r]) for r in (range(stop), range(stop, 30)))
    path = tmp_path_factory.mktemp("c") / "checkpoint"
    save_checkpoint(path, first, "x", range(stop))
    resumed = collector_of(corpus, 4, 2, seed)
    assert load_checkpoint(path, resumed, "x") == range(stop)
    resumed.add(*corpus.batch(range(stop, 30)))
    resumed.settle()
    first.merge(second.tables(), second.counters())
    for other in (first, resumed):
        assert_equal(whole, other, 4)


def test_without_documents_blocks_of_contexts_are_split():
    corpus = Corpus(0, 640, 5, 4, 0.3)
    collector = collect(corpus, 3, 1, 0, cut(640, [50], 0))
    sides = {}
    for selection in collector.selections:
        found = selection.priority != NONE
        assert (selection.document[found] == NONE).all()
        for context in selection.context[found].tolist():
            assert sides.setdefault(context // 64, selection.spec.split) == selection.spec.split
    assert set(sides.values()) == set(SIDES)


def test_documents_are_known_whatever_the_split():
    corpus = Documents(1, 60, 8, 4, 0.3)
    collector = collect(corpus, 4, 2, 0, [range(60)], split="context")
    (top,) = (s for s in collector.selections if s.spec == SPECS[0])
    found = (top.priority != NONE).nonzero(as_tuple=True)
    expected = torch.from_numpy(corpus.document)[top.context[found], top.peak[found]]
    assert len(expected) > 5
    assert torch.equal(top.document[found], expected.long())


@pytest.mark.parametrize("split", ["document", "context"])
def test_only_a_split_other_than_that_of_old_runs_is_named(split):
    text = CollectSettings(4, 2, SPECS, 0, split=split).identity()
    assert (", split='document')" in text) == (split == "document")
    assert ", split='context'" not in text
