import numpy as np
import torch

from autointerp.activations.activation_batch import SPECIAL, VALID, TokenBatch
from autointerp.evidence.peaks import Peaks, peaks_of
from autointerp.tensors.firings import Firings

FEATURES, TEXTS, LENGTH = 7, 5, 6


def test_peaks_equal_those_of_the_whole_table_over_the_tokens_that_count():
    rng = np.random.default_rng(0)
    dense = rng.uniform(0, 1, (TEXTS, LENGTH, FEATURES)) * (rng.random((7,)) < 0.7)
    dense[rng.random(dense.shape) < 0.6] = 0
    dense = dense.astype(np.float32)
    mask = np.full((TEXTS, LENGTH), VALID, dtype=np.uint8)
    mask[rng.random(mask.shape) < 0.2] = 0
    mask[2] = 0
    mask[1, 3] |= SPECIAL
    parts = []
    for begin, end in ((0, 2), (2, TEXTS)):
        batch = TokenBatch(
            begin,
            torch.zeros((end - begin, LENGTH), dtype=torch.int32),
            torch.from_numpy(mask[begin:end]),
        )
        flat = torch.from_numpy(dense[begin:end]).flatten(0, 1)
        token, feature = flat.nonzero(as_tuple=True)
        parts.append(
            peaks_of(batch, Firings(token, feature, flat[token, feature]), FEATURES, ["special"])
        )
    counts = mask == VALID
    expected = np.where(counts[..., None], dense, 0).max(1)
    peaks = Peaks(parts, TEXTS)
    for feature in range(FEATURES):
        np.testing.assert_array_equal(peaks.of(feature), expected[:, feature])
        np.testing.assert_array_equal(peaks.of(feature, 1, 4), expected[1:4, feature])
    kept = Peaks((p.where(p.feature == 3) for p in parts), TEXTS)
    assert kept.of(2).max() == 0
    np.testing.assert_array_equal(kept.of(3), expected[:, 3])
    assert Peaks([], 4).of(1).tolist() == [0, 0, 0, 0]
