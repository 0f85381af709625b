import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.activations.masks import MASKS
from autointerp.evidence.corpus import sampled
from autointerp.evidence.selection import NONE
from autointerp.evidence.statistics import FIRINGS_SAMPLED
from tests.evidence.test_collector import Corpus, assert_windows_equal_brute_force, collect, cut


def kept(tables):
    """What stands in tables whose empty places may hold anything: arrays by name."""
    found = {}
    for name, table in tables.items():
        places = next((n for n in ("priority", "sample_draw") if n in tables), None)
        if places is None or table.shape[: tables[places].dim()] != tables[places].shape:
            found[name] = table.numpy()
        else:
            found[name] = table[tables[places] != NONE].numpy()
    return found


def assert_equal(one, other, width):
    for mine, theirs in zip(one.selections, other.selections, strict=True):
        assert torch.equal(mine.priority, theirs.priority)
        for name, array in kept(mine.tables()).items():
            np.testing.assert_array_equal(array, kept(theirs.tables())[name], name)
    for name, array in kept(one.statistics.tables()).items():
        np.testing.assert_array_equal(array, kept(other.statistics.tables())[name], name)
    for name in ("n_active", "total", "density", "mean"):
        mine, theirs = (getattr(c.statistics, name) for c in (one, other))
        mine, theirs = (f() if callable(f) else f for f in (mine, theirs))
        assert torch.equal(mine, theirs), name
    assert one.statistics.counters() == other.statistics.counters()
    assert torch.equal(one.statistics.sketches(), other.statistics.sketches())
    assert one.statistics.top_tokens(9) == other.statistics.top_tokens(9)
    assert torch.equal(one.window_density(), other.window_density())
    samples = [sampled(c.corpus, torch.arange(width)) for c in (one, other)]
    for name, array in vars(samples[0]).items():
        np.testing.assert_array_equal(array, getattr(samples[1], name), name)


def merged(parts):
    first, *others = parts
    for other in others:
        other.settle()
        first.merge(other.tables(), other.counters())
    return first


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    contexts=st.integers(1, 40),
    length=st.integers(2, 9),
    window=st.integers(2, 12),
    rate=st.sampled_from([0.02, 0.2, 0.8]),
    sizes=st.lists(st.integers(1, 13), min_size=1, max_size=3),
    parts=st.integers(1, 4),
    repeats=st.sampled_from(["near", "exact", "none"]),
    masks=st.sets(st.sampled_from(MASKS)),
)
def test_merged_collectors_equal_one_that_saw_all(
    seed, contexts, length, window, rate, sizes, parts, repeats, masks
):
    corpus, features = Corpus(seed, contexts, length, 4, rate), [0, 1, 3]
    rng = np.random.default_rng(seed)
    # Whatever floats there are: sums of these depend on their order.
    corpus.values *= (
        rng.lognormal(0, 3, corpus.values.shape).astype(np.float32).round(rng.choice(4))
    )
    batches, masks = cut(contexts, sizes, seed), tuple(masks)
    before = int(rng.integers(0, window))

    def collected(batches):
        choices = {"repeats": repeats, "masks": masks, "corpus": 5}
        return collect(corpus, features, window, before, seed, batches, **choices)

    shares = rng.integers(0, parts, len(batches))  # some parts see nothing
    found = merged(
        [
            collected([b for b, s in zip(batches, shares, strict=True) if s == p])
            for p in range(parts)
        ]
    )
    assert_equal(found, collected(batches), 4)
    assert_windows_equal_brute_force(
        found, corpus, features, window, before, seed, repeats=repeats, masks=masks
    )


def test_merged_samples_of_firings_are_those_of_all():
    corpus = Corpus(5, 400, 8, 2, 0.5)

    def collected(begin, end):
        return collect(corpus, [0, 1], 4, 2, 7, [range(begin, end)])

    found = merged([collected(250, 400), collected(0, 40), collected(40, 250)])
    assert int(found.statistics.n_active[1]) > 3 * FIRINGS_SAMPLED
    assert_equal(found, collected(0, 400), 2)


def test_a_merged_collector_goes_on():
    corpus = Corpus(2, 90, 8, 4, 0.3)

    def collected(*batches):
        return collect(corpus, [0, 1, 3], 4, 2, 7, list(batches))

    found = merged([collected(range(30)), collected(range(60, 90))])
    found.add(*corpus.batch(range(30, 60)))
    found.settle()
    assert_equal(found, collected(range(90)), 4)


def test_a_mean_does_not_depend_on_the_order_of_what_it_is_of():
    corpus = Corpus(3, 300, 8, 2, 1.0)
    rng = np.random.default_rng(0)
    corpus.values[:, :, 1] = rng.lognormal(0, 20, corpus.values.shape[:2])
    one, other = (
        collect(corpus, [1], 4, 2, 7, cut(300, [size], size)).statistics for size in (7, 300)
    )
    values = corpus.masked_values()[:, :, 1].astype(np.float64)
    assert float(one.total[0]) == float(other.total[0])
    assert float(one.total[0]) == pytest.approx(values.sum(), rel=1e-15)


def test_tables_of_another_collector_are_refused():
    corpus = Corpus(2, 20, 8, 4, 0.3)
    one, other = (collect(corpus, f, 4, 2, 7, [range(20)]) for f in ([0, 1, 3], [0, 1]))
    with pytest.raises(ValueError, match="another collector"):
        one.merge(other.tables(), other.counters())
