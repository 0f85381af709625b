import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.activations.activation_batch import OUTLIER, SPECIAL, VALID, ActivationBatch
from autointerp.activations.masks import MASKS
from autointerp.coders import Firings
from autointerp.evidence.collector import Collector, CollectSettings
from autointerp.evidence.corpus import sampled
from autointerp.evidence.selection import NONE, SelectionSpec
from autointerp.evidence.statistics import BINS, FIRINGS_SAMPLED, histogram_edges
from tests.support import oracle

CPU = torch.device("cpu")
SPECS = tuple(
    SelectionSpec(kind, split, k)
    for split, k in (("label", 3), ("validate", 1), ("score", 2))
    for kind in ("top", "sample", "negative", "near_miss")
)


def similar_to(features, width):
    """Two other features for each, so that near misses are defined."""
    return (torch.tensor(features).unsqueeze(1) + torch.tensor([1, 2])) % width


class Corpus:
    """Random token ids, masks and feature activations with many ties and repeated texts."""

    def __init__(self, seed: int, contexts: int, length: int, features: int, rate: float) -> None:
        rng = np.random.default_rng(seed)
        self.token_ids = rng.integers(0, 3, (contexts, length))
        valid_length = rng.integers(0, length + 1, contexts)
        self.mask = np.zeros((contexts, length), dtype=np.uint8)
        padded_left = rng.random(contexts) < 0.3
        for row, n in enumerate(valid_length):
            self.mask[row, length - n :] = VALID
            if not padded_left[row]:
                self.mask[row] = self.mask[row, ::-1]
        special = rng.random((contexts, length)) < 0.1
        self.mask[(self.mask == VALID) & special] |= SPECIAL
        outlier = rng.random((contexts, length)) < 0.05
        self.mask[((self.mask & VALID) != 0) & outlier] |= OUTLIER
        values = rng.choice(
            np.array([0.25, 0.5, 1.0, 3.0], np.float32), (contexts, length, features)
        )
        fires = rng.random((contexts, length, features)) < rate
        fires[:, :, 0] = False  # one feature never fires
        fires[:, :, -1] = True  # one always does
        self.values = np.where(fires, values, np.float32(0))

    def eligible(self, masks=MASKS) -> np.ndarray:
        eligible = (self.mask & VALID) != 0
        for name, bit in (("special", SPECIAL), ("norm_outlier", OUTLIER)):
            if name in masks:
                eligible &= (self.mask & bit) == 0
        if "first_position" in masks:
            first = ((self.mask & VALID) != 0).argmax(1)
            eligible[np.arange(len(first)), first] = False
        return eligible

    def masked_values(self, masks=MASKS) -> np.ndarray:
        return np.where(self.eligible(masks)[:, :, None], self.values, np.float32(0))

    def visible_tokens(self) -> np.ndarray:
        return np.where((self.mask & VALID) != 0, self.token_ids, -1)

    def batch(self, rows: range) -> tuple[ActivationBatch, Firings]:
        chosen = slice(rows.start, rows.stop)
        values = torch.from_numpy(self.values[chosen])
        token, feature = values.flatten(0, 1).nonzero(as_tuple=True)
        batch = ActivationBatch(
            rows.start,
            torch.from_numpy(self.token_ids[chosen].astype(np.int32)),
            torch.from_numpy(self.mask[chosen]),
            values,
        )
        return batch, Firings(token, feature, values.flatten(0, 1)[token, feature])


def collect(
    texts: Corpus,
    features: list[int],
    length: int,
    before: int,
    seed: int,
    batches: list[range],
    **choices,
) -> Collector:
    _, context_length, width = texts.values.shape
    collector = Collector(
        torch.tensor(features),
        torch.arange(width),
        context_length,
        CollectSettings(length, before, SPECS, seed, **choices),
        CPU,
        similar_to(features, width),
    )
    for rows in batches:
        collector.add(*texts.batch(rows))
    collector.settle()
    return collector


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    contexts=st.integers(1, 40),
    length=st.integers(2, 9),
    window=st.integers(2, 12),
    most=st.integers(1, 12),
    sizes=st.lists(st.integers(1, 13), min_size=1, max_size=3),
)
def test_the_sample_of_the_corpus_equals_brute_force(seed, contexts, length, window, most, sizes):
    texts = Corpus(seed, contexts, length, 11, 0.2)
    batches = cut(contexts, sizes, seed)
    found = sampled(
        collect(texts, [2, 5], window, 0, seed, batches, corpus=most).corpus, torch.arange(11)
    )
    window = min(window, length)
    values, tokens = texts.masked_values(), texts.visible_tokens()
    eligible = [
        c for c in range(contexts) if oracle.split_of(c, seed) == "score" and (tokens[c] >= 0).any()
    ]
    eligible.sort(key=lambda c: -oracle.hashed(seed ^ 0xC02, c))
    chosen = sorted(eligible[:most])
    assert found.context.tolist() == chosen
    for i, context in enumerate(chosen):
        valid = np.flatnonzero(tokens[context] >= 0)
        low, high = valid[0], valid[-1] + 1
        token = low + oracle.hashed(seed ^ 0x57A, context) % (high - low)
        start = max(min(token, high - window), low)
        start = min(max(start, 0), length - window)
        assert found.start[i] == start
        assert found.token_ids[i].tolist() == tokens[context, start : start + window].tolist()
        fires = (values[context, start : start + window] > 0).any(0)
        assert found.feature[found.window == i].tolist() == np.flatnonzero(fires).tolist()


def kept(collector: Collector, selection: int, row: int) -> list[oracle.Found]:
    chosen = collector.selections[selection]
    return [
        oracle.Found(
            int(chosen.priority[row, i]),
            int(chosen.context[row, i]),
            int(chosen.start[row, i]),
            tuple(chosen.token_ids[row, i].tolist()),
            tuple(chosen.activations[row, i].tolist()),
        )
        for i in range(chosen.places)
        if int(chosen.priority[row, i]) != NONE
    ]


def cut(contexts: int, sizes: list[int], order_seed: int) -> list[range]:
    """Consecutive batches of the given sizes, repeated as needed, in a random order."""
    batches, begin, turn = [], 0, 0
    while begin < contexts:
        size = sizes[turn % len(sizes)]
        batches.append(range(begin, min(begin + size, contexts)))
        begin, turn = begin + size, turn + 1
    return [batches[i] for i in np.random.default_rng(order_seed).permutation(len(batches))]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    contexts=st.integers(1, 40),
    length=st.integers(2, 9),
    window=st.integers(2, 12),
    before=st.integers(0, 11),
    rate=st.sampled_from([0.02, 0.2, 0.8]),
    sizes=st.lists(st.integers(1, 13), min_size=1, max_size=3),
    repeats=st.sampled_from(["near", "exact", "none"]),
    masks=st.sets(st.sampled_from(MASKS)),
)
def test_windows_equal_brute_force_for_any_batches(
    seed, contexts, length, window, before, rate, sizes, repeats, masks
):
    corpus = Corpus(seed, contexts, length, 4, rate)
    features = [0, 1, 3]
    before = min(before, window - 1)
    batches, masks = cut(contexts, sizes, seed), tuple(masks)
    collector = collect(
        corpus, features, window, before, seed, batches, repeats=repeats, masks=masks
    )
    assert_windows_equal_brute_force(
        collector, corpus, features, window, before, seed, repeats=repeats, masks=masks
    )


def assert_windows_equal_brute_force(
    collector, corpus, features, window, before, seed, *, repeats="near", masks=MASKS
):
    values, tokens = corpus.masked_values(masks), corpus.visible_tokens()
    every = []
    for row, feature in enumerate(features):
        every.append(
            [
                oracle.select(
                    spec.kind,
                    spec.split,
                    collector.settings.places(spec),
                    feature,
                    values[:, :, feature],
                    tokens,
                    window,
                    before,
                    seed,
                    repeats,
                    values[:, :, similar_to([feature], 4)[0]],
                )
                for spec in SPECS
            ]
        )
        assert [kept(collector, number, row) for number in range(len(SPECS))] == every[row]
    collector.choose()
    for row, found in enumerate(every):
        chosen = [kept(collector, number, row) for number in range(len(SPECS))]
        assert chosen == oracle.choose(SPECS, found, repeats)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), contexts=st.integers(1, 30), size=st.integers(1, 9))
def test_statistics_equal_brute_force(seed, contexts, size):
    corpus = Corpus(seed, contexts, 6, 3, 0.3)
    collector = collect(corpus, [0, 1, 2], 4, 2, seed, cut(contexts, [size], seed))
    values, found = corpus.masked_values(), collector.statistics
    fires = values > 0
    assert found.n_active.tolist() == fires.sum((0, 1)).tolist()
    assert found.tokens == corpus.eligible().sum()
    assert found.firings == fires.sum()
    assert found.maximum.tolist() == values.max((0, 1)).tolist()
    # The four values are dyadic, so that sums are exact in any order.
    assert found.total.tolist() == values.sum((0, 1), dtype=np.float64).tolist()
    edges = np.array(histogram_edges(), dtype=np.float32)
    top_tokens = found.top_tokens(10)
    for feature in range(3):
        bins = np.digitize(values[:, :, feature][fires[:, :, feature]], edges[1:-1])
        assert found.histogram[feature].tolist() == np.bincount(bins, minlength=BINS).tolist()
        # Fewer firings than are sampled: counts are then exact.
        token_ids = corpus.token_ids[fires[:, :, feature]]
        counts = {token: count for token, count, _ in top_tokens[feature]}
        assert counts == {
            int(t): int(n) for t, n in zip(*np.unique(token_ids, return_counts=True), strict=True)
        }
    valid = (corpus.mask & VALID) != 0
    assert found.masked["padding"] == (~valid).sum()
    assert found.masked["first_position"] == valid.any(1).sum()
    assert found.masked["special"] == ((corpus.mask & SPECIAL) != 0).sum()
    assert found.masked["norm_outlier"] == ((corpus.mask & OUTLIER) != 0).sum()


def test_sample_of_firings_does_not_depend_on_batches():
    corpus = Corpus(5, 200, 8, 2, 0.5)
    one = collect(corpus, [1], 4, 2, 7, [range(200)]).statistics
    many = collect(corpus, [1], 4, 2, 7, cut(200, [3, 17], 1)).statistics
    assert int(one.n_active[0]) > FIRINGS_SAMPLED
    assert torch.equal(one.sample_draw, many.sample_draw)
    assert one.top_tokens(5) == many.top_tokens(5)
    counts = [count for _, count, _ in one.top_tokens(5)[0]]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == FIRINGS_SAMPLED


def test_window_density_is_the_share_of_drawn_windows_that_fire():
    corpus = Corpus(3, 50, 8, 3, 0.1)
    corpus.mask[:] = VALID
    collector = collect(corpus, [0, 1, 2], 4, 2, 11, cut(50, [8], 0))
    values = corpus.masked_values()
    for feature in range(3):
        fires = 0
        for context in range(50):
            token = oracle.hashed(11 ^ 0x57A, context) % 8
            start = max(min(token - 2, 4), 0)
            fires += bool((values[context, start : start + 4, feature] > 0).any())
        assert float(collector.window_density()[feature]) == pytest.approx(fires / 50)


def test_texts_shared_between_splits_are_dropped_from_the_later():
    corpus = Corpus(1, 60, 5, 2, 0.5)
    corpus.token_ids[:] = 1  # every window of the same length reads the same
    corpus.mask[:] = VALID
    collector = collect(corpus, [1], 3, 1, 2, [range(60)])
    texts = {s.spec.split: 0 for s in collector.selections}
    dropped = collector.choose().shared
    for selection in collector.selections:
        texts[selection.spec.split] += int((selection.priority != NONE).sum())
    assert dropped > 0
    assert texts["label"] > 0
    assert texts["validate"] == texts["score"] == 0
