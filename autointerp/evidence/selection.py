"""Keeping the best windows of every feature: exact, bounded, and independent of order.

A selection keeps for each feature the windows of highest priority. Priorities are integers that
differ between a feature's contexts: a size with its context, or a draw of 63 bits. Of windows with
equal text keys only the best is kept. Because the result is a function of the set of candidates,
batches may come in any size and order and selections of disjoint contexts may be merged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from autointerp.evidence.window import Kind, Split
from autointerp.tensors.hashing import mix

NONE = -1  # the priority of an empty place; every real priority is >= 0
_MIN_MERGED = 4096
_WINDOW_DTYPES = (torch.int32, torch.float32)  # token ids and activations


@dataclass(frozen=True)
class SelectionSpec:
    """Which windows are asked for: `k` of a kind from the contexts of one split."""

    kind: Kind
    split: Split
    k: int


@dataclass(frozen=True)
class OfferedWindows:
    """Windows offered to a selection; tensors [n] and [n, length], `row` is the feature's row."""

    row: Tensor
    priority: Tensor
    context: Tensor
    peak: Tensor  # position in the context
    start: Tensor  # position in the context
    text_key: Tensor  # of windows with equal keys only the best is kept
    document: Tensor  # of its peak, or of its first token; -1 where unknown
    token_ids: Tensor  # int32 [n, length]
    activations: Tensor  # float32 [n, length]

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def empty(cls, n: int, length: int, device: torch.device) -> "OfferedWindows":
        """Room for n of them."""
        integers = [torch.empty(n, dtype=torch.int64, device=device) for _ in range(7)]
        windows = [torch.empty((n, length), dtype=t, device=device) for t in _WINDOW_DTYPES]
        return cls(*integers, *windows)


_FIELDS = tuple(f.name for f in fields(OfferedWindows))
_KEPT_FIELDS = _FIELDS[1:]  # in a selection's tables the row is the place


def lexicographic_order(*keys: Tensor) -> Tensor:
    """Indices that sort by the first key, ties by the second, and so on: [n]."""
    order = torch.arange(len(keys[0]), device=keys[0].device)
    for key in reversed(keys):
        order = order[key[order].argsort(stable=True)]
    return order


def starts_of_groups(*sorted_keys: Tensor) -> Tensor:
    """Where a run of equal keys begins: bool [n]."""
    first = torch.zeros(len(sorted_keys[0]), dtype=torch.bool, device=sorted_keys[0].device)
    first[:1] = True
    for key in sorted_keys:
        first[1:] |= key[1:] != key[:-1]
    return first


def rank_in_group(first: Tensor) -> Tensor:
    """Position within its run of every element, from where runs begin: int64 [n]."""
    index = torch.arange(len(first), device=first.device)
    return index - torch.where(first, index, 0).cummax(0).values


def window_bytes(length: int) -> int:
    """What one kept window takes: its place and text in int64, its tokens and activations."""
    return 6 * 8 + length * (4 + 4)


class Selection:
    """The best windows for one specification: tensors [features, places] and [features, places,
    length].

    What is offered is held back, in a store of its own, until it is worth a merge; `finish` merges
    the rest, `sort` also puts the windows in order.
    """

    def __init__(
        self, spec: SelectionSpec, places: int, features: int, length: int, device: torch.device
    ) -> None:
        """`places`: windows to keep of every feature, at least as many as are asked for."""
        shape = (features, places)

        def integers(fill: int) -> Tensor:
            return torch.full(shape, fill, dtype=torch.int64, device=device)

        self.spec = spec
        self.places = places
        self.priority = integers(NONE)
        self.context = integers(0)
        self.peak = integers(0)
        self.start = integers(0)
        self.text_key = integers(0)
        self.document = integers(NONE)
        self.repeats = 0  # windows that were left out for a better one with their key
        self.token_ids = torch.full((*shape, length), -1, dtype=torch.int32, device=device)
        self.activations = torch.zeros((*shape, length), dtype=torch.float32, device=device)
        # A merge sorts all that is kept: it pays when as much again has been offered.
        room = max(_MIN_MERGED, features * places)
        self._held = OfferedWindows.empty(room, length, device)
        self._held_windows = 0

    def tables(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in _KEPT_FIELDS}

    def threshold(self) -> Tensor:
        """A candidate of lower priority than this cannot enter: int64 [features]."""
        return self.priority.amin(1)

    def offer(self, new: OfferedWindows, index: Tensor) -> bool:
        """Take in the candidates at `index`; True where that has changed the threshold."""
        merged = False
        while len(index) > 0:
            begin = self._held_windows
            some, index = index[: len(self._held) - begin], index[len(self._held) - begin :]
            self._held_windows += len(some)
            for name in _FIELDS:
                held = getattr(self._held, name)[begin : self._held_windows]
                torch.index_select(getattr(new, name), 0, some, out=held)
            if self._held_windows == len(self._held):
                self.finish()
                merged = True
        return merged

    def merge(self, tables: Mapping[str, Tensor]) -> None:
        """Take in the tables of a selection of other contexts."""
        device = self.priority.device
        rows_at_once = max(1, _MIN_MERGED // self.places)
        for begin in range(0, len(self.priority), rows_at_once):
            part = {n: table[begin : begin + rows_at_once] for n, table in tables.items()}
            row, place = (part["priority"] != NONE).nonzero(as_tuple=True)
            kept = {name: table[row, place].to(device) for name, table in part.items()}
            self.offer(
                OfferedWindows(row=(row + begin).to(device), **kept),
                torch.arange(len(row), device=device),
            )
        self.finish()

    def finish(self) -> None:
        """Merge what is held back. What stays keeps its place; only what is new is copied."""
        count, self._held_windows = self._held_windows, 0
        if count == 0:
            return
        held_row = self._held.row[:count]
        present = torch.zeros(len(self.priority), dtype=torch.bool, device=held_row.device)
        present[held_row] = True
        rows, number = present.nonzero().flatten(), (present.cumsum(0) - 1)[held_row]
        places = rows.unsqueeze(1) * self.places + torch.arange(self.places, device=rows.device)
        old = (self.priority[rows] != NONE).flatten().nonzero().flatten()
        old_places = places.flatten()[old]

        def every(name: str) -> Tensor:
            return torch.cat([self._flat(name)[old_places], getattr(self._held, name)[:count]])

        row = torch.cat([torch.div(old, self.places, rounding_mode="floor"), number])
        order = lexicographic_order(row, -every("priority"))
        repeats = _repeats(row[order], every("text_key")[order])
        order = order[~repeats]
        self.repeats += int(repeats.sum())
        best = order[rank_in_group(starts_of_groups(row[order])) < self.places]
        free = torch.ones(places.shape, dtype=torch.bool, device=rows.device)
        free.view(-1)[old[best[best < len(old)]]] = False
        places_before = free.sum(1).cumsum(0) - free.sum(1)
        free_places = places[free]
        self._flat("priority")[free_places] = NONE
        new = best[best >= len(old)]
        rank = rank_in_group(starts_of_groups(row[new]))
        place = free_places[places_before[row[new]] + rank]
        for name in _KEPT_FIELDS:
            values = getattr(self._held, name).index_select(0, new - len(old))
            self._flat(name).index_copy_(0, place, values)

    def sort(self) -> None:
        """Merge what is held back and put every feature's windows in order, the best first."""
        self.finish()
        order = self.priority.argsort(1, descending=True)
        begins = torch.arange(len(order), device=order.device).unsqueeze(1) * self.places
        index = (begins + order).flatten()
        for name in _KEPT_FIELDS:
            flat = self._flat(name)
            flat.copy_(flat.index_select(0, index))

    def _flat(self, name: str) -> Tensor:
        """A table with its first two dimensions as one."""
        table: Tensor = getattr(self, name)
        return table.flatten(0, 1)


def _repeats(row: Tensor, text_key: Tensor) -> Tensor:
    """Which windows have the key of an earlier one of the same row: bool [n]."""
    both = text_key ^ mix(row)
    by_text = both.argsort(stable=True)
    first = starts_of_groups(both[by_text])
    repeats = torch.empty_like(first)
    repeats[by_text] = ~first
    return repeats
