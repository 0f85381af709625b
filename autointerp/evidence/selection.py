"""Keeping the best windows of every feature: exact, bounded, and independent of order.

A selection keeps for each feature the `k` windows of highest priority. Priorities are integers that
differ between a feature's contexts: a size with its context, or a draw of 63 bits. Of windows with
equal tokens only the best is kept. Because the result is a function of the set of candidates,
batches may come in any size and order and selections of disjoint contexts may be merged.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from autointerp.evidence.window import Kind, Split
from autointerp.hashing import mix

NONE = -1  # the priority of an empty place; every real priority is >= 0
_LEAST_MERGED = 4096


@dataclass(frozen=True)
class SelectionSpec:
    """Which windows to keep: `k` of a kind from the contexts of one split."""

    kind: Kind
    split: Split
    k: int


@dataclass(frozen=True)
class Candidates:
    """Windows offered to a selection; tensors [n] and [n, length], `row` is the feature's row."""

    row: Tensor
    priority: Tensor
    context: Tensor
    peak: Tensor  # position in the context
    start: Tensor  # position in the context
    text_hash: Tensor
    token_ids: Tensor  # int32 [n, length]
    activations: Tensor  # float32 [n, length]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Tensor) -> "Candidates":
        """Those at `index`: int64 [m]."""
        return Candidates(*(getattr(self, name)[index] for name in _FIELDS))


_FIELDS = tuple(f.name for f in fields(Candidates))
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
    return 5 * 8 + length * (4 + 4)


class Selection:
    """The windows kept for one specification: tensors [features, k] and [features, k, length].

    What is offered is held back until it is worth a merge; `finish` merges the rest.
    """

    def __init__(
        self, spec: SelectionSpec, features: int, length: int, device: torch.device
    ) -> None:
        shape = (features, spec.k)

        def integers(fill: int) -> Tensor:
            return torch.full(shape, fill, dtype=torch.int64, device=device)

        self.spec = spec
        self.priority = integers(NONE)
        self.context = integers(0)
        self.peak = integers(0)
        self.start = integers(0)
        self.text_hash = integers(0)
        self.token_ids = torch.full((*shape, length), -1, dtype=torch.int32, device=device)
        self.activations = torch.zeros((*shape, length), dtype=torch.float32, device=device)
        self._held: list[Candidates] = []
        self._held_windows = 0
        # A merge sorts all that is kept: it pays when as much again has been offered.
        self._worth_merging = max(_LEAST_MERGED, features * spec.k)

    def tables(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in _KEPT_FIELDS}

    def threshold(self) -> Tensor:
        """A candidate of lower priority than this cannot enter: int64 [features]."""
        return self.priority[:, -1]

    def offer(self, new: Candidates) -> bool:
        """Take in candidates; True where that has changed the threshold."""
        if len(new) == 0:
            return False
        self._held.append(new)
        self._held_windows += len(new)
        if self._held_windows < self._worth_merging:
            return False
        self.finish()
        return True

    def finish(self) -> None:
        """Merge what is held back."""
        if not self._held:
            return
        held, self._held, self._held_windows = self._held, [], 0

        def offered(name: str) -> Tensor:
            return torch.cat([getattr(candidates, name) for candidates in held])

        rows = torch.unique(offered("row"))
        old_row, old_place = (self.priority[rows] != NONE).nonzero(as_tuple=True)
        old_row = rows[old_row]

        def every(name: str) -> Tensor:
            return torch.cat([getattr(self, name)[old_row, old_place], offered(name)])

        row, priority = torch.cat([old_row, offered("row")]), every("priority")
        order = lexicographic_order(row, -priority)
        order = order[~_repeats(row[order], every("text_hash")[order])]
        place = rank_in_group(starts_of_groups(row[order]))
        order, place = order[place < self.spec.k], place[place < self.spec.k]
        row = row[order]
        for name in _KEPT_FIELDS[::-1]:  # one at a time for the memory, the priority last
            values = every(name)[order]
            if name == "priority":
                self.priority[rows] = NONE
            getattr(self, name)[row, place] = values

    def drop_texts_of(self, other: "Selection") -> int:
        """Remove windows whose tokens also stand in `other`; returns how many.

        So that a text that recurs in the corpus is not both shown to the labeler and scored.
        """
        same = (self.text_hash.unsqueeze(2) == other.text_hash.unsqueeze(1)) & (
            other.priority.unsqueeze(1) != NONE
        )
        shared = same.any(2) & (self.priority != NONE)
        self.priority[shared] = NONE
        return int(shared.sum())


def _repeats(row: Tensor, text_hash: Tensor) -> Tensor:
    """Which windows have the tokens of an earlier one of the same row: bool [n]."""
    both = text_hash ^ mix(row)
    by_text = both.argsort(stable=True)
    first = starts_of_groups(both[by_text])
    repeats = torch.empty_like(first)
    repeats[by_text] = ~first
    return repeats
