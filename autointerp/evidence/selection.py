"""Keeping the best windows of every feature: exact, bounded, and independent of order.

A selection keeps for each feature the `k` windows of highest priority. Priorities are integers;
ties go to the lower context, then the lower position. Of windows with equal tokens only the best
is kept. Because the result is a function of the set of candidates, batches may come in any size
and order and selections of disjoint contexts may be merged.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from autointerp.evidence.window import Kind, Split

NONE = -1  # the priority of an empty place; every real priority is >= 0


@dataclass(frozen=True)
class SelectionSpec:
    """Which windows to keep: `k` of a kind from the contexts of one split."""

    kind: Kind
    split: Split
    k: int


@dataclass(frozen=True)
class Candidates:
    """Windows offered to a selection, all tensors [n]; `row` is the feature's row."""

    row: Tensor
    priority: Tensor
    context: Tensor
    peak: Tensor  # position in the context
    start: Tensor  # position in the context
    text_hash: Tensor


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


class Selection:
    """The windows kept for one specification: tensors [features, k] and [features, k, length]."""

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

    def threshold(self) -> Tensor:
        """A candidate of lower priority than this cannot enter: int64 [features]."""
        return self.priority[:, -1]

    def merge(self, new: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        """Take in candidates whose windows have not been cut yet.

        Returns (source, row, place): indices of the candidates that were admitted and where their
        windows belong, which `put_windows` must fill before the next merge.
        """
        rows = torch.unique(new.row)
        k = self.spec.k
        old_row = rows.repeat_interleave(k)
        old_place = torch.arange(k, device=rows.device).repeat(len(rows))
        filled = self.priority[old_row, old_place] != NONE
        old_row, old_place = old_row[filled], old_place[filled]
        row = torch.cat([old_row, new.row])
        joined = {
            name: torch.cat([getattr(self, name)[old_row, old_place], getattr(new, name)])
            for name in ("priority", "context", "peak", "start", "text_hash")
        }
        order = lexicographic_order(
            row, joined["text_hash"], -joined["priority"], joined["context"]
        )
        order = order[starts_of_groups(row[order], joined["text_hash"][order])]
        order = order[
            lexicographic_order(row[order], -joined["priority"][order], joined["context"][order])
        ]
        place = rank_in_group(starts_of_groups(row[order]))
        order, place = order[place < k], place[place < k]
        kept_row = row[order]

        is_new = order >= len(old_row)
        old_source = order[~is_new]
        # Cut windows move with their metadata; gather before writing, rows overlap.
        moved = {
            name: getattr(self, name)[old_row[old_source], old_place[old_source]]
            for name in ("token_ids", "activations")
        }
        self.priority[rows] = NONE
        for name, values in joined.items():
            getattr(self, name)[kept_row, place] = values[order]
        for name, values in moved.items():
            getattr(self, name)[kept_row[~is_new], place[~is_new]] = values
        return order[is_new] - len(old_row), kept_row[is_new], place[is_new]

    def put_windows(
        self, row: Tensor, place: Tensor, token_ids: Tensor, activations: Tensor
    ) -> None:
        """Store the windows of admitted candidates: token_ids, activations [n, length]."""
        self.token_ids[row, place] = token_ids
        self.activations[row, place] = activations

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
