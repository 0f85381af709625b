"""Per-feature statistics from the same pass: counts, sums, histograms, top tokens."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autointerp.evidence.coactive import SKETCH
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
_MANTISSA_BITS, _EXPONENT_BIAS, _MANTISSA_OF_SQRT_2 = 23, 127, 0x3504F3
_GROUP_BITS = 3  # of exponents that share a sum: 32 sums, each of 2^32 firings at least
_SUMS = 256 >> _GROUP_BITS
FIRINGS_SAMPLED = 256
_L0_BINS = 1025  # active features on a token; the last also takes what lies beyond
_TABLES = ("sums", "maximum", "histogram", "sample_draw", "sample_token", "sample_value")


def histogram_edges() -> list[float]:
    """The lower edge of each bin and the upper edge of the last: [BINS + 1]."""
    return [2.0 ** (_LOWEST_OCTAVE + i / _BINS_PER_OCTAVE) for i in range(BINS + 1)]


def _bins(value: Tensor) -> Tensor:
    """The bin of positive float32 values: int64, the same shape. Read off their bits, for speed."""
    bits = value.view(torch.int32)
    octave = (bits >> _MANTISSA_BITS) - _EXPONENT_BIAS - _LOWEST_OCTAVE
    upper_half = (bits & ((1 << _MANTISSA_BITS) - 1)) >= _MANTISSA_OF_SQRT_2
    return (octave * _BINS_PER_OCTAVE + upper_half).clamp_(0, BINS - 1).long()


def _exact(value: Tensor) -> tuple[Tensor, Tensor]:
    """Positive float32 values as an integer to add and which of a feature's sums it belongs to.

    int64, the same shape. Sums of integers do not depend on their order. Values of the least
    exponent are too small to matter: they count as if they were normal ones.
    """
    bits = value.view(torch.int32)
    exponent = bits >> _MANTISSA_BITS
    mantissa = (bits & ((1 << _MANTISSA_BITS) - 1)) | (1 << _MANTISSA_BITS)
    within = exponent & ((1 << _GROUP_BITS) - 1)
    return mantissa.long() << within, (exponent >> _GROUP_BITS).long()


def statistics_bytes() -> int:
    """What the statistics of one feature take."""
    return 8 * _SUMS + 4 + 8 * BINS + 2 * FIRINGS_SAMPLED * (8 + 4 + 4)


class Statistics:
    """Running statistics; tensors [features] unless said otherwise.

    Top tokens come from a uniform sample of `FIRINGS_SAMPLED` firings a feature (all of them where
    there are fewer): exact counts of every (feature, token) pair would grow with the corpus. Which
    are sampled depends on the token alone, so that samples of two features can be compared.
    """

    def __init__(self, features: int, device: torch.device) -> None:
        self.features = features
        self.sums = torch.zeros((features, _SUMS), dtype=torch.int64, device=device)
        self.maximum = torch.zeros(features, dtype=torch.float32, device=device)
        self.histogram = torch.zeros((features, BINS), dtype=torch.int64, device=device)
        self.tokens = 0
        self.firings = 0
        self.masked: Counter[str] = Counter()
        self.l0_counts = torch.zeros(_L0_BINS, dtype=torch.int64, device=device)
        # Twice the room, so that choosing the largest draws is seldom needed.
        shape = (features, 2 * FIRINGS_SAMPLED)
        self.sample_draw = torch.full(shape, NONE, dtype=torch.int64, device=device)
        self.sample_token = torch.zeros(shape, dtype=torch.int32, device=device)
        self.sample_value = torch.zeros(shape, dtype=torch.float32, device=device)
        self._sampled = torch.zeros(features, dtype=torch.int64, device=device)
        self._floor = torch.full((features,), NONE, dtype=torch.int64, device=device)

    @property
    def n_active(self) -> Tensor:
        """How often each feature fires: int64 [features]."""
        return self.histogram.sum(1)

    @property
    def total(self) -> Tensor:
        """The sum of each feature's activations, the same for any order: float64 [features]."""
        total = torch.zeros(self.features, dtype=torch.float64, device=self.sums.device)
        for group in range(_SUMS):
            unit = 2.0 ** ((group << _GROUP_BITS) - _EXPONENT_BIAS - _MANTISSA_BITS)
            total += self.sums[:, group].double() * unit
        return total

    def add(
        self,
        *,
        row: Tensor,
        value: Tensor,
        token_id: Tensor,
        place: Tensor,
        draw: Tensor,
        eligible: Tensor,
        masked: dict[str, int],
    ) -> None:
        """row, value, draw: [firings]; place: [firings], in the flattened token_id.

        draw: a hash of the token's place in the corpus, the same for every feature. token_id,
        eligible: [contexts, length], of the batch.
        """
        self.tokens += int(eligible.sum())
        self.firings += len(row)
        self.masked.update(masked)
        active = torch.bincount(place, minlength=eligible.numel())[eligible.flatten()]
        self.l0_counts += torch.bincount(active.clamp(max=_L0_BINS - 1), minlength=_L0_BINS)
        addend, group = _exact(value)
        self.sums.view(-1).scatter_add_(0, row * _SUMS + group, addend)
        self.maximum.scatter_reduce_(0, row, value, "amax")
        cells = row * BINS + _bins(value)
        ones = torch.ones((), dtype=torch.int64, device=row.device).expand(len(row))
        self.histogram.view(-1).scatter_add_(0, cells, ones)
        kept = (draw >= self._floor.index_select(0, row)).nonzero().flatten()
        self._sample(row[kept], value[kept], token_id.flatten()[place[kept]], draw[kept])

    def _sample(self, row: Tensor, value: Tensor, token_id: Tensor, draw: Tensor) -> None:
        """Keep the firings of largest draw of every feature."""
        if len(row) == 0:
            return
        order = row.argsort(stable=True)
        rank = rank_in_group(starts_of_groups(row[order]))
        if int(rank.max()) >= FIRINGS_SAMPLED:
            order = lexicographic_order(row, -draw)
            order, rank = order[rank < FIRINGS_SAMPLED], rank[rank < FIRINGS_SAMPLED]
        row = row[order]
        if int((self._sampled[row] + rank).max()) >= self.sample_draw.shape[1]:
            self._choose()
        place = self._sampled[row] + rank
        place += row * self.sample_draw.shape[1]
        for table, new in (
            (self.sample_draw, draw),
            (self.sample_token, token_id.int()),
            (self.sample_value, value),
        ):
            table.view(-1).scatter_(0, place, new.index_select(0, order))
        self._sampled += torch.bincount(row, minlength=self.features)

    def _choose(self) -> None:
        """Keep the largest draws of every feature and free the other places."""
        rows = (self._sampled > FIRINGS_SAMPLED).nonzero().flatten()
        largest = self.sample_draw[rows].topk(FIRINGS_SAMPLED, dim=1, sorted=False)
        for table in (self.sample_draw, self.sample_token, self.sample_value):
            table[rows, :FIRINGS_SAMPLED] = table[rows].gather(1, largest.indices)
        self.sample_draw[rows, FIRINGS_SAMPLED:] = NONE
        self._sampled.clamp_(max=FIRINGS_SAMPLED)
        self._floor[rows] = largest.values.amin(1)

    def settle(self) -> None:
        """Leave no more than the sample's size of each feature, in the order of their draws."""
        self._choose()
        order = self.sample_draw.argsort(dim=1, descending=True)
        for table in (self.sample_draw, self.sample_token, self.sample_value):
            table.copy_(table.gather(1, order))
        self._floor = self.sample_draw[:, FIRINGS_SAMPLED - 1].clone()

    def sampled(self, rows: range) -> tuple[np.ndarray, np.ndarray]:
        """The activations of the sampled firings of some features: which are there, and values.

        bool and float32 [rows, places].
        """
        part = slice(rows.start, rows.stop)
        draws, values = self.sample_draw[part], self.sample_value[part]
        return (draws != NONE).cpu().numpy(), values.cpu().numpy()

    def sketches(self) -> Tensor:
        """The largest draws of every feature, once settled: int64 [features, SKETCH], sorted."""
        return self.sample_draw[:, :SKETCH].clone()

    def tables(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in _TABLES}

    def counters(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "firings": self.firings,
            "masked": dict(self.masked),
            "l0_counts": self.l0_counts.tolist(),
        }

    def restore_counters(self, counters: Mapping[str, Any]) -> None:
        """After the tables of a settled one have been copied in."""
        self.tokens, self.firings = counters["tokens"], counters["firings"]
        self.masked = Counter(counters["masked"])
        self.l0_counts.copy_(torch.tensor(counters["l0_counts"]))
        self._sampled = (self.sample_draw != NONE).sum(1)
        self._floor = self.sample_draw[:, FIRINGS_SAMPLED - 1].clone()

    def merge(self, tables: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Take in what settled statistics of other tokens have as `tables` and `counters`."""
        self.settle()
        self.sums += tables["sums"].to(self.sums.device)
        self.histogram += tables["histogram"].to(self.histogram.device)
        torch.maximum(self.maximum, tables["maximum"].to(self.maximum.device), out=self.maximum)
        # Both samples are settled: there is room for the other behind the own.
        for name in ("sample_draw", "sample_token", "sample_value"):
            getattr(self, name)[:, FIRINGS_SAMPLED:] = tables[name][:, :FIRINGS_SAMPLED]
        self._sampled = (self.sample_draw != NONE).sum(1)
        self.settle()
        self.tokens += counters["tokens"]
        self.firings += counters["firings"]
        self.masked.update(counters["masked"])
        self.l0_counts += torch.tensor(counters["l0_counts"], device=self.l0_counts.device)

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
