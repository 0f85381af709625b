"""The largest activation of features on whole texts, of the texts on which they fire at all."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from autointerp.activations.activation_batch import TokenBatch
from autointerp.activations.masks import Mask
from autointerp.tensors.firings import Firings


@dataclass(frozen=True)
class FoundPeaks:
    """Pairs of a text and a feature that fires in it: arrays [pairs]."""

    text: np.ndarray  # int64
    feature: np.ndarray  # int64
    value: np.ndarray  # float32, > 0

    def where(self, chosen: np.ndarray) -> "FoundPeaks":
        """chosen: bool [pairs]."""
        return FoundPeaks(self.text[chosen], self.feature[chosen], self.value[chosen])


def peaks_of(
    batch: TokenBatch, firings: Firings, features: int, masks: Collection[Mask]
) -> FoundPeaks:
    """Every row of the batch is a text; tokens that do not count are passed by.

    `features`: how many the coder has. Texts are numbered from the batch's first context on.
    """
    counts = batch.eligible(masks).flatten()[firings.token]
    text = firings.token[counts] // batch.token_ids.shape[1]
    key, pair = (text * features + firings.feature[counts]).unique(return_inverse=True)
    value = torch.zeros(len(key), dtype=torch.float32, device=key.device)
    value.scatter_reduce_(0, pair, firings.value[counts], "amax")
    found = key.cpu().numpy()
    return FoundPeaks(
        found // features + batch.first_context, found % features, value.cpu().numpy()
    )


class Peaks:
    """Peaks to look up; a feature's peak is 0 on a text in which it is not among the pairs."""

    def __init__(self, parts: Iterable[FoundPeaks], texts: int) -> None:
        every = list(parts)
        self._texts = texts
        empty = np.zeros(0, dtype=np.int64)
        key = np.concatenate([empty, *(p.feature * texts + p.text for p in every)])
        order = np.argsort(key)
        self._key = key[order]
        values = np.concatenate([empty.astype(np.float32), *(p.value for p in every)])
        self._value = values[order]

    def of(self, feature: int, begin: int = 0, end: int | None = None) -> np.ndarray:
        """float32 [texts], of the texts from `begin` to `end`."""
        end = self._texts if end is None else end
        first, last = np.searchsorted(self._key, [feature * self._texts + n for n in (begin, end)])
        found = np.zeros(end - begin, dtype=np.float32)
        found[self._key[first:last] - feature * self._texts - begin] = self._value[first:last]
        return found
