"""Per-feature statistics from the same pass: counts, sums, histograms, top tokens."""

from collections import Counter

import torch
from torch import Tensor

from autointerp.evidence.selection import (
    NONE,
    lexicographic_order,
    rank_in_group,
    starts_of_groups,
)

# Half-octave bins of the activation's size; the first and last also take what lies beyond.
_BINS_PER_OCTAVE = 2
_LOWEST_OCTAVE, _HIGHEST_OCTAVE = -12, 14
BINS = _BINS_PER_OCTAVE * (_HIGHEST_OCTAVE - _LOWEST_OCTAVE)
FIRINGS_SAMPLED = 256


def histogram_edges() -> list[float]:
    """The lower edge of each bin and the upper edge of the last: [BINS + 1]."""
    return [2.0 ** (_LOWEST_OCTAVE + i / _BINS_PER_OCTAVE) for i in range(BINS + 1)]


class Statistics:
    """Running statistics; tensors [features] unless said otherwise.

    Top tokens come from a uniform sample of `FIRINGS_SAMPLED` firings a feature (all of them where
    there are fewer): exact counts of every (feature, token) pair would grow with the corpus.
    """

    def __init__(self, features: int, device: torch.device) -> None:
        self.features = features
        self.n_active = torch.zeros(features, dtype=torch.int64, device=device)
        self.total = torch.zeros(features, dtype=torch.float64, device=device)
        self.maximum = torch.zeros(features, dtype=torch.float32, device=device)
        self.histogram = torch.zeros((features, BINS), dtype=torch.int64, device=device)
        self.tokens = 0
        self.firings = 0
        self.masked: Counter[str] = Counter()
        shape = (features, FIRINGS_SAMPLED)
        self.sample_draw = torch.full(shape, NONE, dtype=torch.int64, device=device)
        self.sample_token = torch.zeros(shape, dtype=torch.int64, device=device)
        self.sample_value = torch.zeros(shape, dtype=torch.float32, device=device)
        self._edges = torch.tensor(histogram_edges()[1:-1], device=device)

    def add(
        self,
        *,
        row: Tensor,
        value: Tensor,
        token_id: Tensor,
        draw: Tensor,
        eligible: Tensor,
        masked: dict[str, int],
    ) -> None:
        """row, value, token_id, draw: [firings]; eligible: bool, over the batch's tokens."""
        self.tokens += int(eligible.sum())
        self.firings += len(row)
        self.masked.update(masked)
        self.n_active += torch.bincount(row, minlength=self.features)
        self.total += torch.bincount(row, weights=value.double(), minlength=self.features)
        self.maximum.scatter_reduce_(0, row, value, "amax")
        bins = torch.bucketize(value, self._edges, right=True)
        flat = torch.bincount(row * BINS + bins, minlength=self.features * BINS)
        self.histogram += flat.view(self.features, BINS)
        self._sample(row, value, token_id.long(), draw)

    def _sample(self, row: Tensor, value: Tensor, token_id: Tensor, draw: Tensor) -> None:
        """Keep the firings of largest draw of every feature."""
        keep = draw >= self.sample_draw[:, -1][row]
        row, value, token_id, draw = row[keep], value[keep], token_id[keep], draw[keep]
        if len(row) == 0:
            return
        rows = torch.unique(row)
        places = torch.arange(FIRINGS_SAMPLED, device=rows.device).repeat(len(rows))
        old_row = rows.repeat_interleave(FIRINGS_SAMPLED)
        filled = self.sample_draw[old_row, places] != NONE
        old_row, places = old_row[filled], places[filled]
        joined_row = torch.cat([old_row, row])
        parts = {
            "sample_draw": torch.cat([self.sample_draw[old_row, places], draw]),
            "sample_token": torch.cat([self.sample_token[old_row, places], token_id]),
            "sample_value": torch.cat([self.sample_value[old_row, places], value]),
        }
        order = lexicographic_order(joined_row, -parts["sample_draw"])
        place = rank_in_group(starts_of_groups(joined_row[order]))
        kept = place < FIRINGS_SAMPLED
        order, place = order[kept], place[kept]
        for name, joined in parts.items():
            getattr(self, name)[joined_row[order], place] = joined[order]

    def density(self) -> Tensor:
        """Share of eligible tokens on which each feature fires: float64 [features]."""
        return self.n_active.double() / max(self.tokens, 1)

    def mean(self) -> Tensor:
        """Mean activation over firings, 0 for a feature that never fires: float64 [features]."""
        return self.total / self.n_active.clamp(min=1)

    def top_tokens(self, limit: int) -> list[list[tuple[int, int, float]]]:
        """For every feature (token id, count, mean activation), commonest first, by its sample."""
        row, place = (self.sample_draw != NONE).nonzero(as_tuple=True)
        token, value = self.sample_token[row, place], self.sample_value[row, place].double()
        order = lexicographic_order(row, token)
        row, token, value = row[order], token[order], value[order]
        first = starts_of_groups(row, token)
        pair = first.cumsum(0) - 1
        row, token = row[first], token[first]
        counts = torch.bincount(pair, minlength=len(row))
        means = torch.bincount(pair, weights=value, minlength=len(row)) / counts
        order = lexicographic_order(row, -counts, token)
        order = order[rank_in_group(starts_of_groups(row[order])) < limit]
        found: list[list[tuple[int, int, float]]] = [[] for _ in range(self.features)]
        columns = (row[order], token[order], counts[order], means[order])
        for r, t, c, m in zip(*(column.tolist() for column in columns), strict=True):
            found[r].append((t, c, m))
        return found
