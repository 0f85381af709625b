import numpy as np
import pytest

from autointerp.evidence.store import EvidenceStore, write_features, write_windows
from autointerp.vocabulary import Vocabulary
from tests.evidence.test_collector import Corpus, collect

VOCABULARY = Vocabulary((b" a", b" b", b" c"), frozenset())


@pytest.mark.parametrize("window", [3, 6, 9])
def test_windows_are_where_the_store_says_they_are(tmp_path, window):
    """Also those of short texts with padding before or after them."""
    corpus = Corpus(7, 60, 9, 4, 0.3)
    collector = collect(corpus, [1, 2, 3], window, window // 2, 5, [range(33), range(33, 60)])
    write_windows(collector, "c", VOCABULARY, tmp_path / "windows.parquet")
    write_features(collector, "c", VOCABULARY, tmp_path / "features.parquet")
    store = EvidenceStore(tmp_path / "windows.parquet", tmp_path / "features.parquet")
    values, tokens = corpus.masked_values(), corpus.visible_tokens()
    seen = short = 0
    for evidence in store.read([1, 2, 3]):
        for found in evidence.windows:
            span = slice(found.start, found.start + len(found.token_ids))
            assert found.token_ids.tolist() == tokens[found.context, span].tolist()
            assert (found.token_ids >= 0).all()
            assert found.text == VOCABULARY.text(found.token_ids.tolist())
            if found.kind == "negative":
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
