"""Overlap of the tokens that features fire on, against counting them."""

import numpy as np
import pytest
import torch

from autointerp.evidence.coactive import SKETCH, coactive_features
from autointerp.evidence.directions import Ranked
from autointerp.evidence.selection import NONE
from autointerp.tensors.hashing import hash_integers
from tests.evidence.test_collector import Corpus, collect, cut


def sketches_of(fires):
    """fires: bool [tokens, features] → the sketches and counts."""
    draws = hash_integers(1, torch.arange(len(fires)))
    kept = torch.where(torch.from_numpy(fires).T, draws, NONE).sort(descending=True).values
    sketches = torch.full((fires.shape[1], SKETCH), NONE, dtype=torch.int64)
    sketches[:, : kept.shape[1]] = kept[:, :SKETCH]
    return sketches, torch.from_numpy(fires.sum(0))


def coactive(sketches, n_active, n):
    parts = list(coactive_features(sketches, n_active, n))
    return Ranked(torch.cat([p.item for p in parts]), torch.cat([p.score for p in parts]))


def jaccard(fires):
    both = fires.T.astype(float) @ fires
    n = fires.sum(0)
    return both / np.maximum(n[:, None] + n[None] - both, 1)


@pytest.mark.parametrize("seed", range(5))
def test_features_that_fire_little_are_compared_exactly(seed):
    rng = np.random.default_rng(seed)
    fires = rng.random((300, 40)) < rng.random(40) * 0.35
    fires[:, 0] = False
    fires[:, 7] = fires[:, 3]
    fires = fires[: np.flatnonzero(fires.cumsum(0).max(1) <= SKETCH)[-1]]
    found = coactive(*sketches_of(fires), 6)
    expected = jaccard(fires)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(found.score, -np.sort(-expected)[:, :6], rtol=1e-6)
    for feature in range(40):
        shown = found.item[feature][found.score[feature] > 0]
        assert feature not in shown
        assert len(set(shown.tolist())) == len(shown)
        np.testing.assert_allclose(
            expected[feature, shown], found.score[feature][: len(shown)], rtol=1e-6
        )
    assert found.item[3, 0] == 7
    assert found.score[3, 0] == 1
    assert (found.score[0] == 0).all()


def test_features_that_fire_much_are_compared_by_sketch():
    rng = np.random.default_rng(0)
    kinds = rng.random((40_000, 30)) < 0.05
    copies = kinds & (rng.random(kinds.shape) < rng.uniform(0.2, 1, 30))
    fires = np.concatenate([kinds, copies], axis=1)
    found = coactive(*sketches_of(fires), 1)
    expected = jaccard(fires)
    best = found.item[:, 0].numpy()
    assert (best == (np.arange(60) + 30) % 60).mean() > 0.95
    error = found.score[:, 0].numpy() - expected[np.arange(60), best]
    assert abs(error.mean()) < 0.02
    assert error.std() < 0.06


def test_the_collectors_sketches_tell_what_fires_together():
    corpus = Corpus(5, 40, 8, 6, 0.2)
    collector = collect(corpus, list(range(6)), 4, 2, 1, cut(40, [7], 3))
    n_active = collector.statistics.n_active
    assert 0 < int(n_active.max()) <= SKETCH
    found = coactive(collector.statistics.sketches(), n_active, 4)
    expected = jaccard((corpus.masked_values() > 0).reshape(-1, 6))
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(found.score, -np.sort(-expected)[:, :4], rtol=1e-6)


def test_parts_and_smaller_sketches_change_little(monkeypatch):
    rng = np.random.default_rng(1)
    kinds = rng.random((3000, 20)) < 0.1
    fires = np.concatenate([kinds, kinds & (rng.random(kinds.shape) < 0.8)], axis=1)
    whole = coactive(*sketches_of(fires), 3)
    monkeypatch.setattr("autointerp.evidence.coactive._PAIRS_AT_ONCE", 700)
    parted = coactive(*sketches_of(fires), 3)
    assert torch.equal(whole.item, parted.item)
    assert torch.equal(whole.score, parted.score)
    monkeypatch.setattr("autointerp.evidence.coactive._MAX_PAIRS", 10_000)
    halved = coactive(*sketches_of(fires), 1)
    assert (halved.item[:, 0] == whole.item[:, 0]).float().mean() > 0.9
    assert not torch.equal(halved.score, whole.score[:, :1])
    assert abs(float((halved.score - whole.score[:, :1]).mean())) < 0.1
