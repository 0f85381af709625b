import itertools

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from autointerp.activations.activation_batch import VALID
from autointerp.errors import AutointerpError
from autointerp.evidence.statistics import FIRINGS_SAMPLED
from autointerp.evidence.store import (
    EvidenceStore,
    features_table,
    windows_file,
    write_features,
)
from autointerp.vocabulary import Vocabulary
from tests.evidence.test_collector import Corpus, collect

VOCABULARY = Vocabulary((b" a", b" b", b" c"), frozenset())


def write_evidence(folder, collector):
    with windows_file("c", VOCABULARY, folder / "windows.parquet") as write:
        windows = write(collector)
    tables = [features_table(collector, "c", VOCABULARY)]
    statistics = collector.statistics
    write_features(
        tables, [statistics.counters()], [statistics.sketches()], folder / "features.parquet"
    )
    return windows


@pytest.mark.parametrize("window", [3, 6, 9])
def test_windows_are_where_the_store_says_they_are(tmp_path, window):
    """Also those of short texts with padding before or after them."""
    corpus = Corpus(7, 60, 9, 4, 0.3)
    collector = collect(corpus, [1, 2, 3], window, window // 2, 5, [range(33), range(33, 60)])
    write_evidence(tmp_path, collector)
    store = EvidenceStore(tmp_path / "windows.parquet", tmp_path / "features.parquet")
    values, tokens = corpus.masked_values(), corpus.visible_tokens()
    seen = short = 0
    for evidence in store.read([1, 2, 3]):
        for found in evidence.windows:
            span = slice(found.start, found.start + len(found.token_ids))
            assert found.token_ids.tolist() == tokens[found.context, span].tolist()
            assert (found.token_ids >= 0).all()
            assert found.text == VOCABULARY.text(found.token_ids.tolist())
            if found.kind in ("negative", "near_miss"):
                assert not found.activations.any()
                assert found.peak == 0
            else:
                expected = values[found.context, span, evidence.feature]
                assert found.activations.tolist() == expected.tolist()
                assert found.peak == int(np.argmax(expected))
            seen += 1
            short += len(found.token_ids) < window
    assert seen > 30
    assert short > 0


def test_quantiles_are_the_share_of_weaker_firings(tmp_path):
    corpus = Corpus(7, 90, 9, 4, 0.3)
    assert corpus.masked_values().astype(bool).sum((0, 1)).max() > FIRINGS_SAMPLED
    collector = collect(corpus, [0, 1, 2, 3], 6, 3, 5, [range(90)])
    write_evidence(tmp_path, collector)
    table = pd.read_parquet(tmp_path / "windows.parquet")
    silent = table.kind.isin(["negative", "near_miss"])
    assert table["quantile"][silent].isna().all()
    assert 0 < len(table[~silent]) < len(table)
    for row in table[~silent].itertuples():
        firings = corpus.masked_values()[:, :, row.feature]
        firings = firings[firings > 0]
        exact = len(firings) <= FIRINGS_SAMPLED
        share = (firings < max(row.activations)).mean()
        assert row.quantile == pytest.approx(share, abs=1e-6 if exact else 0.1)


def test_a_peak_is_where_it_is_told_also_behind_holes_in_the_mask(tmp_path):
    corpus = Corpus(2, 60, 9, 3, 0.4)
    corpus.mask[:] = VALID
    corpus.mask[np.random.default_rng(0).random(corpus.mask.shape) < 0.3] = 0
    collector = collect(corpus, [0, 1, 2], 6, 3, 5, [range(60)])
    write_evidence(tmp_path, collector)
    table = pd.read_parquet(tmp_path / "windows.parquet")
    assert (table.token_ids.map(len) < 6).any()
    for row in table[table.kind.isin(["top", "sample"])].itertuples():
        assert row.activations[row.peak] == max(row.activations) > 0


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Forty features, of which the first and some between never fire, in several row groups."""
    folder = tmp_path_factory.mktemp("store")
    corpus = Corpus(3, 60, 9, 40, 0.05)
    corpus.values[:, :, 5:9] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autointerp.evidence.store._FEATURES_A_GROUP", 3)
        collector = collect(corpus, list(range(40)), 6, 3, 5, [range(60)])
        windows = write_evidence(folder, collector)
    assert windows == len(pd.read_parquet(folder / "windows.parquet"))
    return folder


@pytest.mark.parametrize("chosen", [[0], [5], [39], [2, 3, 4], [0, 6, 38], list(range(40))])
def test_any_features_are_read_as_pandas_reads_them(stored, chosen):
    store = EvidenceStore(stored / "windows.parquet", stored / "features.parquet")
    table = pd.read_parquet(stored / "windows.parquet")
    found = {e.feature: e for e in store.read(chosen)}
    assert list(found) == chosen
    for feature, evidence in found.items():
        rows = table[table.feature == feature]
        assert [w.text for w in evidence.windows] == rows.text.tolist()
        assert [w.context for w in evidence.windows] == rows.context.tolist()
    assert store.features == list(range(40))
    with pytest.raises(AutointerpError, match="feature 40 was not collected"):
        list(store.read([40]))


def test_windows_are_sorted_compressed_and_in_groups_of_whole_features(stored):
    file = pq.ParquetFile(stored / "windows.parquet")
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    bounds = [(g.column(1).statistics.min, g.column(1).statistics.max) for g in groups]
    assert len(groups) == 14
    assert all(b[1] < a[0] for b, a in itertools.pairwise(bounds))
    assert {g.column(8).compression for g in groups} == {"ZSTD"}
    features = file.read(columns=["feature"])["feature"].to_pylist()
    assert features == sorted(features)


def test_duckdb_reads_the_windows_as_they_are(stored):
    duckdb = pytest.importorskip("duckdb")
    path = stored / "windows.parquet"
    found = duckdb.sql(
        f"select count(*), sum(list_sum(activations)) from '{path}' where feature = 39"
    ).fetchall()[0]
    rows = pd.read_parquet(path, filters=[("feature", "==", 39)])
    assert found[0] == len(rows) > 0
    assert found[1] == pytest.approx(sum(a.sum() for a in rows.activations))
