"""A batch as windows are cut from it: its contexts, its firings, and places in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from autointerp.activations.activation_batch import VALID, TokenBatch
from autointerp.activations.units import BLOCK
from autointerp.evidence.repeats import Repeats, text_keys
from autointerp.evidence.selection import NONE, OfferedWindows
from autointerp.tensors.firings import Firings
from autointerp.tensors.hashing import hash_integers, split_of_contexts, split_of_units

SplitBy = Literal["document", "context"]
_POSITION_BITS = 32
_START_SALT = 0x57A
LAST_POSITION = (1 << _POSITION_BITS) - 1


@dataclass(frozen=True)
class ContextRows:
    """A batch's contexts; tensors [contexts, …]. `window`: tokens of a window.

    Windows show the longest part of a context that lies on one side of the split.
    """

    window: int
    index: Tensor  # [contexts], in the cache
    split: Tensor  # [contexts]
    has_text: Tensor  # bool [contexts]: not all padding
    token_ids: Tensor  # int32 [contexts, length], -1 where not valid or not to be shown
    low: Tensor  # [contexts], first position to be shown
    high: Tensor  # [contexts], one past the last position to be shown
    text_key: Tensor  # [contexts, starts of windows]
    document: Tensor | None  # int32 [contexts, length], None where unknown
    is_shown: Tensor | None  # bool [contexts, length], None where all that is valid is

    def start_around(self, peak: Tensor, context: Tensor, before: int) -> Tensor:
        """Of windows with `before` tokens ahead of their peak, where the contexts have them."""
        start = torch.minimum(peak - before, self.high[context] - self.window)
        return self.within(torch.maximum(start, self.low[context]))

    def drawn(self, seed: int, before: int) -> Tensor:
        """Where the one window of each context begins, around a token its hash draws: [contexts].

        Cut as those around a firing are, it lies at a context's beginning or end as often as they
        do. Were its start drawn, that alone would tell windows in which a feature fires from
        others wherever a context's ends show.
        """
        token = self.low + hash_integers(seed ^ _START_SALT, self.index) % (
            self.high - self.low
        ).clamp(min=1)
        return self.start_around(token, torch.arange(len(token), device=token.device), before)

    def document_at(self, context: Tensor, position: Tensor) -> Tensor:
        """The number of a token's document, -1 where unknown; of those to be shown, the nearest."""
        if self.document is None:
            return torch.full_like(context, NONE)
        position = torch.minimum(torch.maximum(position, self.low[context]), self.high[context] - 1)
        return self.document[context, position].long()

    def within(self, start: Tensor) -> Tensor:
        return start.clamp(0, self.token_ids.shape[1] - self.window)


def contexts_of(
    batch: TokenBatch, window: int, seed: int, repeats: Repeats, by: SplitBy
) -> ContextRows:
    contexts = len(batch.token_ids)
    valid = (batch.mask & VALID) != 0
    index = batch.first_context + torch.arange(contexts, device=valid.device)
    split, is_shown = split_of_contexts(index, seed), None
    if by == "document":
        unit = index.unsqueeze(1) // BLOCK if batch.unit is None else batch.unit
        split, is_shown = _sides(split_of_units(unit, seed), valid)
    shown = valid if is_shown is None else is_shown
    token_ids = torch.where(shown, batch.token_ids, -1)
    return ContextRows(
        window,
        index,
        split,
        shown.any(1),
        token_ids,
        shown.int().argmax(1),
        shown.shape[1] - shown.flip(1).int().argmax(1),
        text_keys(token_ids, batch.first_context, window, repeats),
        batch.document,
        is_shown,
    )


def _sides(side: Tensor, valid: Tensor) -> tuple[Tensor, Tensor | None]:
    """The side of each context's longest part that lies on one side, and the tokens of that part.

    side: [contexts, length or 1], valid: bool [contexts, length] → [contexts]; bool [contexts,
    length], None where every context lies on one side. Of parts of one length the first is meant.
    """
    if side.shape[1] == 1:
        return side.squeeze(1), None
    side = torch.where(valid, side, NONE)
    position = torch.arange(side.shape[1], device=side.device)
    begins = torch.ones_like(valid)
    begins[:, 1:] = side[:, 1:] != side[:, :-1]
    begin = torch.where(begins, position, 0).cummax(1).values
    size = torch.where(valid, position - begin + 1, 0)
    end = size.argmax(1) + 1  # the first of the longest
    longest = size.gather(1, end.unsqueeze(1) - 1).squeeze(1)
    is_shown = valid & (position < end.unsqueeze(1)) & (position >= (end - longest).unsqueeze(1))
    of_contexts = side.gather(1, end.unsqueeze(1) - 1).squeeze(1).clamp(min=0)
    return of_contexts, None if bool((is_shown == valid).all()) else is_shown


@dataclass(frozen=True)
class FoundWindows:
    """Firings of some rows on tokens that count: tensors [firings], ordered by token.

    Windows are only cut around those that are shown.
    """

    rows: int
    row: Tensor
    context: Tensor  # in the batch
    position: Tensor
    value: Tensor  # float32
    cell: Tensor  # context × rows + row
    is_shown: Tensor | None = None  # bool, None where all are

    def __len__(self) -> int:
        return len(self.row)


def found_firings(
    firings: Firings,
    eligible: Tensor,
    rows: int,
    row_of: Tensor | None,
    is_shown: Tensor | None = None,
) -> FoundWindows:
    """Those on eligible tokens ([contexts, length]) of features that have a row in `row_of`.

    row_of: int64 [features], -1 for none; None where every feature is its own row. is_shown: bool
    [contexts, length], None where all tokens are.
    """
    token, row, value = firings.token, firings.feature, firings.value
    counts = eligible.flatten().index_select(0, token)
    if row_of is not None:
        row = row_of.index_select(0, row)
        counts &= row >= 0
    kept = counts.nonzero().flatten()
    token, row, value = (column.index_select(0, kept) for column in (token, row, value))
    length = eligible.shape[1]
    context = torch.div(token, length, rounding_mode="floor")
    position = token - context * length
    shown = None if is_shown is None else is_shown.flatten().index_select(0, token)
    return FoundWindows(rows, row, context, position, value, context * rows + row, shown)


def strongest_firings(found: FoundWindows, contexts: int) -> Tensor:
    """The strongest firing of every row in every context, NONE where it is silent.

    int64 [contexts, rows]: the value's bits over what is left to the last position, so that of
    equal ones it is the first.
    """
    bits = found.value.view(torch.int32).long() << _POSITION_BITS
    bits += LAST_POSITION - found.position
    if found.is_shown is not None:
        bits.masked_fill_(~found.is_shown, NONE)
    cells = contexts * found.rows
    best = torch.full((cells,), NONE, dtype=torch.int64, device=bits.device)
    return best.scatter_reduce_(0, found.cell, bits, "amax").view(contexts, found.rows)


@dataclass(frozen=True)
class Places:
    """Where windows are to be cut, one a row and context: tensors [windows]."""

    row: Tensor
    context: Tensor  # in the batch
    peak: Tensor
    start: Tensor
    priority: Tensor

    def take(self, index: Tensor) -> "Places":
        columns: Sequence[Tensor] = (self.row, self.context, self.peak, self.start, self.priority)
        return Places(*(column[index] for column in columns))


def cut(places: Places, seen: ContextRows, found: FoundWindows | None) -> OfferedWindows:
    """The windows at the places, with the activations of `found` where it is given."""
    context, start = places.context, places.start
    first = context * seen.token_ids.shape[1] + start
    windows_at = (seen.token_ids.numel() - seen.window + 1, seen.window)
    # A view of all windows there are: picking rows of it is many times as fast as indexing.
    token_ids = seen.token_ids.as_strided(windows_at, (1, 1)).index_select(0, first)
    activations = torch.zeros(token_ids.shape, device=token_ids.device)
    if found is not None:
        window, offset, firing = firings_within(places, seen, found)
        activations[window, offset] = found.value[firing]
    return OfferedWindows(
        places.row,
        places.priority,
        seen.index[context],
        places.peak,
        start,
        seen.text_key[context, start],
        seen.document_at(context, places.peak),
        token_ids,
        activations,
    )


def firings_within(
    places: Places, seen: ContextRows, found: FoundWindows
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows' own firings in their windows.

    Each with the number of its window, its place there, and its number in `found`.
    """
    device = places.row.device
    window_of = torch.full((len(seen.index) * found.rows,), NONE, dtype=torch.int64, device=device)
    windows = torch.arange(len(places.row), device=device)
    window_of[places.context * found.rows + places.row] = windows
    window = window_of.index_select(0, found.cell)
    hit = (window != NONE).nonzero().flatten()
    window = window[hit]
    offset = found.position[hit] - places.start[window]
    inside = (offset >= 0) & (offset < seen.window)
    if found.is_shown is not None:
        inside &= found.is_shown[hit]
    inside = inside.nonzero().flatten()
    return window[inside], offset[inside], hit[inside]
